# shellcheck shell=bash disable=SC2034
# What the scripts in this folder share: where the plugin is in a source tree, and how a file is
# decoded.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
for build in "${CARGO_TARGET_DIR:-$root/target}"/{release,debug}; do
    if [ -z "${GST_PLUGIN_PATH:-}" ] && [ -e "$build/libgstvehiclecount.so" ]; then
        export GST_PLUGIN_PATH=$build
    fi
done
# Installed scripts leave it to the plugin where its libraries and models are.
if [ -d "$root/engines/models" ]; then
    export VEHICLECOUNT_RUNTIME=${VEHICLECOUNT_RUNTIME:-$root/.runtime} \
        VEHICLECOUNT_MODELS=${VEHICLECOUNT_MODELS:-$root/engines/models}
fi

# Pictures with a rotation tag are counted upright.
# shellcheck disable=SC2034
upright=(videoconvert ! videoflip video-direction=auto)
# quoted TEXT: as gst-launch-1.0 takes it, whatever characters it holds. path FILE: so the name of a
# file.
quoted() { local text=${1//\\/\\\\}; printf '"%s"' "${text//\"/\\\"}"; }
path() { case $1 in /*) quoted "$1" ;; *) quoted "./$1" ;; esac; }

# How what was counted is shown: a window, or nothing with SHOW=fakesink.
show=${SHOW:-videoconvert ! autovideosink}
# Properties of the counter, such as COUNTER="engine=onnxruntime interval=1".
counter=${COUNTER:-}
usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 2; }
