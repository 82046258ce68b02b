# shellcheck shell=sh
# Functions for scripts that run something in a Debian of its own, in a folder. Sourced; needs root.

# debian_make FOLDER SUITE PACKAGES: lays it there with debootstrap, unless it is there already.
debian_make() {
    folder=$1 suite=$2 packages=$3
    if [ "$(id -u)" != 0 ]; then
        echo "error: a Debian in a folder (debootstrap, chroot) takes root" >&2
        exit 1
    fi
    if [ ! -e "$folder/etc/debian_version" ] || [ -e "$folder/debootstrap" ]; then
        tools/system.sh debootstrap
        echo "laying Debian $suite into $folder"
        rm -rf "$folder"
        mkdir -p "$(dirname "$folder")"
        # MIRROR: where to fetch from, if not from debootstrap's default.
        # shellcheck disable=SC2086
        debootstrap --variant=minbase --include="$packages" "$suite" "$folder" ${MIRROR:-} >"$folder.log" 2>&1 ||
            { tail -n 20 "$folder.log" >&2; exit 1; }
    fi
    # What this machine needs to reach the network: names, certificates, the settings of apt and pip.
    cp -L /etc/resolv.conf /etc/hosts "$folder/etc/"
    for file in /etc/ssl/certs/ca-certificates.crt /etc/pip.conf "${SSL_CERT_FILE:-}" "${PIP_CERT:-}" /etc/apt/apt.conf \
        /etc/apt/apt.conf.d/*proxy*; do
        if [ -f "$file" ]; then
            mkdir -p "$folder$(dirname "$file")"
            cp -L "$file" "$folder$file"
        fi
    done
    echo 'Acquire::Check-Valid-Until "false";' >"$folder/etc/apt/apt.conf.d/99valid"
    rm -f "$folder/usr/sbin/policy-rc.d"
    printf '#!/bin/sh\nexit 101\n' >"$folder/usr/sbin/policy-rc.d" # no service starts in there
    chmod +x "$folder/usr/sbin/policy-rc.d"
}

# debian_run FOLDER COMMAND...: runs it in there as root, with /proc, /dev/shm and /dev/pts (terminals), in a mount name
# space that ends with it.
# Of the environment only what leads to the network goes along.
debian_run() {
    folder=$1
    shift
    set -- env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY SSL_CERT_FILE PIP_CERT PIP_INDEX_URL \
        PIP_DEFAULT_TIMEOUT REQUESTS_CA_BUNDLE; do
        eval "value=\${$name:-}"
        if [ -n "$value" ]; then
            # After `env -i` is the place for a variable.
            shift 2
            set -- env -i "$name=$value" "$@"
        fi
    done
    # shellcheck disable=SC2016
    unshare --mount sh -c 'folder=$1; shift
        mount -t proc proc "$folder/proc" && mount -t tmpfs tmpfs "$folder/dev/shm" &&
            mount -t devpts devpts "$folder/dev/pts" && exec chroot "$folder" "$@"' \
        - "$folder" "$@"
}

# debian_python FOLDER PREFIX CONFIGURE-OPTIONS: builds free-threaded Python 3.13 in there from Debian's source package.
debian_python() {
    folder=$1 prefix=$2 options=$3
    if [ -x "$folder$prefix/bin/python3.13t" ]; then
        return
    fi
    echo "building free-threaded Python 3.13 in $folder (${options:-plain})"
    sed -n 's/^deb \(.*\) sid main.*/deb-src \1 trixie main/p' "$folder/etc/apt/sources.list" | head -n 1 \
        >"$folder/etc/apt/sources.list.d/source.list"
    # Installed in one piece at the end, so that a build that was interrupted is not taken for one.
    # shellcheck disable=SC2016
    debian_run "$folder" env prefix="$prefix" options="$options" DEBIAN_FRONTEND=noninteractive sh -ec '
        apt-get -q update
        apt-get -q -y install --no-install-recommends dpkg-dev libbz2-dev libffi-dev libssl-dev xz-utils
        rm -rf "$prefix" /usr/src/python && mkdir /usr/src/python && cd /usr/src/python
        apt-get -q source --download-only python3.13
        tar xf python3.13_*.orig.tar.xz && cd Python-3.13*
        ./configure -q --disable-gil --disable-test-modules --prefix="$prefix" $options
        make -s -j2
        # To compile all of the library beforehand takes long under a sanitizer; its top folder is enough.
        make -s install DESTDIR=/usr/src/python/root COMPILEALL_OPTS="-r 0"
        if [ -d Tools/tsan ]; then cp -r Tools/tsan "/usr/src/python/root$prefix/"; fi
        mv "/usr/src/python/root$prefix" "$prefix"' >"$folder.python.log" 2>&1 ||
        { tail -n 20 "$folder.python.log" >&2; exit 1; }
}

SID_PACKAGES=ca-certificates,gcc,git,make,memcached,nutcracker,python3,zlib1g-dev
SID_PACKAGES=$SID_PACKAGES,python3.14,python3.14-dev,python3.14-venv,python3.15,python3.15-dev,python3.15-venv

# debian_tree FOLDER: puts the files of the working tree at /srv/mcext in there; what was built before stays.
debian_tree() {
    mkdir -p "$1/srv/mcext"
    find "$1/srv/mcext" -mindepth 1 -maxdepth 1 ! -name build ! -name .venv -exec rm -rf {} +
    tools/copy.sh "$1/srv/mcext"
}
