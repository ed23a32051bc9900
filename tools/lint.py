#!/usr/bin/env python3
"""Checks what no other linter does.

The width of lines, compose.yml against the Compose specification, and the lists of components
against CycloneDX 1.5.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

import compose_spec
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent


def compose():
    """What is wrong with compose.yml."""
    text = (ROOT / "compose.yml").read_text()
    try:
        compose_spec.PyOptions(apply_merge=True).from_yaml(text)
    except Exception as error:  # Whatever the parser raises is what is wrong.
        yield f"compose.yml: {error}"
        return
    # The parser does not look at what names stand for.
    file = yaml.safe_load(text)
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    for name, service in file["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source not in file["volumes"]:
                yield f"compose.yml: {name}: no volume is called {source}"
        for needed in service.get("depends_on", {}):
            if needed not in file["services"]:
                yield f"compose.yml: {name}: no service is called {needed}"
        target = service.get("build", {}).get("target")
        if target and f" AS {target}\n" not in dockerfile:
            yield f"compose.yml: {name}: docker/Dockerfile has no target {target}"
        if not service.get("read_only"):
            yield f"compose.yml: {name}: its root is not read-only"


WIDTH = 100
PROSE = {".md": r"", ".rs": r"\s*//[/!]?", ".py": r"\s*#", ".sh": r"\s*#", ".toml": r"\s*#"}
CODE = {".rs", ".py", ".sh", ".c", ".h", ".cpp", ".cu", ".build"}
# In code, a text in quotes or a word that alone takes half a line stays in one piece.
LITERAL = re.compile(r"""(["'`])(?:\\.|(?!\1).){50,}\1?|\S{50,}|r#".{50,}""")
# In prose, what cannot be broken: addresses, commands and code, table rows, headings and images.
WHOLE = re.compile(r"https?://|`[^`]{60,}`|^[/!#]*( {4}|\s*(\||#+ |!\[|\[!))")


def texts(suffix, lines):
    """The numbers of the lines that continue a text of several lines: JSON, SQL, a pipeline."""
    end = None
    for number, line in enumerate(lines, 1):
        # Quotes that a text has in it, and whole texts, begin none.
        bare = re.sub(r'r#".*?"#|\\"|\'"\'|(?<!:)//.*', "", line) if suffix == ".rs" else line
        if end:
            yield number
            end = None if re.search(end, bare) else end
        elif suffix == ".rs" and 'r#"' in bare:
            yield number
            end = '"#'
        elif suffix == ".rs" and bare.count('"') % 2:
            end = '"'
        elif suffix == ".py" and line.count('"""') == 1:
            end = '"""'
        elif suffix == ".sh" and (word := re.search(r"<<-?\s*['\"]?(\w+)", line)):
            end = rf"^\s*{word[1]}$"


def widths():
    """Lines that are wider than `WIDTH` columns: documents, comments and code."""
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        suffix = ".sh" if name == "run" else path.suffix
        begins = PROSE.get(suffix, "(?!)")
        if suffix not in PROSE.keys() | CODE or not path.is_file():
            continue
        fence = False
        lines = path.read_text().splitlines()
        inside = set(texts(suffix, lines)) if suffix in CODE else ()
        for number, line in enumerate(lines, 1):
            prose = re.match(begins, line)
            if not prose:
                whole = number in inside or suffix not in CODE or LITERAL.search(line)
                if len(line) > WIDTH and not whole:
                    yield f"{name}:{number}: {len(line)} columns; break it at {WIDTH}"
                continue
            if len(line) <= WIDTH and not line.lstrip("/! ").startswith("```"):
                continue
            if line.lstrip("/! ").startswith("```"):
                fence = not fence
            elif not fence and not WHOLE.search(line[prose.end() :]):
                yield f"{name}:{number}: {len(line)} columns; break it at {WIDTH}"


def components():
    """What is wrong with the lists that packages and images carry."""
    with tempfile.TemporaryDirectory() as folder:
        lists = []
        for name, command in {
            "crates": [sys.executable, ROOT / "packaging" / "sbom.py", "crates", "lint", "0"],
            "wheels": [sys.executable, ROOT / "packaging" / "sbom.py", "wheels", "lint", "0"],
            # Of this machine, as if it were an image.
            "image": [ROOT / "docker" / "list-image.sh"],
        }.items():
            lists.append(pathlib.Path(folder, name))
            lists[-1].write_bytes(subprocess.check_output(command))
        names = ["gstreamer", "openvino", "onnxruntime", "mobilenetv3-large-int8.onnx", "libc6"]
        check = [sys.executable, ROOT / "packaging" / "check-sbom.py", *names, "--", *lists]
        done = subprocess.run(check, capture_output=True, text=True, check=False)
        if done.returncode:
            yield done.stderr.strip()


wrong = [*widths(), *compose(), *components()]
print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
sys.exit(bool(wrong))
