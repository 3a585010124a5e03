#!/bin/sh
# Copies the built testbed to a folder of its own, where it needs neither the checkout nor the SDK nor git. Called by
# `testbed install`, which builds between the two steps:
#   install.sh check --prefix DIR [--destdir ROOT]    says what is wrong with DIR; writes nothing
#   install.sh copy --prefix DIR [--destdir ROOT]     copies
# DIR/bin/testbed               starts the verbs; may be linked to from anywhere
# DIR/lib/testbed/current       a link to the release in use: daemon/ (native code), program/ (.NET), scenarios/ with calibrations,
#                               workloads, migrations, schemas and setup/, and the traces that the scenarios name
# A release is written under another name and put into place by renaming, so that at each moment one whole release is there. An
# earlier one is removed, unless a process still runs from it: then by the next install. To uninstall, remove DIR/bin/testbed and
# DIR/lib/testbed. With --destdir everything goes to ROOT/DIR, for packages.
set -eu

root=$(cd -P "$(dirname "$0")/../.." && pwd)
mark="# The lazy-restore testbed, installed."

fail() {
    echo "testbed: install: $*" >&2
    exit 2
}

step=$1 prefix="" destdir=""
shift
while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --destdir) [ $# -ge 2 ] || fail "$1: missing argument; expected a directory" ;;
    esac
    case $1 in
        --prefix) prefix=$2 && shift ;;
        --prefix=*) prefix=${1#*=} ;;
        --destdir) destdir=$2 && shift ;;
        --destdir=*) destdir=${1#*=} ;;
        *) fail "unknown argument $1; expected --prefix DIR, and perhaps --destdir ROOT" ;;
    esac
    shift
done
[ -n "$prefix" ] || fail "--prefix DIR is missing; expected where to install, for example --prefix /usr/local"
case $prefix in
    /*) ;;
    *) [ -z "$destdir" ] || fail "--prefix $prefix: expected an absolute path with --destdir"; prefix=$PWD/$prefix ;;
esac
case $destdir in "" | /*) ;; *) destdir=$PWD/$destdir ;; esac
target=$destdir${prefix%/}
bin=$target/bin/testbed lib=$target/lib/testbed

# What is there already must be ours, and what is not must be possible to make.
[ ! -d "$bin" ] || fail "$bin: a directory is there; expected to write the program there"
[ ! -e "$bin" ] || grep -qF "$mark" "$bin" 2>/dev/null || fail "$bin: something else is there; expected no file, or one of an earlier install"
if [ -d "$lib" ] && [ ! -L "$lib/current" ] && [ -n "$(find "$lib" -mindepth 1 -maxdepth 1 ! -name .lock ! -name '.new-*' ! -name artifacts -print -quit)" ]; then
    fail "$lib: something else is there; expected nothing, or an earlier install"
fi
for folder in "$target/bin" "$lib"; do
    while [ ! -e "$folder" ] && [ ! -L "$folder" ] && [ "$folder" != / ]; do folder=$(dirname "$folder"); done
    [ -d "$folder" ] || fail "$folder: not a directory; expected to install below it"
    # By trying: root may write where nobody can.
    trial=$(mktemp -d "$folder/.testbed-XXXXXX" 2>/dev/null) || fail "$folder: cannot be written; expected a --prefix that you may write to"
    rmdir "$trial"
done
[ "$step" != check ] || exit 0

umask 022
mkdir -p "$target/bin" "$lib" 2>/dev/null || fail "$target: cannot be made; expected a --prefix that you may write to"
exec 9>"$lib/.lock"
flock -n 9 || fail "another install into $target is under way"
rm -rf "$lib"/.new-*
release=$(date +%Y%m%d-%H%M%S)-$$
new=$lib/.new-$release
trap 'rm -rf "$new" "$new.link" "$new.bin"' EXIT
trap 'exit 130' HUP INT TERM

# tree FROM TO: a folder, without what is for debuggers and compilers.
tree() {
    cp -R "$1" "$2" && find "$2" -type f \( -name '*.pdb' -o -name '*.dbg' -o -name '*.xml' \) -delete
}

copy() {
    mkdir "$new" "$new/scenarios" "$new/traces" || return
    tree "$root/artifacts/program" "$new/program" || return
    [ -z "${TESTBED_DAEMON-}" ] || tree "$(dirname "$TESTBED_DAEMON")" "$new/daemon" || return
    cp "$root"/scenarios/*.json "$new/scenarios/" || return
    for folder in calibrations migrations setup workloads; do
        cp -R "$root/scenarios/$folder" "$new/scenarios/$folder" || return
    done
    sed -n 's|.*"\.\./traces/\(.*\.trace\)".*|\1|p' "$root"/scenarios/*.json | sort -u | while IFS= read -r trace; do
        cp "$root/traces/$trace" "$new/traces/" || exit
    done || return
    cp "$root/LICENSE" "$new/" && chmod -R u=rwX,go=rX "$new"
}
copy 2>/dev/null || fail "$lib: could not be copied there; expected room for about 100 MB"
[ ! -d "$new/daemon" ] || "$new/daemon/testbed" page-server --help >/dev/null 2>&1 || fail "the native daemon does not start from $new; expected that programs may be run there"

cat >"$new.bin" <<END
#!/bin/sh
$mark To uninstall, remove this file and the folder ../lib/testbed beside it.
END
cat >>"$new.bin" <<'END'
set -eu
file=$0
[ ! -L "$file" ] || file=$(readlink -f "$file")
case $file in */*) file=${file%/*} ;; *) file=. ;; esac
current=$file/../lib/testbed/current
# The verbs that the daemon in native code has, as in the checkout's launcher: options may stand before the verb, and policies from
# files need the whole program.
native=
case ${1-} in
    lazy-pages | page-server) native=yes ;;
    -*) for word in "$@"; do case $word in lazy-pages | page-server) native=yes ;; esac; done ;;
esac
for word in "$@"; do case $word in --policy-*) native= ;; esac; done
[ -z "$native" ] || [ ! -x "$current/daemon/testbed" ] || exec "$current/daemon/testbed" "$@"

if ! command -v dotnet >/dev/null; then
    echo "testbed: the .NET runtime 10 is needed and dotnet is not on PATH; get it from https://dot.net/download" >&2
    exit 2
fi
# Of this release, even if another one is installed meanwhile.
current=$(cd -P "$current" && pwd)
unset TESTBED_DAEMON
if [ "${1-}" = migrate ] && [ -x "$current/daemon/testbed" ]; then
    export TESTBED_DAEMON="$current/daemon/testbed"
fi
[ $# -gt 0 ] || set -- --help
export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1
exec dotnet "$current/program/testbed.dll" "$@"
END
chmod 755 "$new.bin"

mv -T "$new" "$lib/$release"
ln -s "$release" "$new.link"
mv -T "$new.link" "$lib/current"
mv -T "$new.bin" "$bin"
trap - EXIT

for old in "$lib"/[0-9]*-[0-9]*-[0-9]*; do
    [ "$old" != "$lib/$release" ] || continue
    if grep -qsF " $(cd -P "$old" && pwd)/" /proc/[0-9]*/maps; then
        echo "testbed: $old stays until the next install: a process still runs from it" >&2
    else
        rm -rf "$old"
    fi
done
[ -d "$lib/$release/daemon" ] ||
    echo "testbed: no C compiler (clang or gcc) is here, so the .NET program serves lazy-pages and page-server, and is ready later than CRIU's" >&2
echo "installed $bin"
