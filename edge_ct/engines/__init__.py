"""The programs that can compute the graph of a bundle: LiteRT, which every installation has, and OpenVINO.

- `names`                 the engines by name, and which of them are installed
- `command_option`        `--engine`, which several commands share
- `openvino_interpreter`  OpenVINO behind the calls of a TFLite interpreter
- `verification`          comparing an engine with LiteRT before it may judge
- `comparison`            timing the installed engines against each other
"""
