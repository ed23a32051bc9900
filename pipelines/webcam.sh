#!/usr/bin/env bash
# Counts vehicles before a camera of this machine. VIDEO_SOURCE names another source, such as "vehicletestsrc is-live=true".
# Usage: webcam.sh [/dev/videoN]
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
[ $# -le 1 ] || usage
# shellcheck disable=SC2086
exec gst-launch-1.0 -q ${VIDEO_SOURCE:-v4l2src device=${1:-/dev/video0}} ! videoconvert ! vehiclecounter $counter \
    ! vehiclecountpublish every=1000 ! vehiclecountoverlay ! $show
