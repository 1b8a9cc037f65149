#!/usr/bin/env bash
# Runs the tests of the Kubernetes provider against a real API server, with etcd, the controllers and the
# scheduler beside it, all on loopback and all ended afterwards. The programs are built once
# (scripts/build-kubernetes.sh), or found in $FORESHADOW_KUBERNETES_DIR.
#
# THERE IS NO KUBELET: nodes and their containers are played by the tests, which write the status of pods
# and run a process for each.
set -euo pipefail

say() {
    printf 'test-k8s: %s\n' "$*" >&2
}

die() {
    say "$@"
    for log in "${dir:-}"/*.log; do
        if [ -s "$log" ]; then
            say "the end of $log:"
            tail -n 5 "$log" >&2
        fi
    done
    exit 1
}

cd "$(dirname "$0")/.."
programs=$(scripts/build-kubernetes.sh)
PATH=$programs:$PATH:/usr/sbin:/sbin
for tool in etcd curl openssl; do
    command -v "$tool" >/dev/null || die "there is no $tool; install it"
done

dir=$(mktemp -d)
started=()

finish() {
    local status=$? pid
    trap - EXIT INT TERM
    # The last one started is the first to end; etcd is needed to the end.
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do
        pid=${started[i]}
        kill -TERM "$pid" 2>/dev/null || continue
        for _ in $(seq 50); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
    done
    if [ "$status" -ne 0 ] && [ -n "${KEEP:-}" ]; then
        say "logs are kept in $dir"
    else
        rm -rf "$dir"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start NAME COMMAND...: in the background, ended with this script.
start() {
    local name=$1
    shift
    "$@" >"$dir/$name.log" 2>&1 &
    started+=("$!")
}

# wait_for SECONDS WHAT COMMAND...
wait_for() {
    local seconds=$1 what=$2 end=$((SECONDS + $1))
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || die "$what did not come up in $seconds s"
        for pid in "${started[@]}"; do
            kill -0 "$pid" 2>/dev/null || die "a program ended while $what was waited for"
        done
        sleep 0.1
    done
}

# Ports that nobody has now; one that is taken meanwhile ends the run, it does not disturb another's.
mapfile -t ports < <(python3 - <<'END'
import socket
sockets = [socket.socket() for _ in range(5)]
for one in sockets:
    one.bind(("127.0.0.1", 0))
for one in sockets:
    print(one.getsockname()[1])
END
)
etcd=http://127.0.0.1:${ports[0]}
server=https://127.0.0.1:${ports[2]}
token=$(openssl rand -hex 16)
openssl genrsa -out "$dir/account.key" 2048 2>/dev/null
openssl rsa -in "$dir/account.key" -pubout -out "$dir/account.pub" 2>/dev/null
echo "$token,admin,admin,\"system:masters\"" >"$dir/tokens.csv"
echo "limited-$token,limited,limited" >>"$dir/tokens.csv"

start etcd etcd --data-dir "$dir/etcd" --unsafe-no-fsync --listen-client-urls "$etcd" \
    --advertise-client-urls "$etcd" --listen-peer-urls "http://127.0.0.1:${ports[1]}"
wait_for 30 etcd curl -sf "$etcd/health"
start apiserver kube-apiserver --etcd-servers="$etcd" --bind-address=127.0.0.1 --secure-port="${ports[2]}" \
    --insecure-port=0 --cert-dir="$dir/certs" --token-auth-file="$dir/tokens.csv" \
    --authorization-mode=RBAC --service-account-issuer=https://kubernetes.invalid \
    --service-account-key-file="$dir/account.pub" --service-account-signing-key-file="$dir/account.key" \
    --service-cluster-ip-range=10.96.0.0/16 --disable-admission-plugins=ServiceAccount
ask() {
    curl -sf --cacert "$dir/certs/apiserver.crt" -H "Authorization: Bearer $token" "$@"
}
wait_for 120 "the API server" ask "$server/readyz"

# kubeconfig FILE TOKEN
kubeconfig() {
    cat >"$1" <<EOF
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "$server", certificate-authority: $dir/certs/apiserver.crt}}]
users: [{name: test, user: {token: $2}}]
contexts: [{name: test, context: {cluster: test, user: test, namespace: default}}]
current-context: test
EOF
}
kubeconfig "$dir/kubeconfig" "$token"
kubeconfig "$dir/limited" "limited-$token"

start controllers kube-controller-manager --kubeconfig="$dir/kubeconfig" --port=0 \
    --secure-port="${ports[3]}" --bind-address=127.0.0.1 --cert-dir="$dir/certs" --leader-elect=false \
    --service-account-private-key-file="$dir/account.key"
start scheduler kube-scheduler --kubeconfig="$dir/kubeconfig" --port=0 \
    --secure-port="${ports[4]}" --bind-address=127.0.0.1 --cert-dir="$dir/certs" --leader-elect=false

say "API server $(ask "$server/version" | sed -n 's/.*"gitVersion": "\(.*\)".*/\1/p') is up after $SECONDS s;"
say "THERE IS NO KUBELET: the tests play the nodes and write the status of pods themselves"
FORESHADOW_TEST_KUBECONFIG=$dir/kubeconfig FORESHADOW_TEST_KUBECONFIG_LIMITED=$dir/limited "$@"
