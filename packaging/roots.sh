# shellcheck shell=bash
# Fresh Debian and Ubuntu roots for tests that must not see this machine: made by debootstrap,
# entered in a mount namespace of their own, so that nothing stays mounted. Needs root. This
# machine's way to its package mirrors and its certificates are copied in: into roots, which are
# thrown away, never into what is built.
source_tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
roots=$source_tree/.runtime/roots
mkdir -p "$roots"

# mirror_of NAME: where apt here gets packages of that distribution; nothing where it gets none.
mirror_of() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(ORIGIN) $(LABEL) $(SUITE) $(REPO_URI)' 'Created-By: Packages' |
        awk -v name="$1" '!found && $1 == name && $2 == name { print $NF; found = 1 }'
}

# fresh_root SUITE FOLDER: a minimal Debian (bookworm, trixie) or Ubuntu (jammy, noble).
fresh_root() {
    local suite=$1 folder=$2 tar=$roots/$1.tar how
    if ! [ -e "$tar" ]; then
        rm -rf "$folder"
        case $suite in
            # The last word is the script that makes one: an old debootstrap knows no new suites.
            # Debian has no keyring of Ubuntu's: debootstrap then warns, takes the packages
            # unchecked, and of itself Debian's mirror, so that it is told the one in its own
            # script.
            jammy | noble)
                local script=/usr/share/debootstrap/scripts/gutsy mirror
                mirror=$(mirror_of Ubuntu)
                mirror=${mirror:-$(awk '$1 == "default_mirror" && !/old-releases/ && !found++ { print $2 }' "$script")}
                how=("--components=main,universe" "$suite" "$folder" "$mirror" "$script")
                ;;
            *) how=("$suite" "$folder" "$(mirror_of Debian)" /usr/share/debootstrap/scripts/sid) ;;
        esac
        debootstrap --variant=minbase "${how[@]}" >"$roots/$suite.log" 2>&1 ||
            { tail -n 5 "$roots/$suite.log"; return 1; }
        rm -rf "$folder"/var/cache/apt/archives/*.deb
        # A root that is thrown away need not survive a power cut.
        echo force-unsafe-io >"$folder/etc/dpkg/dpkg.cfg.d/unsafe-io"
        local file
        grep -ls Acquire /etc/apt/apt.conf.d/* |
            while read -r file; do cp "$file" "$folder/etc/apt/apt.conf.d/"; done
        mkdir -p "$folder/etc/ssl/certs" "$folder/usr/local/share/ca-certificates"
        cp -L /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/"
        # Whatever installs certificates in the root finds ours among them.
        awk -v folder="$folder/usr/local/share/ca-certificates" \
            '/BEGIN CERT/ { file = sprintf("%s/host-%03d.crt", folder, ++n) } { print > file }' \
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

# in_root FOLDER [--bind FROM TO]... COMMAND...: runs there, as root, with this machine's network
# and resolver.
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
        mount -t proc proc "$folder/proc" && mount -t sysfs -o ro sysfs "$folder/sys" &&
        mount --rbind /dev "$folder/dev" && eval "$mounts true" && cd / &&
        exec chroot "$folder" /usr/bin/env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
            PATH=/root/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"' in_root "$folder" "${mounts[*]}" "$@"
}
