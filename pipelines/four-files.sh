#!/usr/bin/env bash
# Counts vehicles in four video files at once, in common batches; the counts go to COUNTS,
# counts.jsonl by default.
# Usage: four-files.sh CLIP CLIP CLIP CLIP
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
[ $# = 4 ] || usage
branches=() counts=$(path "${COUNTS:-counts.jsonl}")
for index in 0 1 2 3; do
    clip=${*:index+1:1}
    # shellcheck disable=SC2206
    branches+=(filesrc location="$(path "$clip")" ! decodebin ! "${upright[@]}" ! queue \
        ! c.sink_$index
        c.src_$index ! vehiclecountpublish location="$counts" ! vehiclecountoverlay ! queue \
            ! ${SHOW:-videoconvert ! autovideosink})
done
# shellcheck disable=SC2086
exec gst-launch-1.0 -q vehiclecounter name=c $counter \
    sink_0::camera-id=camera-0 sink_1::camera-id=camera-1 sink_2::camera-id=camera-2 \
    sink_3::camera-id=camera-3 "${branches[@]}"
