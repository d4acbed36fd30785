#!/bin/sh
# Test the device application on an emulated Cortex-A76, the core of a Raspberry Pi 5: scripts/test_arm64.sh PYTHON [BUNDLE...]
#
# 1. Make the offline wheelhouse, and install it with its install.sh in an arm64 Debian root.
# 2. Judge slices with each BUNDLE on this machine and in the root. Pixels, network inputs and decisions must be equal, and
#    int8 outputs must agree within one step.
# 3. Run the tests of the device application in the root.
#
# If Debian's packages or the wheels cannot be downloaded, the test is skipped: it gives the reason and exits with 0.
# Everything is kept in .arm64 for the next run.
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

# The root sees .arm64 at /mnt and the checkout at /edge-ct.
minor=$(basename "$arm/root/usr/bin/python3."[0-9]* | sed s/python//)
made_of=$(cat requirements/*.lock pyproject.toml scripts/*wheelhouse.py scripts/install.sh "$arm/recipe" | sha256sum)
if [ "$(cat "$arm/installed" 2>/dev/null)" != "$made_of" ]; then
    rm -rf "$arm/installed" "$arm/wheelhouse" "$arm/root/opt/edge-ct" "$arm/testing"
    attempt "$python" scripts/wheelhouse.py "$arm/wheelhouse" --python "$minor"
    attempt "$python" scripts/wheelhouse.py "$arm/testing/wheels" --python "$minor" --only pytest --only pluggy \
        --only iniconfig --only pygments --only hypothesis --only sortedcontainers
    for wheel in "$arm"/testing/wheels/*.whl; do "$python" -m zipfile -e "$wheel" "$arm/testing"; done
    echo "test-arm64: installing the wheelhouse in the root; this is done once and takes some minutes" >&2
    "$arm/run" PIP_NO_COMPILE=1 sh /mnt/wheelhouse/install.sh
    # Compile on this machine if its Python has the root's version: the emulator would need longer than for everything else.
    if "$python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$minor')"; then
        "$python" -m compileall -q "$arm/testing" "$arm/root/opt/edge-ct/lib" "$arm/root/usr/lib/python$minor" \
            >/dev/null || true
    fi
    echo "$made_of" >"$arm/installed"
fi
there() { "$arm/run" PYTHONPATH=/edge-ct:/mnt/testing "$@"; }
here() { PYTHONPATH=$PWD "$@"; }

real=
if [ -n "${EDGE_CT_DATA:-}" ]; then real="--real=$EDGE_CT_DATA/sars-cov-2-ct"; fi
here "$python" scripts/same_results.py slices "$arm/slices" ${real:+"$real"}
failed=
for bundle; do
    cp "$bundle" "$arm/model.tflite"
    here "$python" scripts/same_results.py judge "$arm/slices" "$arm/model.tflite" "$arm/here.npz"
    there /opt/edge-ct/bin/python scripts/same_results.py judge /mnt/slices /mnt/model.tflite /mnt/there.npz
    here "$python" scripts/same_results.py compare "$arm/here.npz" "$arm/there.npz" || failed="results differ"
done

here "$python" tests/tiny_bundle.py "$arm/tiny.tflite"
# The tests of the device application, without those that need SciPy or TensorFlow, fuzz formats in pure Python, or start
# many processes. The emulator is about thirty times slower, so each property is tested with fewer examples.
tests=
for name in judging/test_judge heatmaps/test_heatmap heatmaps/test_evidence maintenance/test_doctor \
    maintenance/test_systemd worklist/test_audit_trail worklist/test_queue watch/test_watch worklist/test_worklist; do
    tests="$tests tests/device_app/$name.py"
done
for name in test_classifier test_preprocess system/test_files test_runtime; do
    tests="$tests tests/edge_ct/$name.py"
done
there HYPOTHESIS_STORAGE_DIRECTORY=/tmp/edge-ct-arm64-hypothesis EDGE_CT_EXAMPLES=5 EDGE_CT_TINY_BUNDLE=/mnt/tiny.tflite \
    /opt/edge-ct/bin/python -m pytest -q -p no:cacheprovider --durations=10 -m "not slow and not real" $tests ||
    failed="${failed:+$failed, }tests failed"
if [ -n "$failed" ]; then
    echo "test-arm64: FAILED: $failed" >&2
    exit 1
fi
echo "test-arm64: passed"
