#!/usr/bin/env bash
# Checks the GPU path on this machine and writes OUT/gpu-check-CARD.json. Needs NVIDIA's driver; TensorRT, or Python with onnxruntime-gpu;
# no network, no GStreamer, no compiler. Usage: check.sh [OUT] [gpu_check's options]
#
# It runs where it lies: in the source tree after `cargo build --release --example gpu_check`, or in a folder with what `pack.sh` put there.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-.}
if [ $# -gt 0 ]; then shift; fi
mkdir -p "$out"

# Parts of files that were too large to be carried whole.
for first in "$here"/*.part-aa; do
    [ -e "$first" ] || continue
    whole=${first%.part-aa}
    [ -e "$whole" ] || cat "$whole".part-* >"$whole"
done
for archive in "$here"/*.tar; do
    if [ -e "$archive" ]; then tar xf "$archive" -C "$here"; fi
done

program=$here/gpu_check
if [ -d "$here/models" ]; then
    export VEHICLECOUNT_MODELS=$here/models
else
    program=$(realpath -m "${CARGO_TARGET_DIR:-$here/../../target}")/release/examples/gpu_check
    export VEHICLECOUNT_MODELS=$here/../../engines/models
fi
if [ -d "$here/runtime" ]; then export VEHICLECOUNT_RUNTIME=$here/runtime; fi

card=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1 | tr -c 'A-Za-z0-9\n' '-' | tr '[:upper:]' '[:lower:]' || true)
name=$out/gpu-check-${card:-no-card}
code=0
"$program" --out "$name.json" "$@" || code=$?
echo "gpu-check: $name.json" >&2

# Beside TensorRT, or instead of it.
if python3 -c 'import onnxruntime, sys; sys.exit("CUDAExecutionProvider" not in onnxruntime.get_available_providers())' 2>/dev/null; then
    python3 "$here/onnxruntime_cuda.py" "$VEHICLECOUNT_MODELS/mobilenetv3-large.onnx" >"$name-onnxruntime.json" || code=$?
    echo "gpu-check: $name-onnxruntime.json" >&2
else
    echo "gpu-check: no onnxruntime with a CUDA provider in python3, so ONNX Runtime is not checked" >&2
fi
exit "$code"
