#!/usr/bin/env bash
# What meson.build calls: cargo, and its products copied to where Meson wants them.
# Usage: meson-cargo.sh CARGO SOURCE TARGET PROFILE FEATURES PLUGIN COMMAND MAN BASH ZSH FISH
# VEHICLECOUNT_CARGO_BUILD: what cargo builds, where a larger build is there already.
set -euo pipefail
cargo=$1 source=$2 target=$3 profile=$4 features=$5
shift 5
read -ra flags <<<"${VEHICLECOUNT_CARGO_BUILD:--p gst-plugin-vehiclecount -p vehicle-count}"
[ "$profile" = debug ] || flags+=(--release)
[ -z "$features" ] || flags+=(--features "$features")
"$cargo" build --locked --manifest-path "$source/Cargo.toml" --target-dir "$target" "${flags[@]}"
install -m 644 "$target/$profile/libgstvehiclecount.so" "$1"
install -m 755 "$target/$profile/vehicle-count" "$2"
"$target/$profile/vehicle-count" manual man >"$3"
"$target/$profile/vehicle-count" manual bash >"$4"
"$target/$profile/vehicle-count" manual zsh >"$5"
"$target/$profile/vehicle-count" manual fish >"$6"
