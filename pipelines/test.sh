#!/usr/bin/env bash
# Runs every script of this folder on simulated cameras and looks at what comes out.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
here=$(cd "$(dirname "$0")" && pwd)
command=${VEHICLECOUNT_BIN:-$root/target/debug}/vehicle-count
folder=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
trap 'echo "failed in line $LINENO" >&2' ERR
# Warnings of other elements, while cameras are torn down, are theirs.
unset G_DEBUG
cd "$folder"
export SHOW="fakesink sync=false" COUNTER="input-size=256x256"

step() { printf '  %s\n' "$*"; }
bounded() { timeout 120 "$@"; }
# lines FILE NUMBER: at least that many lines, each with a count.
lines() {
    local found
    found=$(grep -c '"count":[0-9]' "$1" || true)
    [ "$found" -ge "$2" ] || { echo "$1: $found counts, $2 were expected"; head -n 3 "$1"; exit 1; }
}

for index in 0 1 2 3; do
    gst-launch-1.0 -q vehicletestsrc seed="$index" num-buffers=20 \
        ! video/x-raw,format=I420,width=320,height=180 \
        ! x264enc speed-preset=ultrafast ! mp4mux ! filesink location="clip-$index.mp4"
done

step one-file.sh
bounded "$here/one-file.sh" clip-0.mp4 >one.jsonl
lines one.jsonl 20

# Clips as people have them: names, orientation, sides, rates of any kind, two frames in one.
clip() { gst-launch-1.0 -q vehicletestsrc num-buffers=20 ! "$@"; }
# shellcheck disable=SC2016
turned='a "quoted" \ name! with $(signs) '
cp clip-0.mp4 "$turned"
# The matrix of the video track's header: clockwise by 90 degrees.
header=$(grep --only-matching --byte-offset --text --max-count=1 tkhd "$turned" | head -n 1 |
    cut -d : -f 1)
printf '\0\0\0\0\0\1\0\0\0\0\0\0\377\377\0\0\0\0\0\0' |
    dd of="$turned" bs=1 seek=$((header + 44)) conv=notrunc status=none
clip video/x-raw,format=I420,width=321,height=179 ! jpegenc ! matroskamux \
    ! filesink location=odd.mkv
clip video/x-raw,format=I420,width=320,height=180 ! interlace field-pattern=1:1 \
    ! x264enc interlaced=true \
    speed-preset=ultrafast ! h264parse ! mpegtsmux ! filesink location=interlaced.ts
clip video/x-raw,format=I420,width=320,height=180 ! capssetter caps=video/x-raw,framerate=0/1 \
    ! x264enc speed-preset=ultrafast ! matroskamux ! filesink location=rateless.mkv
step "clips of every kind"
for kind in "$turned" odd.mkv interlaced.ts rateless.mkv; do
    bounded "$here/one-file.sh" "$kind" >kind.jsonl
    lines kind.jsonl 10
    bounded "$here/file-to-mp4.sh" "$kind" "$kind-annotated.mp4"
    [ -s "$kind-annotated.mp4" ] || { echo "$kind: no video was written"; exit 1; }
done
cp "$turned-annotated.mp4" upright.mp4
[ "$(gst-launch-1.0 -v filesrc location=upright.mp4 ! decodebin ! fakesink | grep -c 'width=(int)180, height=(int)320')" -ge 1 ]
COUNTS='counts "of kinds".jsonl' bounded "$here/four-files.sh" \
    "$turned" odd.mkv interlaced.ts rateless.mkv
lines 'counts "of kinds".jsonl' 70
step four-files.sh
COUNTS=four.jsonl bounded "$here/four-files.sh" clip-0.mp4 clip-1.mp4 clip-2.mp4 clip-3.mp4
lines four.jsonl 80
for index in 0 1 2 3; do [ "$(grep -c "\"camera\":\"camera-$index\"" four.jsonl)" = 20 ]; done
step webcam.sh
VIDEO_SOURCE="vehicletestsrc num-buffers=60" bounded "$here/webcam.sh" >webcam.jsonl
lines webcam.jsonl 2
if bounded "$here/webcam.sh" /dev/video-that-is-not-there 2>missing.txt; then
    echo "a camera that is not there is counted on"; exit 1
fi
grep -q "no camera /dev/video-that-is-not-there" missing.txt
step file-to-mp4.sh
bounded "$here/file-to-mp4.sh" clip-0.mp4 annotated.mp4
[ "$(gst-launch-1.0 filesrc location=annotated.mp4 ! decodebin ! fakesink silent=false sync=false -v | grep -c 'chain.*0x')" -ge 20 ]
step four-rtsp.sh
coproc SERVER { exec "$command" serve --port 0 --cameras 4 --fps 10; }
server=$SERVER_PID
urls=()
for index in 0 1 2 3; do
    read -rt 60 url _ <&"${SERVER[0]}"
    urls+=("$url")
done
COUNTS=rtsp.jsonl SECONDS_TO_RUN=12 bounded "$here/four-rtsp.sh" "${urls[@]}"
lines rtsp.jsonl 4
step vehicle-count demo --rtsp
bounded "$command" demo --rtsp "${urls[@]:0:2}" --duration 10 --segment 4 --every 500 --out demo \
    >/dev/null
lines demo/demo.jsonl 4
[ "$(find demo -name 'demo-*.mp4' -size +1k | wc -l)" -ge 2 ]
