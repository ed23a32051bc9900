#!/usr/bin/env bash
# Puts NVIDIA's runtime compiler into .runtime/nvrtc-VERSION/, twice: for the tests that compile the
# GPU's kernels. No GPU is needed. Quick when it is there. Only for x86-64; elsewhere those tests
# are skipped.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
runtime=${1:-$root/.runtime}
[ "$(uname -m)" = x86_64 ] || exit 0
mkdir -p "$runtime"

exec 9>"$runtime/.nvrtc.lock"
if command -v flock >/dev/null; then flock 9; fi

python=python3
if ! python3 -m pip --version >/dev/null 2>&1; then
    python=$runtime/pip/bin/python
    [ -x "$python" ] || python3 -m venv "$runtime/pip"
fi

grep -v '^#' "$root/tools/nvrtc.txt" | while read -r requirement; do
    version=${requirement#*==} version=${version%% *}
    target=$runtime/nvrtc-${version%.*}
    [ "$(cat "$target/VERSION" 2>/dev/null)" = "$version" ] && continue
    echo "nvrtc: fetching $version"
    work=$(mktemp -d "$runtime/.fetch.XXXXXX")
    echo "$requirement" >"$work/requirement.txt"
    "$python" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: \
        --platform manylinux1_x86_64 \
        --platform manylinux2010_x86_64 --require-hashes --requirement "$work/requirement.txt" \
        --dest "$work"
    "$python" - "$work" <<'PYTHON'
import pathlib, sys, zipfile

work = pathlib.Path(sys.argv[1])
(work / "lib").mkdir()
with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
    for name in wheel.namelist():
        path = pathlib.PurePosixPath(name)
        if ".so." in path.name and ".alt." not in path.name:
            (work / "lib" / path.name).write_bytes(wheel.read(name))
PYTHON
    echo "$version" >"$work/lib/VERSION"
    rm -rf "$target"
    mv "$work/lib" "$target"
    rm -rf "$work"
done
