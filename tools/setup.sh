#!/usr/bin/env bash
# Installs what is needed on Debian 12 and later, and Ubuntu 22.04 and later. Quick when nothing is
# missing.
# Usage: setup.sh [--build] [PACKAGE...]
#     --build: what building needs, not what running and testing need; PACKAGE: these too
set -euo pipefail

packages=(
    build-essential pkg-config curl ca-certificates git meson
    libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstrtspserver-1.0-dev libpango1.0-dev \
        libcairo2-dev
    python3 python3-venv python3-pip
)
if [ "${1:-}" = --build ]; then
    shift
    # Has GstAnalytics where GStreamer is new enough.
    packages+=(libgstreamer-plugins-bad1.0-dev)
else
    packages+=(
        gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
            gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly
        gstreamer1.0-libav gstreamer1.0-rtsp fonts-dejavu-core
        python3-gi python3-gst-1.0 gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 shellcheck \
            groff-base valgrind mosquitto
    )
fi
packages+=("$@")

missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: installing ${missing[*]}" >&2
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends "${missing[@]}" >/dev/null
fi

# The Rust that the workspace asks for, or a newer one.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/Cargo.toml")
# shellcheck source=/dev/null
[ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
have=$(rustc --version 2>/dev/null | cut -d' ' -f2 || true)
if [ -z "$have" ] ||
    [ "$(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1)" != "$wanted" ]; then
    echo "setup: installing Rust (found ${have:-none}, $wanted or later is needed)" >&2
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
        sh -s -- -y --profile minimal --component clippy,rustfmt
fi
