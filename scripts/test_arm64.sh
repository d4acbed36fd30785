#!/bin/sh
# The device on an emulated Arm processor (Cortex-A76, a Raspberry Pi 5's core): scripts/test_arm64.sh PYTHON [BUNDLE...]
#
# 1. The offline wheelhouse is made, and installed by its own install.sh in an arm64 Debian root.
# 2. Slices are judged here and there through each BUNDLE: same pixels, same input, int8 within one step, same decisions.
# 3. The device's tests run there.
#
# Skipped, with the reason and exit code 0, where Debian's packages or the wheels cannot be had. Everything is kept in
# .arm64, so that a second run makes nothing again.
set -eu
python=$1
shift
cd "$(dirname "$0")/.."
arm=$PWD/.arm64
attempt() {
    code=0
    "$@" || code=$?
    case $code in
    0) ;;
    69 | 77) echo "test-arm64: SKIPPED, for the reason above" && exit 0 ;;
    *) exit "$code" ;;
    esac
}
attempt sh scripts/arm64_root.sh "$arm"

# A path in .arm64 is at /work in the root, the checkout at /edge-ct.
minor=$(basename "$arm"/root/usr/bin/python3.[0-9]* | sed s/python//)
made_of=$(cat requirements/*.lock pyproject.toml scripts/*wheelhouse.py scripts/install.sh "$arm/recipe" | sha256sum)
if [ "$(cat "$arm/installed" 2>/dev/null)" != "$made_of" ]; then
    rm -rf "$arm/installed" "$arm/wheelhouse" "$arm/root/opt/edge-ct" "$arm/testing"
    attempt "$python" scripts/wheelhouse.py "$arm/wheelhouse" --python "$minor"
    attempt "$python" scripts/wheelhouse.py "$arm/testing/wheels" --python "$minor" --only pytest --only pluggy \
        --only iniconfig --only pygments --only hypothesis --only sortedcontainers
    for wheel in "$arm"/testing/wheels/*.whl; do "$python" -m zipfile -e "$wheel" "$arm/testing"; done
    echo "test-arm64: installing from the wheelhouse in the root, once, some minutes" >&2
    # Compiled when first imported: an emulated compiler takes longer than all else.
    "$arm/run" PIP_NO_COMPILE=1 sh /work/wheelhouse/install.sh
    echo "$made_of" >"$arm/installed"
fi
there() { "$arm/run" PYTHONPATH=/edge-ct:/work/testing "$@"; }

if [ -n "${EDGE_CT_DATA:-}" ]; then set -- --real "$EDGE_CT_DATA/sars-cov-2-ct" "$@"; fi
