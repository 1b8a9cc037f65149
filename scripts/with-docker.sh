#!/usr/bin/env bash
# Runs a command (that of the demo, or a bench) with a Docker Engine of its own, which ends with it:
# private data, socket and networks, no registry, and the machine's packet filter is left alone.
set -euo pipefail

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

die() {
    printf 'with-docker: %s\n' "$*" >&2
    if [ -s "${dir:-}/log" ]; then
        tail -n 3 "$dir/log" >&2
    fi
    exit 1
}

[ "$(id -u)" -eq 0 ] || die "only root can start a Docker Engine; run it as root, or without docker"
command -v dockerd >/dev/null || die "there is no dockerd; scripts/setup.sh engine installs it"

dir=$(mktemp -d)
socket=$dir/docker.sock
engine=

ask() {
    curl --silent --show-error --fail --unix-socket "$socket" "$@"
}

finish() {
    local status=$?
    trap - EXIT INT TERM
    if [ -n "$engine" ] && kill -0 "$engine" 2>/dev/null; then
        # The command has ended its containers; a bridge would outlive its engine.
        ask --output /dev/null -X DELETE http://engine/networks/foreshadow-demo || true
        kill -TERM "$engine"
        wait "$engine" || true
    fi
    awk -v dir="$dir/" 'index($2, dir) == 1 { print $2 }' /proc/self/mounts | sort -r |
        while read -r mount; do umount -l "$mount" || true; done
    rmdir /sys/fs/cgroup/*/"foreshadow-demo-$$" 2>/dev/null || true
    rm -rf "$dir"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A session of its own, as Ctrl-C is for the command, which ends its containers in order.
setsid dockerd --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" \
    -H "unix://$socket" --bridge=none --iptables=false --ip6tables=false --ip-forward=false \
    --ip-masq=false --shutdown-timeout=2 --cgroup-parent "/foreshadow-demo-$$" >"$dir/log" 2>&1 &
engine=$!
for _ in $(seq 300); do
    ask http://engine/_ping >/dev/null 2>&1 && break
    kill -0 "$engine" 2>/dev/null || die "the engine did not start"
    sleep 0.1
done
ask http://engine/_ping >/dev/null || die "the engine does not answer"

# The program that containers run is mounted; the image has only the libraries that it needs.
program=${FORESHADOW_BIN:-${CARGO_TARGET_DIR:-target}/demo/foreshadow}
[ -x "$program" ] || die "there is no $program; make demo or bench-shadows builds it"
mapfile -t libraries < <(ldd "$program" | grep -oE '/[^ ]+' | sed 's,^/,,' | sort -u)
tar -C / -chf "$dir/libraries.tar" "${libraries[@]}"
ask --output /dev/null -X POST --data-binary "@$dir/libraries.tar" \
    -H 'Content-Type: application/x-tar' \
    'http://engine/images/create?fromSrc=-&repo=foreshadow-demo/libraries&tag=1'
ask --output /dev/null -X POST -H 'Content-Type: application/json' \
    --data '{"Name": "foreshadow-demo"}' http://engine/networks/create

"$@" --docker "unix://$socket"
