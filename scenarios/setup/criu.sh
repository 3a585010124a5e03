#!/bin/sh
# Puts a CRIU that works on new kernels (4.2 or newer, from Debian testing) into a folder of its own, with its own libc, and
# leaves the system as it is: Debian 12's CRIU fails on kernels with another vdso, Debian 13's on sockets of Linux 6.16 and newer.
# Usage: criu.sh [FOLDER]     default: artifacts/criu of this checkout, or beside the releases of an installed testbed; afterwards
# FOLDER/criu and FOLDER/crit are there.
# Needs apt-get and dpkg and a network, no root to install (CRIU itself wants root). Run again at will: what is there
# stays, and nothing is fetched. Remove the folder to get a newer one.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
home=$here/../..
[ ! -L "$home/../current" ] || home=$home/..
folder=${1:-$home/artifacts/criu}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
root=$folder/root
keys=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

fail() {
    echo "criu.sh: $*" >&2
    exit 2
}

# Only whole installations have the mark.
if [ ! -e "$folder/.installed" ]; then
    for tool in apt-get dpkg; do
        command -v $tool >/dev/null || fail "$tool is not here; expected a Debian or a derivative of it"
    done
    [ -e $keys ] || fail "$keys is not here; expected the package debian-archive-keyring"
    rm -rf "$root" "$folder/apt"
    mkdir -p "$root" "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
    echo "deb [signed-by=$keys] $mirror testing main" >"$folder/apt/sources.list"

    # An apt that knows of nothing but this folder: own sources, own lists, and no package counts as installed, so that libc and
    # all other libraries come along.
    private_apt() {
        apt-get -qq -y -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
            -o Dir::Etc::SourceList="$folder/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
            -o Dir::State="$folder/apt" -o Dir::State::Lists="$folder/apt/lists" -o Dir::State::status=/dev/null \
            -o Dir::Cache="$folder/apt/cache" "$@"
    }
    echo "criu.sh: fetching CRIU from Debian testing into $folder" >&2
    private_apt update || fail "the package lists of $mirror cannot be fetched"
    private_apt install --no-install-recommends --download-only criu python3-pycriu >/dev/null ||
        fail "the packages criu and python3-pycriu of Debian testing cannot be fetched"
    for package in "$folder"/apt/cache/archives/*.deb; do
        dpkg -x "$package" "$root"
    done
    rm -rf "$folder/apt"
fi

loader=$(ls "$root"/usr/lib64/ld-linux-*.so.* "$root"/usr/lib/ld-linux-*.so.* 2>/dev/null | head -n 1)
[ -n "$loader" ] || fail "$root has no dynamic loader; remove $folder and run this again"
libraries=$(dirname "$(ls "$root"/usr/lib/*/libc.so.6 | head -n 1)")

# wrapper NAME PROGRAM [ARGUMENT]: runs a program of the folder with the folder's own loader and libraries.
wrapper() {
    {
        # -p: CRIU may be run with another real user than the effective one, which the shell would take back.
        echo "#!/bin/sh -p"
        [ $# -lt 3 ] || echo "export PYTHONHOME='$root/usr' PYTHONPATH='$root/usr/lib/python3/dist-packages'"
        echo "exec '$loader' --library-path '$libraries' '$2' ${3:+-s '$3'} \"\$@\""
    } >"$folder/$1.new"
    chmod 755 "$folder/$1.new"
    mv "$folder/$1.new" "$folder/$1"
}
wrapper criu "$root/usr/sbin/criu"
wrapper crit "$(ls "$root"/usr/bin/python3.[0-9]* | head -n 1)" "$root/usr/bin/crit"

version=$("$folder/criu" --version | sed -n 's/^Version: //p')
[ -n "$version" ] || fail "$folder/criu does not run; remove $folder and run this again"
"$folder/crit" --help >/dev/null || fail "$folder/crit does not run; remove $folder and run this again"
touch "$folder/.installed"
echo "CRIU $version: $folder/criu, $folder/crit"

# For want of CAP_SYS_RESOURCE (containers), CRIU's dump meets this limit in tee(2) and fails with EPERM.
limit=$(cat /proc/sys/fs/pipe-user-pages-soft 2>/dev/null || echo 0)
[ "$limit" = 0 ] || echo "before a dump here: sysctl fs.pipe-user-pages-soft=0 (it is $limit; needed without CAP_SYS_RESOURCE)"

# Its page server, and its dump with --lazy-pages, ask for a pipe of 819 pages, which the kernel rounds up to 4 MiB, and do not notice
# when they do not get it: "tee" and "splice: Bad file descriptor".
size=$(cat /proc/sys/fs/pipe-max-size 2>/dev/null || echo 4194304)
[ "$size" -ge 4194304 ] || echo "before CRIU serves pages here: sysctl fs.pipe-max-size=4194304 (it is $size; needed without CAP_SYS_RESOURCE)"
