#!/usr/bin/env bash
# Writes a copy of a video file with what was counted drawn onto it.
# Usage: file-to-mp4.sh CLIP OUT.mp4
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
[ $# = 2 ] || usage
# shellcheck disable=SC2086
exec gst-launch-1.0 -q -e filesrc location="$1" ! decodebin ! videoconvert ! vehiclecounter $counter ! vehiclecountoverlay \
    ! videoconvert ! video/x-raw,format=I420 ! x264enc speed-preset=veryfast ! h264parse ! mp4mux ! filesink location="$2"
