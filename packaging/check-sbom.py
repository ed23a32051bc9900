#!/usr/bin/env python3
"""Checks lists of components: each is CycloneDX 1.5, every component has a version and a licence,
and these are among them.

Usage: check-sbom.py NAME[@VERSION]... -- FILE...    with the Python packages of
tools/requirements-lint.txt
"""

import json
import pathlib
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def wrong(wanted, paths):
    """What is wrong with the lists."""
    found = set()
    for path in paths:
        text = pathlib.Path(path).read_text()
        error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
        if error:
            yield f"{path}: {error}"
            continue
        for component in json.loads(text)["components"]:
            found |= {component["name"], f"{component['name']}@{component['version']}"}
            for field in ("version", "licenses"):
                if not component.get(field):
                    yield f"{path}: {component['name']} has no {field}"
    for name in wanted:
        if name not in found:
            yield f"{name} is in none of {', '.join(paths)}"
    print(
        f"          {sum('@' in name for name in found)} components listed, with versions and licences"
    )


border = sys.argv.index("--")
complaints = list(wrong(sys.argv[1:border], sys.argv[border + 1 :]))
print("\n".join(complaints), file=sys.stderr, end="\n" if complaints else "")
sys.exit(bool(complaints))
