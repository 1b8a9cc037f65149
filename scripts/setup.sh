#!/usr/bin/env bash
# Installs what is missing for the goals given (build, engine, test, check); does nothing when all is there.
#
# System packages are installed with apt where we are root on Debian or Ubuntu. Anywhere else the
# script says exactly what to install and ends with status 1.
set -euo pipefail

NEXTEST_VERSION=0.9.143
DENY_VERSION=0.20.2

missing=()

# Servers are installed where an ordinary user's path on Debian does not lead.
PATH=$PATH:/usr/local/sbin:/usr/sbin

say() {
    printf 'setup: %s\n' "$*" >&2
}

have() {
    command -v "$1" >/dev/null 2>&1
}

need() {
    have "$1" || missing+=("$1")
}

# The tests of containers start an engine of their own, which only root can: for others they are
# skipped, and say so.
need_engine() {
    [ "$(id -u)" -eq 0 ] || return 0
    need dockerd
    need openssl
    need setpriv
}

# The tests of virtual machines run one in QEMU, on a kernel of Debian's that is unpacked, not
# installed: for others than root on Debian they are skipped, and say so.
need_machine() {
    [ "$(id -u)" -eq 0 ] && [ "$(uname -m)" = x86_64 ] && have apt-get || return 0
    need qemu-system-x86_64
}

# Where the kernel of the tests is kept, with the modules that they load: FORESHADOW_TEST_KERNEL, or
# foreshadow/kernel in the user's cache.
test_kernel() {
    local kept scratch package
    kept=${FORESHADOW_TEST_KERNEL:-${XDG_CACHE_HOME:-$HOME/.cache}/foreshadow/kernel}
    [ ! -e "$kept/vmlinuz" ] && have qemu-system-x86_64 && have apt-get || return 0
    scratch=$(mktemp -d)
    # Left out where it cannot be had: the tests say that they were skipped.
    if package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: //p') &&
        [ -n "$package" ] && say "fetching $package for the tests, which is not installed" &&
        (cd "$scratch" && apt-get download -qq "$package" 2>/dev/null); then
        dpkg-deb -x "$scratch"/*.deb "$scratch/all"
        mkdir -p "$kept"
        find "$scratch/all/lib/modules" -name '*.ko' -exec cp {} "$kept/" \;
        # Last: that it is there says that all is.
        cp "$scratch"/all/boot/vmlinuz-* "$kept/vmlinuz.part"
        mv "$kept/vmlinuz.part" "$kept/vmlinuz"
    else
        say "no kernel for the tests of virtual machines can be fetched; they are skipped"
    fi
    rm -rf "$scratch"
}

# A compiler without headers or a linker is common in small images, so it has to prove itself.
need_c_compiler() {
    local scratch works=no
    scratch=$(mktemp -d)
    printf '#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n' >"$scratch/probe.c"
    if have cc && cc -o "$scratch/probe" "$scratch/probe.c" 2>/dev/null; then
        works=yes
    fi
    rm -rf "$scratch"
    [ "$works" = yes ] || missing+=(cc)
}

# Prints the packages of one package manager that hold the missing tools.
packages() {
    local manager=$1 tool
    for tool in "${missing[@]}"; do
        case "$manager:$tool" in
        apt:cc) echo gcc libc6-dev ;;
        apt:dockerd) echo docker.io ;;
        apt:qemu-system-x86_64) echo qemu-system-x86 ;;
        apk:dockerd) echo docker-engine ;;
        dnf:dockerd) echo moby-engine ;;
        *:setpriv) echo util-linux ;;
        dnf:cc) echo gcc glibc-devel ;;
        apk:cc) echo gcc musl-dev ;;
        brew:cc) echo gcc ;;
        brew:python3) echo python ;;
        *) echo "$tool" ;;
        esac
    done | tr '\n' ' ' | sed 's/ $//'
}

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    local names
    read -ra names <<<"$(packages apt)"
    say "installing with apt: ${names[*]}"
    # The package lists may be absent or stale; refreshing them costs seconds, so only then.
    if ! apt-get install -y -qq --no-install-recommends "${names[@]}" >/dev/null 2>&1; then
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "${names[@]}" >/dev/null
    fi
}

say_what_to_install() {
    say "missing: ${missing[*]}. Install them, then run make again:"
    say "  Debian, Ubuntu:  sudo apt-get install --no-install-recommends $(packages apt)"
    say "  Fedora, RHEL:    sudo dnf install $(packages dnf)"
    say "  Alpine:          sudo apk add $(packages apk)"
    say "  Homebrew:        brew install $(packages brew)"
}

install_missing() {
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" -eq 0 ] && have apt-get; then
        apt_install
    else
        say_what_to_install
        exit 1
    fi
}

wanted_rust() {
    sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml
}

need_rust() {
    local wanted found
    wanted=$(wanted_rust)
    if ! have cargo || ! found=$(rustc --version 2>/dev/null); then
        say "no Rust toolchain. Install rustup as shown on https://rustup.rs, then run:"
        say "  rustup toolchain install $wanted --profile default"
        exit 1
    fi
    found=$(sed -E 's/^rustc ([0-9]+\.[0-9]+).*/\1/' <<<"$found")
    if [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
        say "rustc $found is too old, $wanted or newer is needed. Run: rustup update stable"
        exit 1
    fi
}

# need_component SUBCOMMAND COMPONENT
need_component() {
    cargo "$1" --version >/dev/null 2>&1 && return 0
    if have rustup; then
        say "adding the $2 component"
        rustup component add "$2"
    else
        say "cargo $1 is missing: install the $2 package that belongs to your rustc"
        exit 1
    fi
}

# need_cargo_tool SUBCOMMAND VERSION
need_cargo_tool() {
    cargo "$1" --version >/dev/null 2>&1 && return 0
    say "building cargo-$1 $2 once; this takes a few minutes"
    # Tools that run for seconds need no link-time optimisation, which is a third of their build.
    # Their build must not fall into a target directory that is kept or shared, either.
    local scratch
    scratch=$(mktemp -d)
    CARGO_TARGET_DIR="$scratch" CARGO_PROFILE_RELEASE_LTO=off \
        CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo install --locked --quiet "cargo-$1" --version "$2"
    rm -rf "$scratch"
}

cd "$(dirname "$0")/.."
[ "$#" -gt 0 ] || set -- build test check

if [ "$(uname -s)" != Linux ]; then
    say "Foreshadow runs on Linux: it needs SO_REUSEPORT, pidfd and cgroups as Linux has them"
    exit 1
fi

for goal in "$@"; do
    case "$goal" in
    build)
        need_c_compiler
        need cmake
        need make
        ;;
    test)
        need curl
        need nginx
        need python3
        need_engine
        need_machine
        ;;
    engine) need_engine ;;
    check) ;;
    *)
        say "unknown goal '$goal', expected build, engine, test or check"
        exit 2
        ;;
    esac
done
install_missing
need_rust

for goal in "$@"; do
    case "$goal" in
    test)
        # The layering test runs clippy on crates that break the rules.
        need_component clippy clippy
        need_cargo_tool nextest "$NEXTEST_VERSION"
        test_kernel
        ;;
    check)
        need_component fmt rustfmt
        need_component clippy clippy
        need_cargo_tool deny "$DENY_VERSION"
        ;;
    esac
done
