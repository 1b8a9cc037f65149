#!/usr/bin/env bash
# Builds the API server, the controllers and the scheduler of Kubernetes 1.20 from Debian's source package
# with Debian's Go, once: 5 to 15 minutes on two cores and 4 GB of disk while it builds, 350 MB after.
# Prints the directory of the programs. They are kept outside the repository, in
# $FORESHADOW_KUBERNETES_DIR, or in foreshadow/kubernetes-1.20.2 of $XDG_CACHE_HOME (~/.cache).
# Programs that are there already, of whatever version, are used as they are.
set -euo pipefail

VERSION=1.20.2
PROGRAMS=(kube-apiserver kube-controller-manager kube-scheduler)
LONGEST_S=3600

say() {
    printf 'build-kubernetes: %s\n' "$*" >&2
}

die() {
    say "$@"
    exit 1
}

dir=${FORESHADOW_KUBERNETES_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/foreshadow/kubernetes-$VERSION}
missing=()
for program in "${PROGRAMS[@]}"; do
    [ -x "$dir/$program" ] || missing+=("$program")
done
if [ "${#missing[@]}" -eq 0 ]; then
    echo "$dir"
    exit 0
fi

hint="put ${PROGRAMS[*]} of any version into $dir, and etcd on the path"
[ "$(id -u)" -eq 0 ] || die "only root can install what builds it; run it as root, or $hint"
sources=/etc/apt/sources.list.d/debian.sources
if ! grep -qs 'VERSION_CODENAME=bookworm' /etc/os-release || [ ! -e "$sources" ]; then
    die "it is built from a source package of Debian 12 only; elsewhere $hint"
fi

mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9
work=$dir/work
rm -rf "$work"
mkdir -p "$work"/{lists/partial,archives/partial,state,etc/preferences.d,etc/apt.conf.d,home,tree}
trap 'rm -rf "$work"' EXIT

say "building ${missing[*]} $VERSION once; this takes minutes"
export DEBIAN_FRONTEND=noninteractive
tools=(curl dpkg-dev etcd-server golang-1.19-go golang-github-modern-go-reflect2-dev make openssl patch rsync)
if ! apt-get install -y -qq --no-install-recommends "${tools[@]}" >/dev/null 2>&1; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${tools[@]}" >/dev/null
fi

# Lists of source packages of its own, so that those of the machine stay as they are.
mirror=$(sed -n 's/^URIs: *//p' "$sources" | head -n 1)
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" >"$work/etc/sources.list"
: >"$work/state/status"
cat >"$work/apt.conf" <<EOF
Dir::Etc "$work/etc";
Dir::Etc::sourcelist "$work/etc/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "$work/state";
Dir::State::lists "$work/lists";
Dir::State::status "$work/state/status";
Dir::Cache "$work";
EOF
(
    cd "$work"
    export APT_CONFIG=$work/apt.conf
    apt-get update -qq
    # The sources are only read: the user that apt drops to may not enter this directory.
    apt-get source -qq --download-only -o APT::Sandbox::User=root kubernetes
) >&2
tar -xf "$work"/kubernetes_*.orig.tar.gz -C "$work/tree" --strip-components=1
tar -xf "$work"/kubernetes_*.debian.tar.xz -C "$work/tree"
cd "$work/tree"
while read -r name; do
    patch -p1 -s <"debian/patches/$name"
done < <(grep -vE '^(#|$)' debian/patches/series)
# The copy of reflect2 in the tree is older than the maps of Go 1.18, and panics with them.
rm -rf vendor/github.com/modern-go/reflect2/*
cp /usr/share/gocode/src/github.com/modern-go/reflect2/*.{go,s} vendor/github.com/modern-go/reflect2/

export PATH=/usr/lib/go-1.19/bin:$PATH HOME=$work/home GOCACHE=$work/gocache GOFLAGS=-mod=vendor
export KUBE_GIT_TREE_STATE=archive KUBE_GIT_COMMIT=0 KUBE_GIT_VERSION=v$VERSION KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20
timeout "$LONGEST_S" nice -n 5 make WHAT="${PROGRAMS[*]/#/cmd/}" >"$dir/build.log" 2>&1 ||
    die "it was not built: $(tail -n 3 "$dir/build.log" | tr '\n' ' '), see $dir/build.log"
cp _output/local/bin/linux/*/kube-* "$dir"
say "built in $SECONDS s"
echo "$dir"
