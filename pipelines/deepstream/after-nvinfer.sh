#!/usr/bin/env bash
# DeepStream's nvinfer runs our model, vehiclecounternvmm counts, nvdsosd draws.
# CONFIG=config_infer_vehiclecount_int8.txt from 9.0 on.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
exec gst-launch-1.0 -e "${mux[@]}" ! nvinfer "config-file-path=$infer" "batch-size=$#" \
    ! vehiclecounternvmm source=tensor-meta "config-file-path=$here/sources.txt" osd-mode=counts \
    ! "${tiles[@]}" ! "${show[@]}" "${sources[@]}"
