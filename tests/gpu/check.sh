#!/usr/bin/env bash
# Checks the GPU path on this machine and writes OUT/gpu-check-CARD.json. Needs NVIDIA's driver;
# TensorRT, or Python with onnxruntime-gpu; no network, no GStreamer, no compiler.
# Usage: check.sh [OUT] [gpu_check's options]
#
# It runs where it lies: in the source tree after `cargo build --release --example gpu_check`, or in
# a folder with what `pack.sh` put there.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-.}
if [ $# -gt 0 ]; then shift; fi
mkdir -p "$out"
say() { echo "gpu-check: $*" >&2; }

# Parts of files that were too large to be carried whole.
for first in "$here"/*.part-aa; do
    [ -e "$first" ] || continue
    whole=${first%.part-aa}
    [ "$whole" -nt "$first" ] || cat "$whole".part-* >"$whole"
done
for archive in "$here"/*.tar; do
    if [ -e "$archive" ]; then tar xf "$archive" -C "$here"; fi
done

program=$here/gpu_check
if [ -d "$here/models" ]; then
    export VEHICLECOUNT_MODELS=$here/models
    # Carried without its mode, perhaps.
    [ -x "$program" ] || chmod +x "$program"
else
    program=$(realpath -m "${CARGO_TARGET_DIR:-$here/../../target}")/release/examples/gpu_check
    export VEHICLECOUNT_MODELS=$here/../../engines/models
fi
if [ -d "$here/runtime" ]; then
    export VEHICLECOUNT_RUNTIME=$here/runtime
    # TensorRT opens more of its own libraries by their names.
    export LD_LIBRARY_PATH=$here/runtime/tensorrt${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
# Plans are built here and measured here: none of before.
VEHICLECOUNT_CACHE=${VEHICLECOUNT_CACHE:-$(mktemp -d)}
export VEHICLECOUNT_CACHE

card=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1 |
    tr -c 'A-Za-z0-9\n' '-' | tr '[:upper:]' '[:lower:]' || true)
name=$out/gpu-check-${card:-no-card}
code=0
"$program" --out "$name.json" "$@" || code=$?
say "$name.json"

# Beside TensorRT, or instead of it. Wheels that were carried go into a folder of their own.
wheels=("$here"/*.whl)
if [ -e "${wheels[0]}" ]; then
    if [ ! -d "$here/python" ]; then
        python3 -m pip install --quiet --no-index --no-deps --target "$here/python" "${wheels[@]}" \
            || say "pip does not install the wheels"
    fi
    export PYTHONPATH=$here/python${PYTHONPATH:+:$PYTHONPATH}
fi
counted=no
if why=$(python3 "$here/onnxruntime_cuda.py" --probe 2>&1); then
    if python3 "$here/onnxruntime_cuda.py" "$VEHICLECOUNT_MODELS/mobilenetv3-large.onnx" \
        >"$name-onnxruntime.json"; then
        counted=yes
    else
        code=1
    fi
    say "$name-onnxruntime.json"
else
    say "ONNX Runtime is not checked: ${why##*$'\n'}"
fi

# 3: nothing failed, and TensorRT is not there. That is well where ONNX Runtime counted.
if [ "$code" = 3 ]; then
    say "no network ran on TensorRT, which is not on this machine"
    if [ "$counted" = yes ]; then code=0; fi
fi
exit "$code"
