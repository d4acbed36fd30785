#!/bin/sh
# Install edge-ct from this folder, without a network: sh install.sh [--base] [FOLDER]
# The default folder is /opt/edge-ct. To update, run the script of a newer folder of wheels.
set -eu
lock=device-extras.lock
if [ "${1:-}" = --base ]; then
    lock=device.lock
    shift
fi
case "${1:-}" in
-*) echo "usage: sh install.sh [--base] [FOLDER]" >&2 && exit 2 ;;
esac
target=${1:-/opt/edge-ct}
case "$target" in /*) ;; *) target=$PWD/$target ;; esac
cd "$(dirname "$0")"

fail() {
    echo "install.sh: $*" >&2
    exit 1
}
sha256sum --check --quiet --strict SHA256SUMS || fail "a file is damaged or missing; copy the folder again"
machine=$(uname -m)
[ "$machine" = aarch64 ] || fail "these wheels are for 64-bit Arm (aarch64), and this system is $machine"
if [ ! -x "$target/bin/python" ]; then
    python3 -m venv "$target" || fail "cannot make an environment in $target: is Debian's package python3-venv installed, and may you write there?"
fi
pip="$target/bin/python -m pip --disable-pip-version-check --no-input"
export PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_FIND_LINKS="$PWD/wheels"
python=$("$target/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
$pip install --quiet --require-hashes --only-binary :all: -r "$lock" ||
    fail "the wheels do not fit Python $python; README.txt says which they are for"
$pip install --quiet --no-deps --force-reinstall wheels/edge_ct-*.whl
"$target/bin/edge-ct" --version
