#!/bin/sh
# Runs a command as root: directly, or through sudo with the settings the local cloud reads.
set -eu
if [ "$(id -u)" = 0 ]; then
    exec "$@"
fi
command -v sudo >/dev/null || { echo "this needs root, and there is no sudo" >&2; exit 1; }
exec sudo --preserve-env=PYTHONSAFEPATH,PYTHONPATH,KUBEBUILDER_ASSETS,TOKEN_LIFE,PATH -- "$@"
