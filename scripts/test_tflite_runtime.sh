#!/bin/sh
# Compare tflite-runtime, which replaces LiteRT on 32-bit Arm, with LiteRT on this machine:
# scripts/test_tflite_runtime.sh PYTHON PYTHON-WITH-TFLITE-RUNTIME BUNDLE...
#
# The inputs of the network must be equal, and the tests of edge_ct.runtime must pass. tflite-runtime has other integer
# kernels, so differences of the outputs are printed and do not fail the test.
set -eu
python=$1 other=$2
shift 2
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" scripts/same_results.py slices "$folder/slices" ${EDGE_CT_DATA:+"--real=$EDGE_CT_DATA/sars-cov-2-ct"}
for bundle; do
    "$python" scripts/same_results.py judge "$folder/slices" "$bundle" "$folder/here.npz"
    "$other" scripts/same_results.py judge "$folder/slices" "$bundle" "$folder/there.npz"
    "$python" scripts/same_results.py compare --other-arithmetic "$folder/here.npz" "$folder/there.npz"
done
"$python" tests/tiny_bundle.py "$folder/tiny.tflite"
EDGE_CT_TINY_BUNDLE="$folder/tiny.tflite" "$other" -m pytest -q -p no:cacheprovider tests/edge_ct/test_runtime.py \
    tests/edge_ct/test_preprocess.py
