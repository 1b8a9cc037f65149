#!/usr/bin/env bash
# Foreshadow, HAProxy and nginx as reverse proxies in front of the same nginx, one worker each:
# keep-alive GETs of 100 bytes, requests per second and CPU time per request of the whole proxy.
# All proxies run side by side and take turns, so that they meet the same machine.
#
#     benches/versus/http.sh [--seconds N] [--rounds N] [--connections N] [--binary FILE]
#
# Prints JSON on standard output and progress on standard error. Needs nginx, wrk and python3;
# proxies that are not installed are left out and named. Uses loopback only, ports 18100 to 18104.
set -euo pipefail

seconds=3 rounds=5 connections=32 binary=

say() {
    printf 'versus: %s\n' "$*" >&2
}

die() {
    say "$@"
    exit 1
}

while [ "$#" -gt 0 ]; do
    [ "$#" -ge 2 ] || die "$1 needs a value"
    case "$1" in
    --seconds) seconds=$2 ;;
    --rounds) rounds=$2 ;;
    --connections) connections=$2 ;;
    --binary) binary=$(realpath "$2") ;;
    *) die "unknown option $1; known are --seconds, --rounds, --connections and --binary" ;;
    esac
    shift 2
done
for number in "$seconds" "$rounds" "$connections"; do
    [[ $number =~ ^[1-9][0-9]*$ ]] || die "$number is not a number above 0"
done

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
for tool in nginx wrk python3; do
    command -v "$tool" >/dev/null || die "$tool is not installed, nothing can be measured"
done
if [ -z "$binary" ]; then
    (cd "$repository" && cargo build --release --locked --quiet --bin foreshadow)
    target=${CARGO_TARGET_DIR:-$repository/target}
    binary=$(cd "$repository" && realpath "$target")/release/foreshadow
fi

scratch=$(mktemp -d)
pids=()
cleanup() {
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    wait
    rm -rf "$scratch"
}
trap cleanup EXIT

listening() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

for port in 18100 18101 18102 18103 18104; do
    ! listening "$port" || die "port $port is in use"
done

# The proxy has a core to itself where there are two; wrk and the backend share the rest.
proxy_cores=() other_cores=()
cores=$(nproc)
if [ "$cores" -ge 2 ] && command -v taskset >/dev/null; then
    proxy_cores=(taskset --cpu-list "$((cores - 1))")
    other_cores=(taskset --cpu-list "0-$((cores - 2))")
else
    say "one core or no taskset: the proxies share their cores with wrk and the backend"
fi

# launch NAME PORT COMMAND...: starts a server, waits until it listens and sets `started`.
launch() {
    local name=$1 port=$2 tries
    shift 2
    (cd "$scratch" && exec "$@" >/dev/null 2>"$scratch/$name.log") &
    started=$!
    pids+=("$started")
    for ((tries = 0; tries < 200; tries++)); do
        if listening "$port"; then
            return 0
        fi
        kill -0 "$started" 2>/dev/null || break
        sleep 0.05
    done
    cat "$scratch/$name.log" >&2
    die "$name does not listen on port $port"
}

launch backend 18100 "${other_cores[@]}" nginx -p "$scratch" -c "$here/backend.nginx.conf"

declare -A pid=() port=([foreshadow]=18101 [nginx]=18102 [haproxy]=18103)
names=() skipped=()
launch foreshadow "${port[foreshadow]}" "${proxy_cores[@]}" "$binary" run -c "$here/foreshadow.yaml"
pid[foreshadow]=$started
names+=(foreshadow)
launch nginx "${port[nginx]}" "${proxy_cores[@]}" nginx -p "$scratch" -c "$here/nginx.conf"
pid[nginx]=$started
names+=(nginx)
if command -v haproxy >/dev/null; then
    launch haproxy "${port[haproxy]}" "${proxy_cores[@]}" haproxy -db -f "$here/haproxy.cfg"
    pid[haproxy]=$started
    names+=(haproxy)
else
    say "SKIPPED: haproxy is not installed"
    skipped+=(haproxy)
fi

# CPU time of a process and its children in clock ticks, threads included.
cpu_ticks() {
    local process ticks total=0
    for process in "$1" $(pgrep -P "$1" || true); do
        ticks=$(sed 's/.*) //' "/proc/$process/stat" | awk '{ print $12 + $13 }')
        total=$((total + ticks))
    done
    echo "$total"
}

# measure NAME: one turn; prints "NAME requests seconds ticks".
measure() {
    local name=$1 before after report
    before=$(cpu_ticks "${pid[$name]}")
    report=$("${other_cores[@]}" wrk -t1 -c"$connections" -d"${seconds}s" \
        "http://127.0.0.1:${port[$name]}/")
    after=$(cpu_ticks "${pid[$name]}")
    if grep -E 'Socket errors|Non-2xx' <<<"$report" >&2; then
        die "$name did not serve every request"
    fi
    sed -nE 's/^ +([0-9]+) requests in ([0-9.]+)s.*/\1 \2/p' <<<"$report" |
        awk -v name="$name" -v ticks="$((after - before))" '{ print name, $1, $2, ticks }'
}

for name in "${names[@]}"; do
    measure "$name" >/dev/null # warm-up: connections, caches, allocators
done
for ((round = 1; round <= rounds; round++)); do
    say "round $round of $rounds"
    for name in "${names[@]}"; do
        measure "$name" >>"$scratch/results"
    done
done

python3 - "$scratch/results" "$(getconf CLK_TCK)" "$connections" "${skipped[@]}" <<'PYTHON'
import json
import statistics
import sys

results, hertz, connections, *skipped = sys.argv[1:]
proxies = {}
with open(results) as lines:
    for line in lines:
        name, requests, seconds, ticks = line.split()
        proxy = proxies.setdefault(name, {"requests_per_s": [], "cpu_us_per_request": []})
        proxy["requests_per_s"].append(round(int(requests) / float(seconds)))
        cpu_us = int(ticks) / int(hertz) * 1e6 / int(requests)
        proxy["cpu_us_per_request"].append(round(cpu_us, 2))
for proxy in proxies.values():
    for key in ("requests_per_s", "cpu_us_per_request"):
        proxy[f"{key}_median"] = statistics.median(proxy[key])
ours = proxies["foreshadow"]["cpu_us_per_request_median"]
print(
    json.dumps(
        {
            "what": "keep-alive GET of 100 bytes over HTTP/1.1, one worker each",
            "connections": int(connections),
            "proxies": proxies,
            "foreshadow_cpu_ratio_to": {
                name: round(ours / proxy["cpu_us_per_request_median"], 2)
                for name, proxy in proxies.items()
                if name != "foreshadow"
            },
            "skipped": skipped,
        },
        indent=2,
    )
)
PYTHON
