#!/usr/bin/env bash
# Counts vehicles on four RTSP cameras at once: H.264, H.265, MJPEG, whatever GStreamer decodes.
# The counts go to COUNTS, counts.jsonl by default. SECONDS_TO_RUN ends it by itself.
# Usage: four-rtsp.sh URL URL URL URL
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
[ $# = 4 ] || usage
branches=() counts=$(path "${COUNTS:-counts.jsonl}")
for index in 0 1 2 3; do
    url=${*:index+1:1}
    # shellcheck disable=SC2206
    branches+=(rtspsrc location="$(quoted "$url")" latency=200 protocols=tcp \
        ! "application/x-rtp,media=video"
        ! decodebin ! "${upright[@]}" ! c.sink_$index
        c.src_$index ! vehiclecountpublish location="$counts" ! vehiclecountoverlay ! queue \
            ! ${SHOW:-videoconvert ! autovideosink})
done
limit=()
[ -z "${SECONDS_TO_RUN:-}" ] ||
    limit=(timeout --foreground --preserve-status --signal=INT "$SECONDS_TO_RUN")
# shellcheck disable=SC2086
exec "${limit[@]}" gst-launch-1.0 -q -e vehiclecounter name=c $counter "${branches[@]}"
