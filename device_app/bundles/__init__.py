"""`edge-ct bundle`: inspect, verify, sign and export bundles.

- `commands`     the commands
- `summary`      the manifest and the operators as lines for people
- `operators`    the operators of a graph, and which accelerators support them
- `onnx_export`  the graph as an ONNX file, where tf2onnx is installed
"""
