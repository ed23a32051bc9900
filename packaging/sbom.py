#!/usr/bin/env python3
"""Writes what a package is made of, as CycloneDX 1.5: crates with the digests of Cargo.lock,
libraries from wheels, models.

Usage: sbom.py crates|wheels NAME VERSION [FOLDER] >sbom.cdx.json    FOLDER: where the wheels'
libraries lie
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOTS = ("gst-plugin-vehiclecount", "vehicle-count")


def digests():
    """SHA-256 by crate and version, from Cargo.lock."""
    found = {}
    for block in (ROOT / "Cargo.lock").read_text().split("[[package]]")[1:]:
        fields = dict(re.findall(r'^(name|version|checksum) = "(.*)"$', block, re.M))
        found[fields["name"], fields["version"]] = fields.get("checksum")
    return found


def crates():
    """The crates that are linked in or run while building, and who needs whom. Tests' crates are
    not part of a package."""
    call = [
        "cargo",
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--manifest-path",
        str(ROOT / "Cargo.toml"),
    ]
    host = re.search(
        r"^host: (.*)$", subprocess.check_output(["rustc", "-vV"], text=True), re.M
    ).group(1)
    metadata = json.loads(subprocess.check_output([*call, "--filter-platform", host]))
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    known = digests()

    def needs(crate):
        return sorted(
            dep["pkg"]
            for dep in nodes[crate]["deps"]
            if any(kind["kind"] != "dev" for kind in dep["dep_kinds"])
        )

    def purl(crate):
        return f"pkg:cargo/{packages[crate]['name']}@{packages[crate]['version']}"

    waiting = [crate for crate, package in packages.items() if package["name"] in ROOTS]
    seen = set(waiting)
    while waiting:
        for crate in needs(waiting.pop()):
            if crate not in seen:
                seen.add(crate)
                waiting.append(crate)
    components, graph = [], []
    for crate in sorted(seen, key=purl):
        package = packages[crate]
        component = {
            "type": "library",
            "bom-ref": purl(crate),
            "name": package["name"],
            "version": package["version"],
            "purl": purl(crate),
        }
        if package.get("license"):
            # Older crates write "MIT/Apache-2.0".
            component["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", package["license"])}]
        digest = known.get((package["name"], package["version"]))
        if digest:
            component["hashes"] = [{"alg": "SHA-256", "content": digest}]
        components.append(component)
        graph.append(
            {"ref": purl(crate), "dependsOn": sorted({purl(need) for need in needs(crate)})}
        )
    return components + models(), graph


def models():
    """The models that ship, by their manifests."""
    components = []
    for path in sorted((ROOT / "engines" / "models").glob("*.json")):
        manifest = json.loads(path.read_text())
        for file in manifest["files"] if "input" in manifest else []:
            components.append(
                {
                    "type": "machine-learning-model",
                    "bom-ref": f"model/{file['file']}",
                    "name": file["file"],
                    "version": manifest["version"],
                    "hashes": [{"alg": "SHA-256", "content": file["sha256"]}],
                    "licenses": [{"license": {"name": manifest["licence"]}}],
                }
            )
    return components


def wheels(folder):
    """The libraries that tools/runtime.sh has taken from pinned wheels into FOLDER, and those that
    lie inside the wheels."""
    licences = {"openvino": "Apache-2.0", "onnxruntime": "MIT"}
    components, graph = [], []
    for name, licence in licences.items():
        pinned = (ROOT / "tools" / f"runtime-{name}.txt").read_text()
        version = re.search(rf"^{name}==([^ \\]+)", pinned, re.M).group(1)
        if folder and (folder / name / "VERSION").read_text().strip() != version:
            sys.exit(
                f"sbom.py: {folder / name} is not of version {version}, which tools/runtime-{name}.txt names"
            )
        purl = f"pkg:pypi/{name}@{version}"
        components.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": version,
                "purl": purl,
                "licenses": [{"license": {"id": licence}}],
            }
        )
        inside = list(parts(folder / name)) if folder else []
        components += inside
        graph.append({"ref": purl, "dependsOn": [part["bom-ref"] for part in inside]})
    return components, graph


def parts(folder):
    """Libraries of others in a wheel's folder, by the version that each one says of itself. What is
    linked in has its licence beside it."""
    for file, name, licence, pattern in (
        ("libtbb.so.*", "onetbb", "Apache-2.0", rb"oneTBB: VERSION\s+([\d.]+)"),
        ("libhwloc.so.*", "hwloc", "BSD-3-Clause", rb"\x00(\d+\.\d+\.\d+[\w.-]*)\x00"),
    ):
        for path in folder.glob(file):
            version = re.search(pattern, path.read_bytes())
            version = version.group(1).decode() if version else path.name.split(".so.")[1]
            purl = f"pkg:generic/{name}@{version}"
            yield {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": version,
                "purl": purl,
                "licenses": [{"license": {"id": licence}}],
            }


def main():
    what, name, version, *folder = sys.argv[1:]
    components, graph = (
        crates() if what == "crates" else wheels(pathlib.Path(*folder) if folder else None)
    )
    root = {
        "type": "application",
        "bom-ref": name,
        "name": name,
        "version": version,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    tops = [f"pkg:cargo/{top}@" for top in ROOTS]
    starts = [
        c["bom-ref"]
        for c in components
        if what == "wheels" or any(c["bom-ref"].startswith(top) for top in tops)
    ]
    json.dump(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {"component": root},
            "components": components,
            "dependencies": [{"ref": name, "dependsOn": starts}, *graph],
        },
        sys.stdout,
        indent=1,
    )
    print()


main()
