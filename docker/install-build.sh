#!/usr/bin/env bash
# In a build stage: installs what building needs, and builds the Debian packages for this very base
# into OUT. The sources lie above this script; cargo builds below /target, which a cache may be
# mounted on.
# Usage: install-build.sh OUT
set -euo pipefail
[ $# = 1 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 2; }
source_tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# NVIDIA's images have no certificates, or time zone, to ask for.
export PATH=$HOME/.cargo/bin:$PATH
# Builders give all stages the same cache: what was built on one system does not run on an older
# one.
# shellcheck source=/dev/null
system=$(. /etc/os-release && echo "$ID-${VERSION_ID:-}")
export DEBIAN_FRONTEND=noninteractive CARGO_TARGET_DIR=/target/$system CARGO_TERM_COLOR=never \
    PACKAGE_COMPRESSION=none
"$source_tree/tools/setup.sh" --build
"$source_tree/packaging/build-deb.sh" "$1"
