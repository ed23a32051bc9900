#!/usr/bin/env bash
# Puts what tests/gpu/check.sh needs on a bare machine into a folder, in parts, no file above
# 64 MiB: the program, the models, the scripts, and
#   TENSORRT=FOLDER  the libraries of TensorRT that lie there: libnvinfer*, libnvonnxparser*
#   WHEELS=FOLDER    the Python wheels that lie there: onnxruntime-gpu, numpy, and what they need of
#                    CUDA
# Usage: pack.sh FOLDER
set -euo pipefail
if [ $# -ne 1 ]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../..
to=$1
program=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/release/examples/gpu_check
if [ ! -e "$program" ]; then
    echo "pack: $program is not there: cargo build --release -p vehiclecount-core --example gpu_check" >&2
    exit 1
fi
mkdir -p "$to/models"
install -m 755 "$program" "$to/gpu_check"
strip "$to/gpu_check"
install -m 755 "$here/check.sh" "$to/"
install -m 644 "$here/onnxruntime_cuda.py" "$to/"
for file in "$root"/engines/models/*; do
    case $file in
        *.onnx | *.json | *.png) install -m 644 "$file" "$to/models/" ;;
    esac
done
rm -f "$to"/*.part-* "$to"/*.whl "$to"/runtime.tar
if [ -n "${TENSORRT:-}" ]; then
    # Links are followed once: a file for each name that is opened.
    (cd "$TENSORRT" &&
        find . -maxdepth 1 \( -name 'libnvinfer*.so.[0-9]*' -o \
        -name 'libnvonnxparser*.so.[0-9]*' \) -print0) |
        tar -C "$TENSORRT" --transform 's,^\.,runtime/tensorrt,' --null -T - -cf - |
        split -b 60M - "$to/runtime.tar.part-"
fi
if [ -n "${WHEELS:-}" ]; then
    for wheel in "$WHEELS"/*.whl; do
        if [ "$(stat -L -c %s "$wheel")" -le $((60 << 20)) ]; then
            install -m 644 "$wheel" "$to/"
        else
            split -b 60M "$wheel" "$to/$(basename "$wheel").part-"
        fi
    done
fi
find "$to" -type f -size +64M -exec echo "pack: larger than 64 MiB: {}" \; >&2
du -sh "$to" >&2
