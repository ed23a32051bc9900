#!/usr/bin/env bash
# Puts what tests/gpu/check.sh needs on a bare machine into a folder, no file above 64 MiB: the program, the models, the scripts, and with
# TENSORRT=FOLDER the libraries of TensorRT that lie there, in parts. Usage: pack.sh FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../..
to=$1
mkdir -p "$to/models"
install -m 755 "$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/release/examples/gpu_check" "$to/gpu_check"
strip "$to/gpu_check"
install -m 755 "$here/check.sh" "$to/"
install -m 644 "$here/onnxruntime_cuda.py" "$to/"
for file in "$root"/engines/models/*; do
    case $file in
        *.onnx | *.json | *.png) install -m 644 "$file" "$to/models/" ;;
    esac
done
if [ -n "${TENSORRT:-}" ]; then
    tar -C "$TENSORRT" --transform 's,^\.,runtime/tensorrt,' -chf - . | split -b 60M - "$to/runtime.tar.part-"
fi
find "$to" -type f -size +64M -exec echo "pack: larger than 64 MiB: {}" \; >&2
du -sh "$to" >&2
