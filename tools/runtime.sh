#!/usr/bin/env bash
# Puts the run-time libraries of the CPU engines into .runtime/ at the root of the source tree:
# OpenVINO and ONNX Runtime, from their Python wheels, of which only the libraries are kept. Quick
# when they are there. Needs python3 with pip, or with venv.
# Usage: runtime.sh [FOLDER [ENGINE...]]    openvino and onnxruntime by default; only if named:
#     tensorrt-rtx (for RTX GPUs, 240 MB), and deepstream (NVIDIA's metadata and surface libraries
#     of DeepStream 9.0 for x86-64, to test with)
set -euo pipefail

OPENVINO=2026.4.1
ONNXRUNTIME=1.32.0
TENSORRT_RTX=1.7.1.116
DEEPSTREAM=9.0.2
# CPython whose wheels are taken: the libraries inside do not depend on it.
PYTHON=3.12

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
runtime=${1:-$root/.runtime}
mkdir -p "$runtime"

pip() {
    local python=python3
    if ! python3 -m pip --version >/dev/null 2>&1; then
        python=$runtime/pip/bin/python
        if ! [ -x "$python" ]; then
            echo "runtime: python3 has no pip, making it one of its own" >&2
            rm -rf "$runtime/pip"
            python3 -m venv "$runtime/pip" || {
                echo "runtime: install pip for python3 (Debian, Ubuntu: apt install python3-pip or python3-venv) and run this again" >&2
                return 1
            }
        fi
    fi
    "$python" -m pip --disable-pip-version-check "$@"
}

# fetch PACKAGE VERSION FOLDER-IN-WHEEL: unpacks that folder's files into .runtime/PACKAGE, whole or
# not at all.
fetch() {
    local package=$1 version=$2 inner=$3 target=$runtime/$1
    [ "$(cat "$target/VERSION" 2>/dev/null)" = "$version" ] && return
    echo "runtime: fetching $package $version"
    local work
    work=$(mktemp -d "$runtime/.fetch.XXXXXX")
    # shellcheck disable=SC2064  # The folder of this very call.
    trap "rm -rf '$work'" EXIT
    # pip takes the named platforms alone, not older ones with them: these are all that the wheels
    # of both have been built for.
    local platforms=()
    for glibc in 17 27 28 34 35; do platforms+=(--platform "manylinux_2_${glibc}_$(uname -m)"); done
    platforms+=(--platform "manylinux2014_$(uname -m)")
    pip download --quiet --no-deps --only-binary=:all: --python-version "$PYTHON" \
        --implementation cp "${platforms[@]}" \
        --require-hashes --requirement "$root/tools/runtime-$package.txt" --dest "$work"
    python3 - "$work" "$inner" <<'PYTHON'
import pathlib, sys, zipfile

work, inner = pathlib.Path(sys.argv[1]), sys.argv[2]
# Parts that are of no use here: other devices, other model formats.
unused = ("intel_gpu", "intel_npu", "paddle", "pytorch", "tensorflow", "jax", "gguf", "tbbmalloc_proxy")
with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
    for name in wheel.namelist():
        path = pathlib.PurePosixPath(name)
        if str(path.parent) == inner and ".so" in path.name and "cpython" not in path.name and not any(u in path.name for u in unused):
            (work / "lib").mkdir(exist_ok=True)
            (work / "lib" / path.name).write_bytes(wheel.read(name))
        # The licences go with the libraries.
        elif path.name in ("LICENSE", "LICENSE.txt", "THIRD_PARTY_NOTICES", "ThirdPartyNotices.txt") or path.name.endswith("third-party-programs.txt"):
            (work / "lib" / "licences").mkdir(parents=True, exist_ok=True)
            (work / "lib" / "licences" / path.name).write_bytes(wheel.read(name))
PYTHON
    # The wheels have versioned names alone; libraries are opened by their plain ones.
    (cd "$work/lib" && for file in lib"${package//-/_}"*.so.*; do [ ! -e "$file" ] ||
        [ -e "${file%%.so.*}.so" ] || ln -s "$file" "${file%%.so.*}.so"; done)
    echo "$version" >"$work/lib/VERSION"
    rm -rf "$target"
    mv "$work/lib" "$target"
    rm -rf "$work"
    echo "runtime: $package $version is in $target"
}

# One at a time: a second call waits, and finds the work done.
exec 9>"$runtime/.lock"
if command -v flock >/dev/null; then flock 9; fi

shift || true
for engine in "${@:-cpu}"; do
    case $engine in
        cpu)
            fetch openvino "$OPENVINO" openvino/libs
            fetch onnxruntime "$ONNXRUNTIME" onnxruntime/capi
            ;;
        openvino) fetch openvino "$OPENVINO" openvino/libs ;;
        onnxruntime) fetch onnxruntime "$ONNXRUNTIME" onnxruntime/capi ;;
        tensorrt-rtx) fetch tensorrt-rtx "$TENSORRT_RTX" tensorrt_rtx_libs ;;
        deepstream) fetch deepstream "$DEEPSTREAM" nvidia/deepstream_videodecode/_libs ;;
        *) echo "runtime: no engine is called $engine: openvino, onnxruntime, tensorrt-rtx, deepstream, or cpu for the first two" >&2; exit 2 ;;
    esac
done
