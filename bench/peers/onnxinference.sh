#!/usr/bin/env bash
# onnxinference.sh --prepare: a Debian 13 with GStreamer's onnxinference, in .runtime/roots/peers.
# Needs root and debootstrap.
# onnxinference.sh --model FILE --input WIDTHxHEIGHT CLIP...: runs onnxinference.py there.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=packaging/roots.sh
. "$here/../../packaging/roots.sh"
root=$roots/peers

if [ "$1" = --prepare ]; then
    if [ -e "$root/ready" ]; then exit; fi
    fresh_root trixie "$root"
    in_root "$root" sh -ec 'apt-get -qq update && apt-get -qq install --no-install-recommends \
        gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
        gstreamer1.0-libav python3-gi gir1.2-gstreamer-1.0' >"$roots/peers.log" 2>&1 ||
        { tail -n 5 "$roots/peers.log"; exit 1; }
    touch "$root/ready"
    exit
fi

# Files lie where the root has their folders.
arguments=() binds=(--bind "$here" /peers)
while [ $# -gt 0 ]; do
    case $1 in
        --input) arguments+=("$1" "$2"); shift 2 ;;
        --model)
            binds+=(--bind "$(dirname "$(realpath "$2")")" /model)
            arguments+=("$1" "/model/$(basename "$2")")
            shift 2
            ;;
        *)
            number=${#arguments[@]}
            binds+=(--bind "$(dirname "$(realpath "$1")")" "/clips/$number")
            arguments+=("/clips/$number/$(basename "$1")")
            shift
            ;;
    esac
done
in_root "$root" "${binds[@]}" python3 /peers/onnxinference.py "${arguments[@]}"
