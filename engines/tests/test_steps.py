"""Each step of the chain is read by itself: what several of them need is in `vcount`."""

import ast
import pathlib

STEPS = sorted(pathlib.Path(__file__).parents[1].glob("*.py"))


def imported(path):
    """The top-level names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def test_no_step_imports_another_one():
    steps = {path.stem for path in STEPS}
    assert "train" in steps and "export" in steps
    wrong = {path.name: sorted(steps & set(imported(path))) for path in STEPS}
    assert not {name: found for name, found in wrong.items() if found}
