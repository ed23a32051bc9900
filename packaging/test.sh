#!/usr/bin/env bash
# Builds the Debian packages in a root of each suite, installs them in a fresh one, and counts there. Where GStreamer is new enough
# (Debian 13) with the GstAnalytics feature, whose tests run there too. Needs root, some GB of disk, and minutes; roots are kept in .runtime/.
# Usage: test.sh [SUITE...]    bookworm and trixie by default
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=roots.sh
. "$(dirname "${BASH_SOURCE[0]}")/roots.sh"
trap 'echo "packaging/test.sh: failed in line $LINENO" >&2' ERR
step() { printf '%s  %s\n' "$(date +%T)" "$*"; }
[ "$(id -u)" = 0 ] || { echo "packaging/test.sh: roots are made by root: run it with sudo" >&2; exit 1; }
"$source_tree/tools/setup.sh" debootstrap
cargo_home=${CARGO_HOME:-$HOME/.cargo} rustup_home=${RUSTUP_HOME:-$HOME/.rustup}

[ $# -gt 0 ] || set -- bookworm trixie
for suite in "$@"; do
    build=$roots/$suite-build fresh=$roots/$suite-fresh out=$roots/$suite-packages
    # The Rust of this machine, the sources as they are; what cargo builds is kept.
    there=(in_root "$build" --bind "$source_tree" /src --bind "$cargo_home" /root/.cargo --bind "$rustup_home" /root/.rustup
        --bind "$roots" /roots env CARGO_TARGET_DIR="/roots/$suite-target" CARGO_TERM_COLOR=never
        PACKAGE_COMPRESSION=gzip)
    step "$suite: a root to build in"
    [ -e "$build/ready" ] || fresh_root "$suite" "$build"
    "${there[@]}" /src/tools/setup.sh --build
    touch "$build/ready"
    step "$suite: packages"
    rm -rf "$out"
    "${there[@]}" /src/packaging/build-deb.sh "/roots/$suite-packages" >"$roots/$suite-packages.log" 2>&1 \
        || { tail -n 30 "$roots/$suite-packages.log"; exit 1; }
    if "${there[@]}" pkg-config --exists 'gstreamer-analytics-1.0 >= 1.26'; then
        step "$suite: tests of the GstAnalytics feature"
        "${there[@]}" cargo test --locked --release --manifest-path /src/Cargo.toml -p gst-plugin-vehiclecount \
            --features analytics-tensors --lib --test analytics analytics
    fi
    step "$suite: installed in a fresh root"
    fresh_root "$suite" "$fresh"
    here=(in_root "$fresh" --bind "$out" /packages)
    "${here[@]}" bash -euc 'apt-get update -qq; apt-get install -y -qq --no-install-recommends /packages/*.deb gstreamer1.0-tools gstreamer1.0-plugins-ugly >/dev/null'
    user=("${here[@]}" setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME=/tmp)
    step "$suite: GStreamer there, and the plugin in it"
    "${user[@]}" gst-inspect-1.0 --version
    "${user[@]}" gst-inspect-1.0 vehiclecounter >"$fresh/inspect.txt"
    grep Filename "$fresh/inspect.txt"
    step "$suite: it counts"
    "${user[@]}" gst-launch-1.0 -q vehicletestsrc num-buffers=10 ! vehiclecounter ! vehiclecountpublish location=/tmp/counts.jsonl ! fakesink
    head -n 1 "$fresh/tmp/counts.jsonl"
    [ "$(grep -c '"engine":"openvino".*' "$fresh/tmp/counts.jsonl")" = 10 ]
    "${user[@]}" gst-launch-1.0 -q vehicletestsrc num-buffers=2 ! vehiclecounter engine=onnxruntime ! vehiclecountpublish location=/tmp/onnx.jsonl ! fakesink
    [ "$(grep -c '"engine":"onnxruntime"' "$fresh/tmp/onnx.jsonl")" = 2 ]
    "${user[@]}" vehicle-count doctor >"$fresh/doctor.txt"
    cat "$fresh/doctor.txt"
    grep -q "other programs find vehiclecounter" "$fresh/doctor.txt"
    step "$suite: removed without a trace"
    "${here[@]}" dpkg --purge vehiclecount vehiclecount-engines-cpu >/dev/null
    [ -z "$(find "$fresh/usr" -iname '*vehicle*count*')" ]
    rm -rf "$fresh"
done
step "all packages are sound"
