# Two commands set everything up on a machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header pyproject.toml

.PHONY: demo test lint bench bench-cold bench-peers lock clean

demo: $(VENV)/installed
	$(BIN)/edge-ct demo --out edge-ct-demo --force

test: $(VENV)/installed
	$(BIN)/python -m pytest

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# make bench [BUNDLE=model.tflite]
bench: $(VENV)/installed
	$(BIN)/python -m pytest benchmarks $(if $(BUNDLE),--bundle $(BUNDLE)) --benchmark-columns=median,min,max,rounds

# A cold `edge-ct classify` against a bare script, where nothing but the base dependencies is installed.
# make bench-cold BUNDLE=model.tflite
bench-cold: .venv-device/installed
	.venv-device/bin/python -m edge_ct.benchmarks.cold_start $(BUNDLE)

# The same network in other engines, in turns: LiteRT, tflite-runtime, ONNX Runtime, OpenVINO, Keras. Unattended.
# make bench-peers BUNDLE=model.tflite [RUN=runs/mobilenetv2] [OUT=benchmarks/results/peers.csv]
OUT ?= benchmarks/results/peers.csv
bench-peers: .venv-peers/installed .venv-peers-tflite/installed
	.venv-peers/bin/python -m edge_ct.benchmarks.peers $(BUNDLE) $(OUT) $(if $(RUN),--run $(RUN)) \
		--tflite-python .venv-peers-tflite/bin/python

$(VENV)/installed: pyproject.toml requirements/dev.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.venv-device/installed: pyproject.toml requirements/device.lock $(wildcard edge_ct/*.py device_app/*.py benchmarks/*.py)
	$(PYTHON) -m venv .venv-device
	.venv-device/bin/python -m pip install --quiet --require-hashes -r requirements/device.lock
	.venv-device/bin/python -m pip install --quiet --no-deps --force-reinstall .
	touch $@

.venv-peers/installed: pyproject.toml requirements/peers.lock $(wildcard edge_ct/*.py benchmarks/*.py)
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --require-hashes -r requirements/peers.lock
	.venv-peers/bin/python -m pip install --quiet --no-deps --force-reinstall .
	touch $@

.venv-peers-tflite/installed: requirements/peers-tflite.lock
	$(PYTHON) -m venv .venv-peers-tflite
	.venv-peers-tflite/bin/python -m pip install --quiet --require-hashes -r requirements/peers-tflite.lock
	touch $@

# The device lock takes its versions from the development one: a device runs what was tested.
lock: $(VENV)/installed
	$(BIN)/python -m pip install --quiet uv
	$(UV_COMPILE) --extra dev -o requirements/dev.lock
	$(UV_COMPILE) -c requirements/dev.lock -o requirements/device.lock
	$(UV_COMPILE:3.10=3.11) requirements/peers.in --extra train -c requirements/dev.lock -o requirements/peers.lock
	$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
		requirements/peers-tflite.in -o requirements/peers-tflite.lock

clean:
	rm -rf $(VENV) .venv-device .venv-peers .venv-peers-tflite edge-ct-demo build *.egg-info
