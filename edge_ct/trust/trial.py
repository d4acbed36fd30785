"""The first load of a bundle, in a process of its own: a flatbuffer is a program, and a damaged one ends its process.

    python -m edge_ct.trust.trial SOURCE < BUNDLE

loads the bundle and runs its golden slices, within limits of memory and processor time, and prints what is wrong with
it, as JSON. `try_bundle` starts this process. The process contains crashes and endless work; it is
no sandbox against a bundle that was made to break out of the runtime. Against such bundles there are signatures.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np

from ..bundle import Bundle, reject_on_error, unpack_bundle
from ..classifier import Classifier
from ..errors import EdgeCTError, ModelRejected
from ..imaging.limits import MIN_SIDE
from ..network_analysis.outliers import read_outlier_detector
from ..slices import decode

# Limits for a small network; those for a larger one grow with its file. The measures of the largest network of the zoo
# on a Raspberry Pi 4 are a third of what it is allowed.
_SECONDS, _SECONDS_A_MIB = 6.0, 1.0
_MEMORY, _MEMORY_A_BYTE = 256 << 20, 6
# By the clock, for a process that waits and uses no processor time; a device may be busy.
_PATIENCE = 6.0
_MAX_REPORT = 4096
_TOO_SLOW = "a trial inference takes longer than a network of this size may take"


class TrialReport(msgspec.Struct, frozen=True):
    """What the process of a trial prints.

    Attributes:
        problem: Why the bundle cannot be used; None if it can.
    """

    problem: str | None


def try_bundle(bundle: Bundle) -> None:
    """Load a bundle and run its golden slices, in a process that may end over it.

    Raises:
        ModelRejected: The bundle cannot be loaded, its golden slices come out differently, or the process ended.
    """
    source, patience = bundle.source, 10.0 + _PATIENCE * _seconds(bundle)
    # The child inherits the import path: with -I a checkout or a user's installation would not be found.
    program = [sys.executable, "-m", "edge_ct.trust.trial", source]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=null) as process:
        try:
            printed, _ = process.communicate(bundle.content, patience)
        except subprocess.TimeoutExpired:
            process.kill()
            raise ModelRejected(f"{source}: {_TOO_SLOW}") from None
        except BaseException:
            process.kill()
            raise
    if process.returncode == -_signal("SIGPROF"):
        raise ModelRejected(f"{source}: {_TOO_SLOW}")
    try:
        report = msgspec.json.decode(printed[-_MAX_REPORT:], type=TrialReport)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelRejected(f"{source}: the runtime ended over this bundle; do not use it") from error
    if report.problem is not None:
        raise ModelRejected(report.problem)


def run_trial(bundle: Bundle) -> None:
    """Do the work of a trial, in this process.

    Raises:
        ModelRejected: The bundle cannot be used.
    """
    classifier = Classifier(bundle)
    classifier.check_golden()
    # What the comparison of the logits leaves out: calibration, lesion map, outlier detector, maps of a slice.
    with reject_on_error(bundle.source, "it cannot judge a slice"):
        size = bundle.manifest.preprocess.size
        images = [decode(bundle.member(golden.input), golden.input).pixels for golden in bundle.manifest.golden[:1]]
        for image in images or [np.zeros((size, size), np.uint8)]:
            _, outputs = classifier.infer(image[:, :, np.newaxis])
            detector = read_outlier_detector(bundle)
            if detector:
                detector.is_outlier(outputs.embedding)
            if size >= MIN_SIDE:
                classifier.judge(image)


def _seconds(bundle: Bundle) -> float:
    return _SECONDS + _SECONDS_A_MIB * bundle.model_bytes / 2**20


def _limit_this_process(bundle: Bundle) -> None:
    """Limit memory and processor time, on systems that can."""
    if sys.platform != "linux":
        return
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + _MEMORY + _MEMORY_A_BYTE * bundle.model_bytes
    with contextlib.suppress(ValueError, OSError):  # There is a lower limit already.
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # It ends the process, inside the runtime too.
    signal.setitimer(signal.ITIMER_PROF, _seconds(bundle))


def _signal(name: str) -> int:
    return int(getattr(signal, name, 0))


def _main() -> None:
    source = sys.argv[1]
    bundle = unpack_bundle(sys.stdin.buffer.read(), source)
    _limit_this_process(bundle)
    problem = None
    try:
        run_trial(bundle)
    except EdgeCTError as error:
        problem = str(error)[: _MAX_REPORT // 8]
    except MemoryError:
        problem = f"{source}: a trial inference takes more memory than a network of this size may take"
    sys.stdout.buffer.write(msgspec.json.encode(TrialReport(problem)))


if __name__ == "__main__":
    _main()
