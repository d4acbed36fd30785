# Two commands set everything up on a machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header pyproject.toml

.PHONY: demo example-report results docs deb test-deb release flagship flagship-one-source fast-study test test-long test-arm64 \
	test-tflite-runtime wheelhouse-arm64 lint figures bench bench-cold bench-around bench-peers lock clean

demo: $(VENV)/installed
	$(BIN)/edge-ct demo --out edge-ct-demo --force

# Makes the example report of the documentation: the report of a demo, as it was written.
example-report: $(VENV)/installed
	folder=$$(mktemp -d) && (cd $$folder && $(CURDIR)/$(BIN)/edge-ct demo --out demo) \
		&& cp $$folder/demo/report.html docs/demo-report.html && rm -r $$folder

# Makes the shipped models from slices of several sources, with a lesion map, in the steps of
# recipes/multi_source/accurate_and_fast.json. This takes hours; the same command resumes after a kill.
# make flagship DATA=folder WEIGHTS=folder [OUT=runs/flagship] [RECIPE=recipes/multi_source/accurate_and_fast.json]
#     [MORE='--splits grouped --models accurate --stages folds,final --ship device_app/models']
# After MORE='--results benchmarks/results', `make results` shows the new figures in README and docs.
FLAGSHIP_OUT := $(if $(filter command line,$(origin OUT)),$(OUT),runs/flagship)
flagship: $(VENV)/installed
	$(BIN)/python -m edge_ct.recipes.multi_source.commands $(or $(RECIPE),recipes/multi_source/accurate_and_fast.json) \
		--data $(DATA) $(if $(WEIGHTS),--weights $(WEIGHTS)) --out $(FLAGSHIP_OUT) $(MORE)

# Makes models of one source, distilled from teachers: recipes/flagship/flagship.json; options as above.
flagship-one-source: $(VENV)/installed
	$(BIN)/python -m edge_ct.recipes.flagship $(or $(RECIPE),recipes/flagship/flagship.json) --data $(DATA) \
		$(if $(WEIGHTS),--weights $(WEIGHTS)) --out $(FLAGSHIP_OUT) $(MORE)

# Writes the measured figures of the shipped models, which are in benchmarks/results, into README and docs, and sample
# outputs of the models on synthetic slices. With PICTURES, a folder that holds X-rays in xray/ and photographs in natural/,
# it first measures how many of these the models reject.
# make results [PICTURES=folder]
results: $(VENV)/installed
	for name in $(if $(PICTURES),accurate fast); do $(BIN)/python -m edge_ct.benchmarks.out_of_distribution \
		device_app/models/$$name.tflite --others $(PICTURES)/xray --others $(PICTURES)/natural \
		--out benchmarks/results/multi-source-out-of-distribution-$$name.csv || exit 1; done
	$(BIN)/python -m edge_ct.recipes.multi_source.results_pages
	$(BIN)/python scripts/sample_outputs.py

# Trains six variations of width and size in hours, and writes their accuracy beside their time; the same command resumes.
# make fast-study DATA=folder WEIGHTS=folder [OUT=runs/fast-study]
STUDY_OUT := $(if $(filter command line,$(origin OUT)),$(OUT),runs/fast-study)
STUDY := recipes/multi_source/fast_study.json
fast-study: $(VENV)/installed
	$(BIN)/python -m edge_ct.recipes.multi_source.commands $(STUDY) --data $(DATA) $(if $(WEIGHTS),--weights $(WEIGHTS)) \
		--out $(STUDY_OUT) --stages trials
	$(BIN)/python -m edge_ct.recipes.multi_source.speed_study $(STUDY) $(STUDY_OUT) benchmarks/results/fast-study.csv

# Tests run on all processors, up to four: make test [TESTS=tests/edge_ct] [WORKERS=1]
WORKERS ?= auto
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal
test: $(VENV)/installed
	$(PYTEST) $(COVERAGE) $(TESTS)

# All tests, and also those that take hours: all 42 networks trained, saved and converted, 200 kills, 10,000 damaged files.
test-long: $(VENV)/installed
	EDGE_CT_LONG_TESTS=1 $(PYTEST) $(TESTS)

# Tests the device application on an emulated Cortex-A76 and compares it with this machine; BUNDLE=FILE adds a bundle.
test-arm64: $(VENV)/installed edge-ct-demo/model-int8.tflite
	sh scripts/test_arm64.sh $(BIN)/python edge-ct-demo/model-int8.tflite $(BUNDLE)

edge-ct-demo/model-int8.tflite:
	$(MAKE) demo

# Compares tflite-runtime, which replaces LiteRT on 32-bit Arm, with LiteRT on this machine.
test-tflite-runtime: $(VENV)/installed .venv-tflite/installed edge-ct-demo/model-int8.tflite
	sh scripts/test_tflite_runtime.sh $(BIN)/python .venv-tflite/bin/python edge-ct-demo/model-int8.tflite $(BUNDLE)

# Makes a folder of wheels for a Raspberry Pi without a network: docs/how-to/raspberry-pi.md.
wheelhouse-arm64: $(VENV)/installed
	$(BIN)/python scripts/wheelhouse.py $@

# Makes Debian packages for a device without a network: docs/how-to/device.md.
# make deb [ARCHITECTURES="amd64 arm64"] [DEVICE_PYTHON=3.11]
ARCHITECTURES := amd64 arm64
DEVICE_PYTHON := 3.11
deb: $(VENV)/installed
	for architecture in $(ARCHITECTURES); do $(BIN)/python scripts/debian_package.py dist --python $(DEVICE_PYTHON) \
		--architecture $$architecture || exit 1; done

# Installs, upgrades, removes and purges a package in a Debian root, which is made if it is missing; run it as root.
# make test-deb DEB=dist/edge-ct_1.0_amd64.deb ROOT=folder; a package for arm64 is tested in an emulator.
EMULATED := $(if $(filter %_arm64.deb,$(DEB)),sh scripts/with_arm64.sh .arm64)
test-deb: $(VENV)/installed
	$(if $(EMULATED),sh scripts/arm64_root.sh .arm64)
	[ -e $(ROOT)/usr/bin/python3 ] || $(EMULATED) sh scripts/debian_root.sh $(ROOT) $(if $(EMULATED),arm64)
	$(EMULATED) sh scripts/test_deb.sh $(BIN)/python $(DEB) $(ROOT)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site that needs no network: site/index.html. Fails if a link or an anchor leads nowhere.
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

# Takes the pictures of the page for the documentation: synthetic slices, judged by the shipped model, in Debian's Chromium.
# For every page in every look: make page-pictures PAGE_PICTURES=folder MORE=--every
PAGE_PICTURES := docs
.PHONY: page-pictures
page-pictures: $(VENV)/installed
	$(BIN)/python scripts/page_pictures.py $(PAGE_PICTURES) $(MORE)

# Makes what a release publishes: sdist, wheel, shipped bundles, list of materials, checksums. From a tagged commit:
# make release KEY=maker.key [OUT=dist]. A dry run works from any checkout and keeps nothing: make release DRY_RUN=1
release: $(VENV)/installed
	$(BIN)/python scripts/release.py $(if $(DRY_RUN),--dry-run,$(if $(filter command line,$(origin OUT)),$(OUT),dist)) \
		$(if $(KEY),--key $(KEY))

# Draws figures 4 to 7 of Garg et al. 2020 for networks that are trained on phantoms from random weights. This takes hours
# on two cores, and resumes after a kill. make figures [FIGURES=figures] [FIGURE_NETWORKS="resnet50 modified-resnet50"]
#     [FIGURE_OPTIONS="--size 96 --batch 16 --epochs 16"]
FIGURES := figures
FIGURE_NETWORKS :=
FIGURE_OPTIONS := --size 72 --batch 8
figures: $(VENV)/installed
	$(BIN)/python -m edge_ct.recipes.paper_figures --out $(FIGURES) --networks '$(FIGURE_NETWORKS)' \
		--options '$(FIGURE_OPTIONS)'

# make bench [BUNDLE=model.tflite]
bench: $(VENV)/installed
	$(BIN)/python -m pytest benchmarks/suites $(if $(BUNDLE),--bundle $(BUNDLE)) --benchmark-columns=median,min,max,rounds

# Compares a cold start of `edge-ct classify` with a bare script; only the base dependencies are installed.
# make bench-cold [BUNDLE=model.tflite]
bench-cold: .venv-device/installed
	.venv-device/bin/python -m edge_ct.benchmarks.experiments.cold_start \
		$(or $(BUNDLE),device_app/models/accurate.tflite) --out benchmarks/results/cold-start.json

# Measures what surrounds the models on an idle machine: file to answer, folder, lesion map and engines, as ratios.
# make bench-around [BUNDLES="device_app/models/accurate.tflite device_app/models/fast.tflite"]
BUNDLES := device_app/models/accurate.tflite device_app/models/fast.tflite
bench-around: $(VENV)/installed
	$(BIN)/python -m edge_ct.benchmarks.experiments.around_the_model $(BUNDLES) --out benchmarks/results/around-the-model.csv

# Measures the same network in LiteRT, tflite-runtime, ONNX Runtime, OpenVINO and Keras, in turns and unattended.
# make bench-peers BUNDLE=model.tflite [RUN=runs/mobilenetv2] [OUT=benchmarks/results/peers.csv]
OUT ?= benchmarks/results/peers.csv
bench-peers: .venv-peers/installed .venv-peers-tflite/installed
	.venv-peers/bin/python -m edge_ct.benchmarks.experiments.peers $(BUNDLE) $(OUT) $(if $(RUN),--run $(RUN)) \
		--tflite-python .venv-peers-tflite/bin/python

$(VENV)/installed: pyproject.toml requirements/dev.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.venv-device/installed: pyproject.toml requirements/device.lock $(shell find edge_ct device_app benchmarks -name '*.py')
	$(PYTHON) -m venv .venv-device
	.venv-device/bin/python -m pip install --quiet --require-hashes -r requirements/device.lock
	.venv-device/bin/python -m pip install --quiet --no-deps --force-reinstall .
	touch $@

.venv-tflite/installed: pyproject.toml
	$(PYTHON) -m venv .venv-tflite
	.venv-tflite/bin/python -m pip install --quiet 'numpy>=1.26,<2' 'opencv-python-headless>=4.10' tflite-runtime==2.14.0 \
		'click>=8.1' 'msgspec>=0.19' 'pytest>=8' 'hypothesis>=6' 'pillow>=11'
	touch $@

.venv-peers/installed: pyproject.toml requirements/peers.lock $(shell find edge_ct benchmarks -name '*.py')
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --require-hashes -r requirements/peers.lock
	.venv-peers/bin/python -m pip install --quiet --no-deps --force-reinstall .
	touch $@

.venv-peers-tflite/installed: requirements/peers-tflite.lock
	$(PYTHON) -m venv .venv-peers-tflite
	.venv-peers-tflite/bin/python -m pip install --quiet --require-hashes -r requirements/peers-tflite.lock
	touch $@

# The device locks take their versions from the development lock, so that a device runs what was tested.
lock: $(VENV)/installed
	$(BIN)/python -m pip install --quiet uv
	$(UV_COMPILE) --extra dev -o requirements/dev.lock
	$(UV_COMPILE) -c requirements/dev.lock -o requirements/device.lock
	$(UV_COMPILE) --extra dicom --extra web -c requirements/dev.lock -o requirements/device-extras.lock
	$(UV_COMPILE:3.10=3.11) requirements/peers.in --extra train -c requirements/dev.lock -o requirements/peers.lock
	$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
		requirements/peers-tflite.in -o requirements/peers-tflite.lock

clean:
	rm -rf $(VENV) .venv-device .venv-peers .venv-peers-tflite .venv-tflite .arm64 wheelhouse-arm64 edge-ct-demo build site *.egg-info
