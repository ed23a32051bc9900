#!/usr/bin/env bash
# In the last stage of an image: installs PACKAGES (a folder of .deb files) and what they count
# with, nothing that builds. Then the user, its folders, the health check, and the list of what is
# in the image.
# Usage: install-image.sh PACKAGES
set -euo pipefail
[ $# = 1 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 2; }
packages=$1
here=$(dirname "${BASH_SOURCE[0]}")
export DEBIAN_FRONTEND=noninteractive
# Documentation is of no use in a container; licences stay.
cat >/etc/dpkg/dpkg.cfg.d/vehiclecount <<'EXCLUDE'
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/man/*
EXCLUDE
apt-get update -qq
log=$(mktemp)
apt-get install -y -qq --no-install-recommends "$packages"/*.deb gstreamer1.0-tools \
    gstreamer1.0-plugins-ugly fonts-dejavu-core >"$log" ||
    { tail -n 30 "$log"; exit 1; }
rm "$log"
apt-get clean
# Packages want to find their icons while they are installed.
rm -rf /usr/share/icons/* /usr/share/sounds/*
rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log

# TensorRT that was copied in, where there is one: its parts find each other.
for folder in /usr/lib/vehiclecount/tensorrt /usr/lib/vehiclecount/tensorrt-rtx; do
    if [ -d "$folder" ]; then
        echo "$folder" >>/etc/ld.so.conf.d/vehiclecount.conf
        ldconfig
        for library in "$folder"/*.so.*; do
            # The driver's own come from NVIDIA's container runtime.
            missing=$(ldd "$library" 2>/dev/null | grep 'not found' |
                grep -v 'libcuda\.so\|libnvidia' || true)
            [ -z "$missing" ] ||
                { echo "install-image.sh: $library needs what this base does not have:" >&2
                echo "$missing" >&2; exit 1; }
        done
    fi
done

groupadd --gid 10001 vehiclecount
useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp \
    --shell /usr/sbin/nologin vehiclecount
# For cameras that are devices of the host.
usermod --append --groups video vehiclecount
install -d -o 10001 -g 10001 /results /cache /config
install -o 10001 -g 10001 -m 640 "$here/counter.toml" /config/counter.toml
install -D -m 755 "$here/health.sh" /usr/libexec/vehiclecount/health

# With the lists that came with the packages, everything in the image is named.
mkdir -p /usr/share/vehiclecount/sbom
"$here/list-image.sh" >/usr/share/vehiclecount/sbom/image.cdx.json
