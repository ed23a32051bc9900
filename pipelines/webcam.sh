#!/usr/bin/env bash
# Counts vehicles before a camera of this machine. VIDEO_SOURCE names another source, such as
# "vehicletestsrc is-live=true".
# Usage: webcam.sh [/dev/videoN]
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
[ $# -le 1 ] || usage
camera=${1:-/dev/video0}
if [ -z "${VIDEO_SOURCE:-}" ] && [ ! -e "$camera" ]; then
    others=$(find /dev -maxdepth 1 -name 'video*' 2>/dev/null | sort | tr '\n' ' ')
    echo "webcam.sh: there is no camera $camera; this machine has: ${others:-none}" >&2
    echo "  name another one, or a source: VIDEO_SOURCE='vehicletestsrc is-live=true' $0" >&2
    exit 1
fi
# shellcheck disable=SC2086
exec gst-launch-1.0 -q ${VIDEO_SOURCE:-v4l2src device=$camera} ! videoconvert \
    ! vehiclecounter $counter \
    ! vehiclecountpublish every=1000 ! vehiclecountoverlay ! $show
