#!/usr/bin/env bash
# vehiclecounternvmm runs our model itself, with whatever engine opens; ENGINE=tensorrt, openvino or
# onnxruntime asks for one. The muxer's memory is unified (3), which processor and GPU both read.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
exec gst-launch-1.0 -e "${mux[@]}" "nvbuf-memory-type=${MEMORY:-3}" \
    ! vehiclecounternvmm source=engine "engine=${ENGINE:-auto}" \
    "config-file-path=$here/sources.txt" osd-mode=counts \
    ! "${tiles[@]}" ! "${show[@]}" "${sources[@]}"
