#!/bin/bash
# Runs a command on the first of two hosts that let root in by ssh: namespaces for network, pids and mounts each, with a cable between, and
# an sshd, an /run, a TMPDIR and a home of root's own. They are root@10.78.0.1 and root@10.78.0.2. Usage: two-ssh-hosts.sh COMMAND ...
set -e
keys=$(mktemp -d)
export TMPDIR=$keys/tmp
mkdir "$TMPDIR"
ssh-keygen -q -t ed25519 -N '' -f "$keys/key"
hosts=()
trap 'kill -9 "${hosts[@]}" 2>/dev/null; rm -rf "$keys"' EXIT
for n in 1 2; do
    unshare -n -p -m -f --mount-proc sleep 3600 &
    outer=$!
    until host=$(cat "/proc/$outer/task/$outer/children" 2>/dev/null | tr -d ' ') && [[ $host && $(cat "/proc/$host/comm") == sleep ]]; do sleep 0.02; done
    hosts+=("$host")
done
ip link add eth0 netns "${hosts[0]}" type veth peer name eth0 netns "${hosts[1]}"
for n in 1 2; do
    nsenter -t "${hosts[n - 1]}" -n -p -m -- bash -ec "
        ip addr add 10.78.0.$n/24 dev eth0; ip link set eth0 up; ip link set lo up
        mkdir -p /root/.ssh /run/sshd
        mount -t tmpfs run /run; mount -t tmpfs home /root/.ssh
        mkdir -p /run/sshd; chmod 700 /root/.ssh
        cp '$keys/key' /root/.ssh/id_ed25519; cp '$keys/key.pub' /root/.ssh/authorized_keys
        printf 'StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n' >/root/.ssh/config
        mount -t tmpfs tmp '$TMPDIR'
        /usr/sbin/sshd -f /dev/null -h /root/.ssh/id_ed25519 -o PidFile=none -o PermitRootLogin=yes -o StrictModes=no -o UsePAM=no"
done
nsenter -t "${hosts[0]}" -n -p -m -- "$@"
