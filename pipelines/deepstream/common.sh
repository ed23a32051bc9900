# shellcheck shell=bash disable=SC2034
# What the scripts of this folder share. Sourced, not run.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
usage() {
    echo "usage: $0 URI...    file:///clip.mp4 or rtsp://camera/; SHOW chooses the sink" >&2; exit 2
}
[ $# -gt 0 ] || usage
# A window on a discrete GPU; SHOW="nv3dsink" on Jetson, SHOW="fakesink" without a screen.
read -ra show <<<"${SHOW:-nveglglessink sync=false}"
# One muxer for all sources.
sources=()
index=0
for uri in "$@"; do
    sources+=(nvurisrcbin "uri=$uri" ! "m.sink_$index")
    index=$((index + 1))
done
mux=(nvstreammux name=m "batch-size=$#" width=1920 height=1080 batched-push-timeout=40000)
# nvinfer's configuration, with the model's path as it is here: in the source tree or in an
# installation.
infer=${XDG_CACHE_HOME:-$HOME/.cache}/vehiclecount/infer.txt
models=$here/../../engines/models
[ -d "$models" ] || models=$here/../../models
mkdir -p "$(dirname "$infer")"
sed "s|^onnx-file=.*/|onnx-file=$models/|" "$here/${CONFIG:-config_infer_vehiclecount.txt}" \
    >"$infer"
tiles=(nvmultistreamtiler width=1280 height=720 ! nvvideoconvert ! nvdsosd)
