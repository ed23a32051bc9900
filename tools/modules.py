#!/usr/bin/env python3
"""Which module of a Rust crate knows which, and where they know each other in a circle.

    tools/modules.py [FOLDER ...]        by default core/src and gst-plugin/src

A module is a file. It knows another one where a path in its code (`use`, `crate::`, `super::`)
leads there. Files that only gather (`mod.rs` and `lib.rs`) are looked through: a name that one of
them re-exports counts as the file that defines it. Code of tests is left out. A file and the files
that it declares (`mod.rs` and its parts) may know each other, and so may the files of one element
(`imp.rs` with its parts), as everywhere in GStreamer: `--strict` reports these, too.
"""

import argparse
import re
import sys
from pathlib import Path

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
TESTS = re.compile(r"#\[cfg\(test\)\]\s*mod \w+ \{.*\Z", re.S)
USE = re.compile(r"\b(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);")
PATH = re.compile(r"\b(?:crate|super|self)(?:::\w+)+")


def leaves(tree, head=()):
    """The paths of a `use` tree, each with the name under which it is known."""
    tree = tree.strip()
    brace = tree.find("{")
    if brace < 0:
        path, _, name = tree.partition(" as ")
        parts = head + tuple(part.strip() for part in path.split("::"))
        parts = parts[:-1] if parts[-1] == "self" else parts
        yield parts, name.strip() or parts[-1]
        return
    head += tuple(part.strip() for part in tree[:brace].split("::") if part.strip())
    depth, begin, inner = 0, 0, tree[brace + 1 : tree.rindex("}")]
    for at, character in enumerate(inner + ","):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            if inner[begin:at].strip():
                yield from leaves(inner[begin:at], head)
            begin = at + 1


class Crate:
    """The modules of a folder by their paths."""

    def __init__(self, folder):
        self.files = {}
        for file in sorted(folder.rglob("*.rs")):
            parts = file.relative_to(folder).with_suffix("").parts
            if parts[-1] in ("mod", "lib", "main"):
                parts = parts[:-1]
            text = TESTS.sub("", COMMENT.sub("", file.read_text()))
            self.files[parts] = text
        self.exports = {}
        for module, text in self.files.items():
            for public, tree in USE.findall(text):
                if public:
                    for path, name in leaves(tree):
                        self.exports[module + (name,)] = self.absolute(module, path)

    def absolute(self, module, path):
        """`path`, seen from `module`, from the crate on; `None` where it leads out of the crate."""
        if path[0] == "crate":
            return path[1:]
        if path[0] in ("super", "self"):
            while path and path[0] in ("super", "self"):
                module = module[:-1] if path[0] == "super" else module
                path = path[1:]
            return module + path
        return module + path if module + path[:1] in self.files else None

    def target(self, path, seen=()):
        """The file that defines what `path` names."""
        for length in range(len(path), -1, -1):
            named = path[:length]
            if length and named in self.exports and named not in seen:
                exported = self.exports[named]
                return self.target(exported, seen + (named,)) if exported is not None else None
            if named in self.files:
                return named
        return None

    def edges(self):
        """Pairs of modules, the first of which knows the second."""
        found = set()
        for module, text in self.files.items():
            paths = [
                path for public, tree in USE.findall(text) if not public for path, _ in leaves(tree)
            ]
            paths += [tuple(path.split("::")) for path in PATH.findall(USE.sub("", text))]
            for path in paths:
                whole = self.absolute(module, path)
                target = None if whole is None else self.target(whole)
                if target is not None and target != module:
                    found.add((module, target))
        return found


def circles(edges):
    """Sets of modules each of which leads to each other one (Tarjan)."""
    graph = {}
    for one, other in edges:
        graph.setdefault(one, []).append(other)
        graph.setdefault(other, [])
    index, low, stack, result = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                result.append(sorted(stack[at:]))
            del stack[at:]

    for node in graph:
        if node not in index:
            visit(node)
    return result


def is_family(module, other):
    """Whether one of them declares the other, or both are parts of one element."""
    return module == other[:-1] or other == module[:-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folders", nargs="*", type=Path, default=[Path("core/src"), Path("gst-plugin/src")]
    )
    parser.add_argument("--edges", action="store_true", help="list who knows whom")
    parser.add_argument(
        "--strict", action="store_true", help="report the files of one element, too"
    )
    options = parser.parse_args()
    count = 0
    for folder in options.folders:
        crate = Crate(folder)
        edges = crate.edges()
        elements = {module[:-1] for module in crate.files if module[-1:] == ("imp",)}

        def name(module):
            return "::".join(module) or "(root)"

        if options.edges:
            for one in sorted({one for one, _ in edges}):
                others = sorted(name(other) for module, other in edges if module == one)
                print(f"{folder}: {name(one)} -> {', '.join(others)}")
        if not options.strict:
            edges = {
                (one, other)
                for one, other in edges
                if not is_family(one, other)
                and not (one[:-1] == other[:-1] and one[:-1] in elements)
            }
        for circle in circles(edges):
            count += 1
            print(f"{folder}: a circle of {', '.join(map(name, circle))}")
        print(f"{folder}: {len(crate.files)} modules, {len(edges)} times one knows another")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
