#!/usr/bin/env bash
# Copies the TensorRT of NVIDIA's image into OUT: the libraries that run plans and build them from
# ONNX files, without what links programs, and without the parts for other systems.
# Usage: collect-tensorrt.sh OUT
set -euo pipefail
[ $# = 1 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 2; }
mkdir -p "$1"
core=$(ldconfig -p | sed -n 's/.* => \(.*\/libnvinfer\.so\.[0-9]*\)$/\1/p' | sort -V | tail -n 1)
if [ -z "$core" ]; then
    echo "collect-tensorrt.sh: ldconfig -p knows no libnvinfer.so: TENSORRT_BASE must be an image with TensorRT, such as nvcr.io/nvidia/tensorrt" >&2
    exit 1
fi
major=${core##*.}
folder=$(dirname "$core")
for file in "$folder"/lib{nvinfer,nvinfer_plugin,nvonnxparser}.so."$major"* \
    "$folder"/libnvinfer_builder_resource*.so.*; do
    # Those that build for Windows are of no use here.
    case $file in *_win*) continue ;; esac
    [ -e "$file" ] || continue
    cp -a "$file" "$1/"
done
# The licence goes with the libraries.
for file in /usr/share/doc/libnvinfer*/copyright; do
    [ -e "$file" ] || continue
    package=${file%/copyright}
    install -D -m 644 "$file" "$1/licences/${package##*/}"
done
for library in nvinfer nvonnxparser; do
    [ -e "$1/lib$library.so.$major" ] ||
        { echo "collect-tensorrt.sh: no lib$library.so.$major beside $core" >&2; exit 1; }
done
ls -l "$1"
