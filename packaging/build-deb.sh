#!/usr/bin/env bash
# Builds the Debian packages for this very system: vehiclecount, and vehiclecount-engines-cpu with
# the libraries of the CPU engines. What is in them is what Meson installs, so there is one list of
# files. Cargo builds in CARGO_TARGET_DIR, or in target/. PACKAGE_COMPRESSION=none makes them
# quickly, for an image that unpacks them at once.
# Usage: build-deb.sh OUT [MESON-OPTION...]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ $# -ge 1 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
target=${CARGO_TARGET_DIR:-$root/target}
# shellcheck source=/dev/null
if [ -f "$HOME/.cargo/env" ]; then . "$HOME/.cargo/env"; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
arch=$(dpkg --print-architecture)
multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH)
# Packages of the same sources built on two systems are told apart.
# shellcheck source=/dev/null
system=$(. /etc/os-release && echo "$ID${VERSION_ID:-}" | tr -d .)
full=$version+$system

# pack NAME DEPENDS RECOMMENDS SUMMARY TEXT: the folder $work/NAME becomes a package.
pack() {
    local name=$1 depends=$2 recommends=$3 summary=$4 text=$5 folder=$work/$1
    install -Dm 644 "$root/packaging/copyright" "$folder/usr/share/doc/$name/copyright"
    mkdir -p "$folder/DEBIAN"
    (cd "$folder" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    cat >"$folder/DEBIAN/control" <<CONTROL
Package: $name
Version: $full
Architecture: $arch
Maintainer: The vehiclecount authors <vehiclecount@localhost>
Section: video
Priority: optional
Installed-Size: $(du -sk --exclude=DEBIAN "$folder" | cut -f1)
Depends: $depends
Recommends: $recommends
Description: $summary
 $text
CONTROL
    sed -i '/^\(Recommends\|Depends\): $/d' "$folder/DEBIAN/control"
    # The same files make the same package, byte for byte.
    SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0) \
        dpkg-deb --root-owner-group "-Z${PACKAGE_COMPRESSION:-xz}" --build "$folder" \
        "$out/${name}_${full}_$arch.deb"
}

# libraries FILE...: the packages that have the libraries which these need.
libraries() {
    mkdir -p "$work/shlibs/debian"
    printf 'Source: vehiclecount\nPackage: vehiclecount\nArchitecture: any\n' \
        >"$work/shlibs/debian/control"
    (cd "$work/shlibs" && dpkg-shlibdeps -O "${@/#/-e}" 2>/dev/null) | sed 's/^shlibs:Depends=//'
}

plugin=$work/vehiclecount
meson setup "$work/build" "$root" --prefix=/usr --libdir="lib/$multiarch" --buildtype=release \
    -Dcargo-target-dir="$target" "$@"
DESTDIR=$plugin meson install -C "$work/build"
strip --strip-unneeded "$plugin/usr/lib/$multiarch/gstreamer-1.0/libgstvehiclecount.so" \
    "$plugin/usr/bin/vehicle-count"
gzip -9n "$plugin/usr/share/man/man1/vehicle-count.1"
install -Dm 644 "$root/CHANGELOG.md" "$plugin/usr/share/doc/vehiclecount/CHANGELOG.md"
gzip -9n "$plugin/usr/share/doc/vehiclecount/CHANGELOG.md"
# Not in /usr/share/doc, which many images leave out.
mkdir -p "$plugin/usr/share/vehiclecount/sbom"
(cd "$root" && python3 packaging/sbom.py crates vehiclecount \
    "$full") >"$plugin/usr/share/vehiclecount/sbom/vehiclecount.cdx.json"
needed=$(libraries "$plugin/usr/lib/$multiarch/gstreamer-1.0/libgstvehiclecount.so" \
    "$plugin/usr/bin/vehicle-count")
pack vehiclecount \
    "$needed, gstreamer1.0-plugins-base, gstreamer1.0-plugins-good, gstreamer1.0-plugins-bad, gstreamer1.0-libav" \
    "vehiclecount-engines-cpu, gstreamer1.0-plugins-ugly, gstreamer1.0-tools, fonts-dejavu-core" \
    "counts vehicles on many cameras, as a GStreamer plugin" \
    "A network turns each frame into a density map whose sum is the number of
 vehicles; frames of all cameras meet in one engine's batches, and every frame
 leaves with its count attached. With the command vehicle-count, the models,
 a C header and ready pipelines."

engines=$work/vehiclecount-engines-cpu
mkdir -p "$engines/usr/lib/vehiclecount" "$engines/usr/share/vehiclecount/sbom"
# The libraries and their licences, without what pip left beside them.
"$root/tools/runtime.sh" "$work/runtime"
cp -a "$work/runtime/openvino" "$work/runtime/onnxruntime" "$engines/usr/lib/vehiclecount/"
find "$engines" -type f -exec chmod 644 {} +
(cd "$root" && python3 packaging/sbom.py wheels vehiclecount-engines-cpu "$full" \
    "$work/runtime") >"$engines/usr/share/vehiclecount/sbom/vehiclecount-engines-cpu.cdx.json"
pack vehiclecount-engines-cpu "libc6, libgcc-s1, libstdc++6" "" \
    "OpenVINO and ONNX Runtime for vehiclecount" \
    "The libraries that vehiclecount counts with on a processor, in the versions
 that it is tested with, in a folder of their own."
