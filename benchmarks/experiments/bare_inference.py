"""The bare script that a cold `edge-ct classify` is compared with: decode, resize, one inference.

python bare_inference.py MODEL.tflite SLICE.png
"""

import sys

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
detail = interpreter.get_input_details()[0]
image = cv2.imread(sys.argv[2], cv2.IMREAD_GRAYSCALE)
assert image is not None
image = cv2.resize(image, tuple(detail["shape"][1:3]))
interpreter.set_tensor(detail["index"], np.ascontiguousarray(image[np.newaxis, :, :, np.newaxis]))
interpreter.invoke()
print([interpreter.get_tensor(output["index"]).ravel()[:2].tolist() for output in interpreter.get_output_details()])
