#!/bin/sh
# Installs what the tests and the live runs need on Debian 12. Run as root; run again at will: when all is there it
# does nothing. Prints what it does, and one line about what it cannot do.
set -eu

# Each Debian package with a file that tells that it is there. The packages of scenarios/workloads are all in it.
wanted="
redis-server:/usr/bin/redis-server
redis-tools:/usr/bin/redis-benchmark
memcached:/usr/bin/memcached
python3:/usr/bin/python3
nodejs:/usr/bin/node
openjdk-17-jdk-headless:/usr/bin/javac
postgresql-15:/usr/lib/postgresql/15/bin/postgres
rocksdb-tools:/usr/bin/db_bench
gcc:/usr/bin/gcc
libc6-dev:/usr/include/stdio.h
linux-libc-dev:/usr/include/linux/userfaultfd.h
iproute2:/usr/sbin/ip
util-linux:/usr/bin/setsid
runc:/usr/sbin/runc
openssh-server:/usr/sbin/sshd
openssh-client:/usr/bin/ssh
zstd:/usr/bin/zstd
poppler-utils:/usr/bin/pdffonts
chromium:/usr/bin/chromium
jupyter-nbconvert:/usr/bin/jupyter-nbconvert
python3-ipykernel:/usr/lib/python3/dist-packages/ipykernel/__init__.py
python3-pandas:/usr/lib/python3/dist-packages/pandas/__init__.py
python3-matplotlib:/usr/lib/python3/dist-packages/matplotlib/__init__.py
"

missing=""
for entry in $wanted; do
    [ -e "${entry#*:}" ] || missing="$missing ${entry%%:*}"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "setup: not root, so not installed:$missing (what needs them is skipped); run: sudo $0" >&2
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "setup: no apt-get here, so not installed:$missing; install their equivalents by hand" >&2
    exit 0
fi

echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive

# The packages start services of their own; a policy of "never" keeps ports and memory free for the tests.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi

install() {
    # shellcheck disable=SC2086 # the list is words
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
# The package lists may be absent or older than the archive: fetch them only then.
install 2>/dev/null || { apt-get update -qq && install; }
