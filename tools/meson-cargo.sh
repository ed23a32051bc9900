#!/usr/bin/env bash
# What meson.build calls: cargo, and its products copied to where Meson wants them.
# Usage: meson-cargo.sh CARGO SOURCE BUILD PROFILE PLUGIN COMMAND
set -euo pipefail
cargo=$1 source=$2 build=$3 profile=$4 plugin=$5 command=$6
flags=()
[ "$profile" = debug ] || flags+=(--release)
"$cargo" build --locked --manifest-path "$source/Cargo.toml" --target-dir "$build/cargo" -p gst-plugin-vehiclecount -p vehicle-count "${flags[@]}"
cp "$build/cargo/$profile/libgstvehiclecount.so" "$plugin"
cp "$build/cargo/$profile/vehicle-count" "$command"
