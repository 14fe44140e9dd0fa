#!/bin/sh
# Build stage of every image: /opt/novakube, a virtualenv without pip.
#   install.sh packages COMPONENT   the locked packages, hashes checked
#   install.sh project              novakube itself into /opt/project, to be laid over it
set -eu
if [ -s /run/secrets/ca.pem ]; then
    export PIP_CERT=/run/secrets/ca.pem
fi
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
pip=/opt/build/bin/pip

case $1 in
packages)
    python3 -m venv /opt/build
    python3 -m venv --without-pip /opt/novakube
    python3 images/locked.py images/build-packages.txt requirements.lock >/tmp/build.lock
    python3 images/locked.py "images/$2/packages.txt" requirements.lock >/tmp/component.lock
    $pip install --quiet --require-hashes -r /tmp/build.lock
    $pip --python /opt/novakube/bin/python install --quiet --require-hashes --no-deps -r /tmp/component.lock
    ;;
project)
    $pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /tmp/wheel .
    $pip --python /opt/novakube/bin/python install --quiet --no-deps --prefix /opt/project /tmp/wheel/*.whl
    ;;
esac
