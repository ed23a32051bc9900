#!/usr/bin/env bash
# Writes what an image is made of, as CycloneDX 1.5: the packages of its distribution, and what no
# package brought (TensorRT that was copied in, DeepStream), with versions and licences. What our
# own packages are made of stands in the lists that they bring.
# Usage: list-image.sh [ROOT] >image.cdx.json    ROOT: the image's root, / by default
set -euo pipefail
root=${1:-}

# licences PACKAGE: a licence a line. The short names of a copyright file that machines can read,
# else the common licences that it names.
licences() {
    local file=$root/usr/share/doc/$1/copyright found
    found=$(awk 'tolower($1) == "license:" && NF > 1 { sub(/^[^:]*:[ \t]*/, ""); sub(/[ \t\r]+$/, ""); print }' "$file" 2>/dev/null | sort -u || true)
    [ -n "$found" ] ||
        found=$(grep -o '/usr/share/common-licenses/[A-Za-z0-9.+-]*[A-Za-z0-9+]' \
        "$file" 2>/dev/null | sed 's/.*\///' | sort -u || true)
    if [ -z "$found" ]; then
        found="not stated: the package brings no copyright file"
        if [ -e "$file" ]; then found="see ${file#"$root"}"; fi
    fi
    printf '%s\n' "$found"
}

# component NAME VERSION PURL LICENCE...: a line of the list.
comma=
component() {
    local name=$1 version=$2 purl=$3 licence list=
    shift 3
    for licence in "$@"; do
        # Nothing that JSON would read otherwise.
        licence=${licence//[\"\\$'\t']/ }
        list+="${list:+, }{\"license\": {\"name\": \"$licence\"}}"
    done
    printf '%s  {"type": "library", "bom-ref": "%s", "name": "%s", "version": "%s", "purl": "%s", "licenses": [%s]}' \
        "$comma" "$purl" "$name" "$version" "$purl" "$list"
    comma=$',\n'
}

system=$(sed -n 's/^ID=//p' "$root/etc/os-release" | tr -d '"')
packages=$(dpkg-query --admindir "$root/var/lib/dpkg" --show \
    --showformat '${db:Status-Status} ${Package} ${Version} ${Architecture}\n' |
    sed -n 's/^installed //p')
printf '{\n "bomFormat": "CycloneDX",\n "specVersion": "1.5",\n "version": 1,\n "components": [\n'
while read -r package version architecture; do
    mapfile -t names < <(licences "$package")
    escaped=${version//+/%2B}
    component "$package" "$version" "pkg:deb/$system/$package@${escaped//:/%3A}?arch=$architecture" "${names[@]}"
done <<<"$packages"

ours=/usr/lib/vehiclecount
for library in "$root$ours"/tensorrt/libnvinfer.so.*.*; do
    [ -e "$library" ] || continue
    version=${library##*.so.}
    component tensorrt "$version" "pkg:generic/nvidia/tensorrt@$version" \
        "NVIDIA TensorRT SLA, see $ours/tensorrt/licences"
done
if [ -e "$root$ours/tensorrt-rtx/VERSION" ]; then
    version=$(cat "$root$ours/tensorrt-rtx/VERSION")
    component tensorrt-rtx "$version" "pkg:pypi/tensorrt-rtx-cu13-libs@$version" \
        "NVIDIA TensorRT SLA, see $ours/tensorrt-rtx/licences"
fi
if [ -e "$root/opt/nvidia/deepstream/deepstream/version" ]; then
    version=$(grep -o '[0-9][0-9.]*' "$root/opt/nvidia/deepstream/deepstream/version" | head -n 1)
    component deepstream "$version" "pkg:generic/nvidia/deepstream@$version" \
        "NVIDIA DeepStream SDK licence, see /opt/nvidia/deepstream/deepstream/LICENSE.txt"
fi
printf '\n ]\n}\n'
