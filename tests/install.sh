#!/usr/bin/env bash
# Installs into a temporary prefix with Meson, and uses what was installed as a stranger would.
# Usage: install.sh [CARGO-TARGET-DIR]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${1:-${CARGO_TARGET_DIR:-$root/target}}
runtime=${VEHICLECOUNT_RUNTIME:-$root/.runtime}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'echo "tests/install.sh: failed in line $LINENO" >&2' ERR
step() { printf '  %s\n' "$*"; }

step "meson setup, install"
meson setup "$folder/build" "$root" --prefix="$folder/usr" --buildtype=debug -Danalytics=disabled \
    -Dcargo-target-dir="$target" >"$folder/log" \
    || { cat "$folder/log"; exit 1; }
meson install -C "$folder/build" >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }

step "every file is where others look for it"
pkgconfig=$(dirname "$(find "$folder/usr" -name vehiclecount.pc)")
plugins=$(PKG_CONFIG_PATH=$pkgconfig pkg-config --variable=pluginsdir vehiclecount)
for file in "$plugins/libgstvehiclecount.so" \
    "$folder"/usr/{bin/vehicle-count,include/vehiclecount/vehiclecount-meta.h} \
    "$folder"/usr/share/{man/man1/vehicle-count.1,bash-completion/completions/vehicle-count.bash,zsh/site-functions/_vehicle-count} \
    "$folder"/usr/share/{fish/vendor_completions.d/vehicle-count.fish,vehiclecount/models/mobilenetv3-large.json,vehiclecount/pipelines/one-file.sh} \
    "$folder"/usr/share/vehiclecount/{counter.toml,grafana.json,examples/counter.toml} \
    "$folder"/usr/lib/systemd/system/vehicle-count.service; do
    [ -s "$file" ] || { echo "$file is missing"; exit 1; }
done
[ -z "$(find "$folder/usr/share/vehiclecount" -name '*.rs' -o -name '*.pt')" ]

# From here on nothing of the source tree helps; the engines' libraries stand in for a package of
# their own.
cd "$folder"
unset VEHICLECOUNT_MODELS G_DEBUG
export VEHICLECOUNT_RUNTIME=$runtime GST_PLUGIN_PATH=$plugins \
    GST_REGISTRY=$folder/registry.bin PATH=$folder/usr/bin:$PATH

step "gst-inspect-1.0"
gst-inspect-1.0 vehiclecounter >inspect.txt
grep -q "Filename *$plugins/libgstvehiclecount.so" inspect.txt
step "the unit and the configuration that it begins with"
grep -q "^ExecStart=$folder/usr/bin/vehicle-count run counter.toml$" "$folder/usr/lib/systemd/system/vehicle-count.service"
vehicle-count check "$folder/usr/share/vehiclecount/counter.toml" | grep -q ' 1 camera, nothing'
if command -v systemd-analyze >/dev/null; then
    # Exposure 3.6 of 10 by systemd 252; above 4 some of the hardening has gone.
    unit=$folder/usr/lib/systemd/system/vehicle-count.service
    systemd-analyze verify --man=no "$unit"
    if systemd-analyze security --help | grep -q -- --offline; then
        systemd-analyze security --offline=true --threshold=40 "$unit" >security.txt ||
            { cat security.txt; exit 1; }
    fi
fi
step "a pipeline counts with the installed model"
gst-launch-1.0 -q vehicletestsrc num-buffers=4 ! video/x-raw,format=I420,width=320,height=180 \
    ! vehiclecounter input-size=256x256 \
    ! vehiclecountpublish location=counts.jsonl ! fakesink
[ "$(grep -c '"model":"mobilenetv3-large"' counts.jsonl)" = 4 ]
step "a ready script counts a file"
gst-launch-1.0 -q vehicletestsrc num-buffers=10 ! video/x-raw,format=I420,width=320,height=180 \
    ! x264enc ! mp4mux ! filesink location=clip.mp4
SHOW="fakesink sync=false" COUNTER="input-size=256x256" \
    usr/share/vehiclecount/pipelines/one-file.sh clip.mp4 >one.jsonl
[ "$(grep -c '"count":[0-9]' one.jsonl)" = 10 ]
step "a C program finds header and flags through pkg-config"
# shellcheck disable=SC2046
PKG_CONFIG_PATH=$pkgconfig cc usr/share/vehiclecount/examples/print-counts.c \
    -o print-counts $(PKG_CONFIG_PATH=$pkgconfig pkg-config --cflags --libs vehiclecount)
./print-counts "vehicletestsrc num-buffers=3 ! vehiclecounter engine=scripted ! fakesink name=out" \
    >c.txt 2>&1 || { cat c.txt; exit 1; }
step "the manual page is sound, and knows every subcommand"
groff -man -Tutf8 -ww -z usr/share/man/man1/vehicle-count.1 2>&1 | tee warnings
[ ! -s warnings ]
vehicle-count help | sed -n '/^Commands:/,/^$/s/^  \([a-z]\+\) .*/\1/p' |
    grep -v '^help$' >subcommands
while read -r subcommand; do
    grep -qi "^.SH \"VEHICLE.-COUNT $subcommand\"" usr/share/man/man1/vehicle-count.1 ||
        { echo "no word of $subcommand"; exit 1; }
done <subcommands
step "bash completes the subcommands"
cat >complete.sh <<'BASH'
. usr/share/bash-completion/completions/vehicle-count.bash
function=$(complete -p vehicle-count | sed 's/.*-F \([^ ]*\).*/\1/')
COMP_WORDS=(vehicle-count de) COMP_CWORD=1
"$function" vehicle-count de vehicle-count
echo "${COMPREPLY[0]}"
BASH
[ "$(bash complete.sh)" = demo ]
step "meson test --suite quick"
meson test -C build --no-rebuild --suite quick >log 2>&1 || { cat log; exit 1; }
step "an image's list names packages, TensorRT and DeepStream, with versions and licences"
mkdir -p image/{etc,var/lib/dpkg/info,var/lib/dpkg/updates,opt/nvidia/deepstream/deepstream,usr/share/doc/{plain,prose},usr/lib/vehiclecount/{tensorrt,tensorrt-rtx}}
echo 'ID=debian' >image/etc/os-release
for package in plain prose silent; do
    printf 'Package: %s\nStatus: install ok installed\nMaintainer: nobody\nArchitecture: all\nVersion: 1:2.0+b1\nDescription: none\n\n' "$package"
done >image/var/lib/dpkg/status
printf 'Files: *\nLicense: Expat\n\nFiles: x\nLicense: GPL-2+ or "other" one\n text\n' \
    >image/usr/share/doc/plain/copyright
echo 'The text lies in /usr/share/common-licenses/LGPL-2.1.' >image/usr/share/doc/prose/copyright
touch image/usr/lib/vehiclecount/tensorrt/libnvinfer.so.10{,.13.3}
echo 1.7.1 >image/usr/lib/vehiclecount/tensorrt-rtx/VERSION
printf 'Version: 8.0\nGCID: 1234\n' >image/opt/nvidia/deepstream/deepstream/version
"$root/docker/list-image.sh" image >image.json
python3 - <<'PYTHON' >list.txt
import json
for component in json.load(open("image.json"))["components"]:
    print(component["purl"], *(entry["license"]["name"] for entry in component["licenses"]), sep=" | ")
PYTHON
cat >wanted.txt <<'TEXT'
pkg:deb/debian/plain@1%3A2.0%2Bb1?arch=all | Expat | GPL-2+ or  other  one
pkg:deb/debian/prose@1%3A2.0%2Bb1?arch=all | LGPL-2.1
pkg:deb/debian/silent@1%3A2.0%2Bb1?arch=all | not stated: the package brings no copyright file
pkg:generic/nvidia/tensorrt@10.13.3 | NVIDIA TensorRT SLA, see /usr/lib/vehiclecount/tensorrt/licences
pkg:pypi/tensorrt-rtx-cu13-libs@1.7.1 | NVIDIA TensorRT SLA, see /usr/lib/vehiclecount/tensorrt-rtx/licences
pkg:generic/nvidia/deepstream@8.0 | NVIDIA DeepStream SDK licence, see /opt/nvidia/deepstream/deepstream/LICENSE.txt
TEXT
diff wanted.txt list.txt
step "the images' health check tells good from bad"
health=$root/docker/health.sh
sick() { if "$health" "$@" >sick.txt 2>&1; then echo "healthy: $*"; exit 1; fi; }
"$health" count counts.jsonl >/dev/null
sick count none.jsonl
sed 's/"stale":false/"stale":true/' counts.jsonl >stale.jsonl
sick count stale.jsonl
touch -d '2 minutes ago' counts.jsonl
sick count counts.jsonl
coproc SERVER { exec vehicle-count serve --port 0 --cameras 1; }
server=$SERVER_PID
trap 'kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
read -rt 60 url _ <&"${SERVER[0]}"
port=${url##*127.0.0.1:}
port=${port%%/*}
"$health" cameras "$port" >/dev/null
kill "$server"
wait "$server" || true
sick cameras "$port"
