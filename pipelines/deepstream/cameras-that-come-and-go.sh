#!/usr/bin/env bash
# nvmultiurisrcbin has the muxer inside and takes cameras in and out while the pipeline plays, by
# its REST interface on port 9000.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
list=$(IFS=,; echo "$*")
exec gst-launch-1.0 -e nvmultiurisrcbin port=9000 ip-address=localhost max-batch-size=16 \
    width=1920 height=1080 live-source=1 \
    batched-push-timeout=40000 "uri-list=$list" ! nvinfer "config-file-path=$infer" batch-size=16 \
    ! vehiclecounternvmm source=tensor-meta "config-file-path=$here/sources.txt" osd-mode=counts \
    ! "${tiles[@]}" ! "${show[@]}"
