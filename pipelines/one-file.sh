#!/usr/bin/env bash
# Counts vehicles in a video file and shows it; the counts go to standard output as lines of JSON.
# Usage: one-file.sh CLIP
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
[ $# = 1 ] || usage
# The words in $show and $counter are pipeline syntax: they are split on purpose.
# shellcheck disable=SC2086
exec gst-launch-1.0 -q filesrc location="$(path "$1")" ! decodebin ! "${upright[@]}" \
    ! vehiclecounter $counter ! vehiclecountpublish ! vehiclecountoverlay ! $show
