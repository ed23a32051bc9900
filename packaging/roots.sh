# shellcheck shell=bash
# Fresh Debian roots for tests that must not see this machine: made by debootstrap, entered in a mount namespace of their own, so that
# nothing stays mounted. Needs root. This machine's way to its package mirrors and its certificates are copied in: into roots, which are
# thrown away, never into what is built.
source_tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
roots=$source_tree/.runtime/roots
mkdir -p "$roots"

# fresh_root SUITE FOLDER: a minimal Debian.
fresh_root() {
    local suite=$1 folder=$2 tar=$roots/$1.tar
    if ! [ -e "$tar" ]; then
        rm -rf "$folder"
        # The mirror of Debian that apt uses here, or else debootstrap's own.
        local mirror
        # shellcheck disable=SC2016
        mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(SUITE) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "Debian" && $2 == "Debian" { print $NF; exit }')
        debootstrap --variant=minbase "$suite" "$folder" ${mirror:+"$mirror"} >"$roots/$suite.log" 2>&1 \
            || { tail -n 5 "$roots/$suite.log"; return 1; }
        rm -rf "$folder"/var/cache/apt/archives/*.deb
        # A root that is thrown away need not survive a power cut.
        echo force-unsafe-io >"$folder/etc/dpkg/dpkg.cfg.d/unsafe-io"
        local file
        grep -ls Acquire /etc/apt/apt.conf.d/* | while read -r file; do cp "$file" "$folder/etc/apt/apt.conf.d/"; done
        mkdir -p "$folder/etc/ssl/certs" "$folder/usr/local/share/ca-certificates"
        cp -L /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/"
        # Whatever installs certificates in the root finds ours among them.
        awk -v folder="$folder/usr/local/share/ca-certificates" '/BEGIN CERT/ { file = sprintf("%s/host-%03d.crt", folder, ++n) } { print > file }' \
            /etc/ssl/certs/ca-certificates.crt
        if [ -e /etc/pip.conf ]; then cp /etc/pip.conf "$folder/etc/"; fi
        tar -C "$folder" -cf "$tar.new" .
        mv "$tar.new" "$tar"
        return
    fi
    rm -rf "$folder"
    mkdir -p "$folder"
    tar -C "$folder" -xf "$tar"
}

# in_root FOLDER [--bind FROM TO]... COMMAND...: runs there, as root, with this machine's network and resolver.
in_root() {
    local folder=$1 mounts=()
    shift
    while [ "$1" = --bind ]; do
        mkdir -p "$folder$3"
        mounts+=(mount --bind "$2" "$folder$3" "&&")
        shift 3
    done
    cp -L /etc/resolv.conf /etc/hosts "$folder/etc/"
    # shellcheck disable=SC2016
    unshare --mount --pid --fork bash -c '
        folder=$1; mounts=$2; shift 2
        mount -t proc proc "$folder/proc" && mount -t sysfs -o ro sysfs "$folder/sys" && mount --rbind /dev "$folder/dev" && eval "$mounts true" && cd / &&
        exec chroot "$folder" /usr/bin/env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
            PATH=/root/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"' in_root "$folder" "${mounts[*]}" "$@"
}
