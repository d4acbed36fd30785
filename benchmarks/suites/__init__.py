"""pytest-benchmark suites: inference, reading slices, the worklist, training. Run them with `make bench`."""
