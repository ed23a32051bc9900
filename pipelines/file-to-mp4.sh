#!/usr/bin/env bash
# Writes a copy of a video file with what was counted drawn onto it.
# Usage: file-to-mp4.sh CLIP OUT.mp4
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
[ $# = 2 ] || usage
# H.264 in 4:2:0 takes no odd sides.
# shellcheck disable=SC2086
exec gst-launch-1.0 -q -e filesrc location="$(path "$1")" ! decodebin ! "${upright[@]}" \
    ! vehiclecounter $counter ! vehiclecountoverlay \
    ! videoconvert ! videoscale ! "video/x-raw,format=I420,width=[2,16384,2],height=[2,16384,2]" \
    ! x264enc speed-preset=veryfast ! h264parse ! mp4mux ! filesink location="$(path "$2")"
