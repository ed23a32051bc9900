#!/usr/bin/env bash
# Builds the images for real with buildah, where no Docker engine runs and no container registry is
# reached: a root made by debootstrap, of the same Debian or Ubuntu, stands in for every base, under
# the base's name. What runs without a GPU is run: as the image's user, on a read-only root.
# Needs root, some GB of disk, and minutes.
# Usage: test.sh [TARGET...]    cpu, rtx, gpu and deepstream by default
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../packaging/roots.sh
. "$(dirname "${BASH_SOURCE[0]}")/../packaging/roots.sh"
trap 'echo "docker/test.sh: failed in line $LINENO" >&2' ERR
step() { printf '%s  %s\n' "$(date +%T)" "$*"; }
[ "$(id -u)" = 0 ] ||
    { echo "docker/test.sh: roots are made by root: run it with sudo" >&2; exit 1; }
"$source_tree/tools/setup.sh" debootstrap buildah
cargo_home=${CARGO_HOME:-$HOME/.cargo} rustup_home=${RUSTUP_HOME:-$HOME/.rustup}
python=$source_tree/.runtime/lint/bin/python
[ $# -gt 0 ] || set -- cpu rtx gpu deepstream

# Everything of buildah's lies in one folder, its caches too.
mkdir -p "$roots/buildah/tmp"
export TMPDIR=$roots/buildah/tmp
b() {
    buildah --root "$roots/buildah/storage" --runroot "$roots/buildah/run" \
        --storage-driver overlay "$@"
}

base() { sed -n "s/^ARG $1=//p" "$source_tree/docker/Dockerfile"; }

# stand_in NAME SUITE [COMMAND...]: an image of that name, of a fresh root in which the command has
# run.
stand_in() {
    local name=$1 suite=$2 container
    shift 2
    if b inspect --type image "$name" >/dev/null 2>&1; then return; fi
    # The same image under all names: build stages that do the same are built once.
    if [ $# = 0 ] && b inspect --type image "standin:$suite" >/dev/null 2>&1; then
        step "the same $suite stands in for $name"
        b tag "standin:$suite" "$name"
        return
    fi
    step "a fresh $suite stands in for $name"
    fresh_root "$suite" "$roots/base"
    [ $# = 0 ] || "$@"
    container=$(b from scratch)
    cp -a "$roots/base/." "$(b mount "$container")/"
    b umount "$container" >/dev/null
    b config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    b commit --quiet --format docker --rm "$container" "$name" >/dev/null
    rm -rf "$roots/base"
    [ $# != 0 ] || b tag "$name" "standin:$suite"
}

# Libraries of TensorRT's names with nothing in them: what is tested is that they are found, copied,
# and asked for.
hollow_tensorrt() {
    local library
    for library in nvinfer nvinfer_plugin nvonnxparser; do
        echo "int getInferLibVersion(void) { return 101300; }" |
            gcc -shared -fPIC -x c - -Wl,-soname,lib$library.so.10 \
            -o "$roots/base/usr/lib/x86_64-linux-gnu/lib$library.so.10.13.0"
        ln -s lib$library.so.10.13.0 "$roots/base/usr/lib/x86_64-linux-gnu/lib$library.so.10"
    done
    chroot "$roots/base" ldconfig
}

# The file by which DeepStream tells its version.
hollow_deepstream() {
    install -D -m 644 /dev/stdin "$roots/base/opt/nvidia/deepstream/deepstream/version" \
        <<<"Version: 8.0"
}

build() {
    step "image $1"
    b build --quiet --isolation chroot --pull-never --format docker --layers \
        --file "$source_tree/docker/Dockerfile" --target "$1" \
        --volume "$cargo_home/bin:/root/.cargo/bin:ro" --volume "$rustup_home:/root/.rustup:ro" \
        --tag "vehiclecount:$1" "$source_tree" >"$roots/buildah/$1.log" 2>&1 ||
            { tail -n 30 "$roots/buildah/$1.log"; return 1; }
}

config() { b inspect --type image --format "{{$2}}" "vehiclecount:$1"; }

# in_image COMMAND...: as Docker would with `--read-only --tmpfs /tmp --cap-drop ALL`, $results as
# the volume.
in_image() {
    local environment=()
    mapfile -t environment <<<"$environment_of_image"
    # shellcheck disable=SC2016
    unshare --mount --pid --fork --kill-child bash -c '
        root=$1; results=$2; shift 2
        mount --bind "$root" "$root" && mount -o remount,bind,ro "$root" &&
            mount -t tmpfs tmpfs "$root/tmp" && mount -t tmpfs -o mode=1777 tmpfs "$root/cache" &&
            mount --bind "$results" "$root/results" && mount -t proc proc "$root/proc" &&
            mount -t sysfs -o ro sysfs "$root/sys" && mount --rbind /dev "$root/dev" && cd / &&
            exec chroot "$root" setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all env -i --chdir=/results "$@"' \
        in_image "$mounted" "$results" "${environment[@]}" "$@"
}

# The words of a service's command in compose.yml; its cameras are on this machine, on a port of
# this test's.
command_of() {
    "$python" - "$source_tree/compose.yml" "$1" "$port" <<'PYTHON'
import sys, yaml
for word in yaml.safe_load(open(sys.argv[1]))["services"][sys.argv[2]]["command"]:
    print(word.replace("//cameras:8554/", f"//127.0.0.1:{sys.argv[3]}/"))
PYTHON
}

# What of NVIDIA's must be in the image's list.
nvidia_of() {
    case $1 in
        gpu) echo tensorrt@10.13.0 ;;
        rtx) echo "tensorrt-rtx@$(sed -n 's/^TENSORRT_RTX=//p' "$source_tree/tools/runtime.sh")" ;;
        deepstream) echo deepstream@8.0 ;;
    esac
}

looks_right() {
    local target=$1 tool nvidia
    step "$target: user, health check, no build tools, a list of what is in it"
    [ "$(config "$target" .Docker.Config.User)" = 10001:10001 ]
    [[ $(config "$target" .Docker.Config.Healthcheck.Test) == *vehiclecount/health* ]]
    for tool in cc gcc g++ ld make cargo rustc meson ninja git curl pip python3; do
        [ -z "$(find "$mounted"/usr/bin "$mounted"/usr/local/bin -name "$tool")" ] ||
            { echo "$tool is in the image"; return 1; }
    done
    [ -z "$(find "$mounted" -xdev \( -name '*.rs' -o -name '*.deb' \) -not -path '*/proc/*')" ]
    mapfile -t nvidia < <(nvidia_of "$target")
    "$python" "$source_tree/packaging/check-sbom.py" gstreamer openvino onnxruntime onetbb \
        mobilenetv3-large-int8.onnx libgstreamer1.0-0 libc6 \
        "${nvidia[@]}" -- "$mounted"/usr/share/vehiclecount/sbom/*.json
    echo "          $(du -sm --one-file-system "$mounted" | cut -f1) MB unpacked"
    in_image /usr/bin/vehicle-count --version
    in_image gst-inspect-1.0 vehiclecounter >/dev/null
}

counts() {
    step "$1: counts on a read-only root, as its user"
    in_image /usr/bin/vehicle-count demo --cameras 2 --duration 15 --out /results \
        >"$roots/buildah/demo.log" 2>&1 || { cat "$roots/buildah/demo.log"; return 1; }
    [ "$(grep -c '"count":[0-9]' "$results/demo.jsonl")" -ge 10 ]
    [ -s "$results/demo.mp4" ]
    tail -n 4 "$roots/buildah/demo.log"
    step "$1: the health check tells good from bad"
    in_image /usr/libexec/vehiclecount/health count
    touch -d '2 minutes ago' "$results/demo.jsonl"
    ! in_image /usr/libexec/vehiclecount/health count || return 1
    ! in_image /usr/libexec/vehiclecount/health service 1 || return 1
    ! in_image /usr/libexec/vehiclecount/health cameras 1 || return 1
}

# Ends what in_image runs in the background: the child of the unshare below it. That one passes no
# signal on, and --kill-child is forgotten when the user changes.
cameras=
stop() {
    local child
    if [ -n "$1" ]; then
        for child in $(pgrep --parent "$1"); do pkill --parent "$child" || true; done
        wait "$1" || true
    fi
}

composed() {
    local words=() counter waited port=$((20000 + RANDOM % 10000))
    trap 'stop "$cameras"; lower; unmount' EXIT
    step "the services of compose.yml, side by side"
    rm -rf "${results:?}"/*
    mapfile -t words < <(command_of cameras)
    in_image /usr/bin/vehicle-count "${words[@]}" --port "$port" \
        >"$roots/buildah/cameras.log" 2>&1 &
    cameras=$!
    # As compose does: asked again and again until they answer.
    for ((waited = 0; waited < 60; waited++)); do
        in_image /usr/libexec/vehiclecount/health cameras "$port" >/dev/null 2>&1 && break
        in_image sleep 1
    done
    in_image /usr/libexec/vehiclecount/health cameras "$port"
    # The counter's configuration, on ports of this test's.
    sed -e "s|//cameras:8554/|//127.0.0.1:$port/|; s|0.0.0.0:8080|127.0.0.1:$((port + 1))|" \
        -e "s|/results/|/tmp/|; s|//mosquitto:|//127.0.0.1:|" \
        "$source_tree/docker/compose/counter.toml" >"$results/compose.toml"
    in_image /usr/bin/env VEHICLECOUNT_TOKEN=token-of-the-image-test \
        timeout --foreground --preserve-status --signal=TERM 60 \
        /usr/bin/vehicle-count run /results/compose.toml >"$roots/buildah/counter.log" 2>&1 &
    counter=$!
    for ((waited = 0; waited < 30; waited++)); do
        in_image /usr/libexec/vehiclecount/health service $((port + 1)) >/dev/null 2>&1 && break
        in_image sleep 1
    done
    in_image /usr/libexec/vehiclecount/health service $((port + 1))
    # As `docker stop` does: SIGTERM once (hence --foreground), and time to write what was counted.
    wait "$counter" || { cat "$roots/buildah/counter.log"; return 1; }
    stop "$cameras"
    cameras=
    for camera in north east south west; do
        grep -q "^$camera: live$" "$roots/buildah/counter.log" ||
            { echo "$camera was not live"; cat "$roots/buildah/counter.log"; return 1; }
    done
    tail -n 9 "$roots/buildah/counter.log"
}

# Nothing of it stays mounted, whatever happened.
unmount() {
    findmnt --raw --noheadings --output TARGET |
        awk -v under="$roots/buildah/" 'index($0, under) == 1' | sort -r |
        xargs --no-run-if-empty umount --lazy
}
lower() {
    if [ -n "${container:-}" ]; then
        b umount "$container" >/dev/null 2>&1 || true; b rm "$container" >/dev/null 2>&1 || true
    fi
}
trap 'lower; unmount' EXIT

for target in "$@"; do
    case $target in
        # Debian 12, and Ubuntu 24.04 in the place of Ubuntu itself and of what NVIDIA builds on it.
        cpu) stand_in "$(base CPU_BASE)" bookworm ;;
        rtx) stand_in "$(base RTX_BASE)" noble ;;
        gpu)
            stand_in "$(base TENSORRT_BASE)" noble hollow_tensorrt
            stand_in "$(base GPU_BASE)" noble ;;
        # One of its own: buildah 1.28 mounts nothing from a build stage that it found whole in its
        # cache.
        deepstream) stand_in "$(base DEEPSTREAM_BASE)" noble hollow_deepstream ;;
        *) echo "docker/test.sh: no target is called $target" >&2; exit 2 ;;
    esac
    build "$target"
    container=$(b from --pull-never "vehiclecount:$target")
    mounted=$(b mount "$container")
    environment_of_image=$(config "$target" 'range .Docker.Config.Env}}{{println .}}{{end' |
        sed '/^$/d')
    results=$roots/buildah/results-$target
    rm -rf "$results"
    install -d -o 10001 -g 10001 "$results"
    looks_right "$target"
    case $target in
        cpu) counts cpu; composed ;;
        *)
            counts "$target"
            step "$target: what the doctor says of TensorRT"
            in_image /usr/bin/vehicle-count doctor | grep -i -A1 tensorrt
            ;;
    esac
    lower
    container=
done
step "all images are sound"
