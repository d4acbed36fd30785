"""Write the tests' `tiny_bundle` to a file, for a machine without TensorFlow: python tests/tiny_bundle.py FILE."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    conftest = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
    conftest["write_tiny_bundle"](Path(sys.argv[1]))
