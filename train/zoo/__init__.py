"""The networks of both studies.

- `build`       builds a network with any Keras API
- `pretrained`  ImageNet weights
- `catalogue`   `edge-ct models`: parameters, multiply-accumulates, capabilities
- `lesion_decoder`  the lesion map of MobileNetV2
"""
