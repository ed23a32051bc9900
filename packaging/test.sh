#!/usr/bin/env bash
# In a fresh root of each suite: `./run demo` as a newcomer runs it, the Debian packages, and, where
# GStreamer is new enough, lints and tests of the GstAnalytics feature. Then, in another fresh root,
# the packages are installed, count, and are removed.
# Needs root, some GB of disk, and minutes; roots and what cargo builds are kept in .runtime/roots/.
# Usage: test.sh [SUITE...]    by default bookworm, trixie (Debian 12, 13), jammy, noble (Ubuntu
#     22.04, 24.04)
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=roots.sh
. "$(dirname "${BASH_SOURCE[0]}")/roots.sh"
trap 'echo "packaging/test.sh: failed in line $LINENO" >&2' ERR
[ "$(id -u)" = 0 ] ||
    { echo "packaging/test.sh: roots are made by root: run it with sudo" >&2; exit 1; }
"$source_tree/tools/setup.sh" debootstrap
cargo_home=${CARGO_HOME:-$HOME/.cargo} rustup_home=${RUSTUP_HOME:-$HOME/.rustup}
python=$source_tree/.runtime/lint/bin/python

step() { printf '%s  %-8s  %s\n' "$(date +%T)" "$suite" "$*"; }
# quietly COMMAND...: what it says is shown if it fails.
quietly() { "$@" >"$roots/$suite.log" 2>&1 || { tail -n 40 "$roots/$suite.log"; return 1; }; }

[ $# -gt 0 ] || set -- bookworm trixie jammy noble
for suite in "$@"; do
    build=$roots/$suite-build fresh=$roots/$suite-fresh out=$roots/$suite-packages
    mkdir -p "$roots/$suite-target" "$roots/$suite-runtime" "$out"
    # The Rust of this machine, the sources as they are, a .runtime/ of its own; what cargo builds
    # is kept.
    there=(in_root "$build" --bind "$source_tree" /src \
        --bind "$roots/$suite-runtime" /src/.runtime --bind "$cargo_home" /root/.cargo
        --bind "$rustup_home" /root/.rustup --bind "$roots/$suite-target" /target \
            --bind "$out" /packages
        env CARGO_TARGET_DIR=/target CARGO_TERM_COLOR=never PACKAGE_COMPRESSION=gzip)

    step "a newcomer's ./run demo"
    [ -e "$build/ready" ] || fresh_root "$suite" "$build"
    quietly "${there[@]}" /src/run demo --duration 12 --out /tmp/demo
    touch "$build/ready"
    tail -n 4 "$roots/$suite.log"
    [ "$(grep -c '"count":[0-9]' "$build/tmp/demo/demo.jsonl")" -ge 10 ]
    [ -s "$build/tmp/demo/demo.mp4" ]

    step "packages"
    rm -rf "${out:?}"/*
    "${there[@]}" /src/tools/setup.sh --build
    quietly "${there[@]}" /src/packaging/build-deb.sh /packages

    feature=
    if "${there[@]}" pkg-config --exists 'gstreamer-analytics-1.0 >= 1.24'; then
        feature=analytics
    fi
    if "${there[@]}" pkg-config --exists 'gstreamer-analytics-1.0 >= 1.26'; then
        feature=analytics-tensors
    fi
    if [ -n "$feature" ]; then
        # With the command beside it: then most of what the packages were built of is taken as it
        # is.
        plugin=(--locked --release --manifest-path /src/Cargo.toml -p gst-plugin-vehiclecount \
            -p vehicle-count
            --features "gst-plugin-vehiclecount/$feature")
        step "the feature $feature: its tests"
        tests=(--lib --test analytics)
        # All that touches metadata, and clippy, once.
        if [ "$feature" = analytics-tensors ]; then
            tests+=(--test counter --test downstream --test languages)
        fi
        quietly "${there[@]}" env G_DEBUG=fatal-warnings \
            VEHICLECOUNT_REQUIRE_ENGINES=openvino,onnxruntime VEHICLECOUNT_RUNTIME=/src/.runtime \
            GST_PLUGIN_PATH=/target/release cargo test "${plugin[@]}" "${tests[@]}"
        grep -E '^test .*analytics|^test result' "$roots/$suite.log"
        if [ "$feature" = analytics-tensors ]; then
            step "the feature $feature: clippy"
            quietly "${there[@]}" cargo clippy "${plugin[@]}" --all-targets -- -D warnings
        fi
    fi

    step "installed in a fresh root"
    fresh_root "$suite" "$fresh"
    here=(in_root "$fresh" --bind "$out" /packages)
    "${here[@]}" apt-get update -qq
    quietly "${here[@]}" bash -c 'apt-get install -y -qq --no-install-recommends /packages/*.deb gstreamer1.0-tools gstreamer1.0-plugins-ugly'
    user=("${here[@]}" setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME=/tmp)
    step "what the lists in the packages name"
    "$python" "$source_tree/packaging/check-sbom.py" gstreamer mobilenetv3-large-int8.onnx onetbb \
        "openvino@$(sed -n 's/^OPENVINO=//p' "$source_tree/tools/runtime.sh")" \
        "onnxruntime@$(sed -n 's/^ONNXRUNTIME=//p' "$source_tree/tools/runtime.sh")" \
        -- "$fresh"/usr/share/vehiclecount/sbom/*.json
    step "GStreamer there, and the plugin in it"
    "${user[@]}" gst-inspect-1.0 --version | head -n 1
    "${user[@]}" gst-inspect-1.0 vehiclecounter >"$fresh/inspect.txt"
    grep Filename "$fresh/inspect.txt"
    step "it counts"
    "${user[@]}" gst-launch-1.0 -q vehicletestsrc num-buffers=10 ! vehiclecounter \
        ! vehiclecountpublish location=/tmp/counts.jsonl ! fakesink
    head -n 1 "$fresh/tmp/counts.jsonl"
    [ "$(grep -c '"engine":"openvino".*' "$fresh/tmp/counts.jsonl")" = 10 ]
    "${user[@]}" gst-launch-1.0 -q vehicletestsrc num-buffers=2 \
        ! vehiclecounter engine=onnxruntime ! vehiclecountpublish location=/tmp/onnx.jsonl \
        ! fakesink
    [ "$(grep -c '"engine":"onnxruntime"' "$fresh/tmp/onnx.jsonl")" = 2 ]
    "${user[@]}" vehicle-count doctor >"$fresh/doctor.txt" || { cat "$fresh/doctor.txt"; exit 1; }
    grep "other programs find vehiclecounter" "$fresh/doctor.txt"
    step "the service, with the configuration that it begins with"
    grep -q '^ExecStart=/usr/bin/vehicle-count run ' "$fresh/usr/lib/systemd/system/vehicle-count.service"
    "${user[@]}" bash -c 'cp /usr/share/vehiclecount/counter.toml /tmp/ && timeout --preserve-status --signal=TERM 15 vehicle-count run /tmp/counter.toml' \
        >"$fresh/service.txt" 2>&1 || { cat "$fresh/service.txt"; exit 1; }
    grep "^example: live" "$fresh/service.txt"
    step "removed without a trace"
    "${here[@]}" dpkg --purge vehiclecount vehiclecount-engines-cpu >/dev/null
    [ -z "$(find "$fresh/usr" -iname '*vehicle*count*')" ]
    du -k --apparent-size "$out"/*.deb
    rm -rf "$fresh"
done
suite=all step "sound"
