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
# What cannot be broken: addresses, commands and code, table rows, headings and images of Markdown.
WHOLE = re.compile(r"https?://|`[^`]{60,}`|^[/!#]*( {4}|\s*(\||#+ |!\[|\[!))")


def widths():
    """Comments and documents that are wider than `WIDTH` columns. rustfmt and ruff see to code."""
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        begins = PROSE.get(pathlib.Path(name).suffix)
        if begins is None or not (ROOT / name).is_file():
            continue
        fence = False
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            prose = re.match(begins, line)
            if not prose or len(line) <= WIDTH and not line.lstrip("/! ").startswith("```"):
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
