"""`edge-ct listen` and Orthanc as processes of their own, on loopback."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

PATIENCE = 120.0  # seconds: two cores may be shared


class Listen:
    """`edge-ct listen` of a state folder."""

    def __init__(self, bundle: Path, state: Path, port: int, *options: str) -> None:
        self.port, self.log = port, state.with_name(f"{state.name}.log")
        state.mkdir(exist_ok=True)
        command = ["listen", "--model", str(bundle), "--state", str(state), "--port", str(port), "--min-free", "1"]
        with self.log.open("ab") as log:
            start = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge_ct", *command, *options],
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        end = time.monotonic() + PATIENCE
        while b"listens" not in self.log.read_bytes()[start:]:
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise AssertionError(f"edge-ct listen did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def resident(self) -> int:
        """Resident memory, in bytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")


class Orthanc:
    """Debian's Orthanc in a folder of its own. peers: name -> (AE title, port)."""

    def __init__(
        self,
        folder: Path,
        dicom_port: int,
        http_port: int,
        peers: dict[str, tuple[str, int]],
        plugins: list[str] | None = None,
        scripts: list[str] | None = None,
    ) -> None:
        folder.mkdir()
        self.dicom_port, self._url = dicom_port, f"http://127.0.0.1:{http_port}"
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "index"),
            "Plugins": plugins or [],
            "LuaScripts": scripts or [],
            "UserMetadata": {"edge-ct": 4801},
            "HttpPort": http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "SslEnabled": False,
            "DicomPort": dicom_port,
            "DicomAet": "ORTHANC",
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowEcho": False,
            "DicomAlwaysAllowStore": False,
            "StableAge": 1,
            "DicomModalities": {
                name: {"AET": title, "Host": "127.0.0.1", "Port": port} for name, (title, port) in peers.items()
            },
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        program = shutil.which("Orthanc") or "Orthanc"
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.get("/system")
                return
            except OSError:
                assert self.process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end
                time.sleep(0.05)

    def get(self, path: str) -> Any:
        """What a REST resource says: JSON parsed, anything else as bytes."""
        return self._ask(urllib.request.Request(self._url + path))

    def post(self, path: str, data: bytes | str) -> Any:
        content = data.encode() if isinstance(data, str) else data
        return self._ask(urllib.request.Request(self._url + path, data=content, method="POST"))

    def _ask(self, request: urllib.request.Request) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=PATIENCE) as answer:
            content = answer.read()
            kind = answer.headers.get("Content-Type", "")
            return json.loads(content) if "json" in kind else content

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def wait_for(what: Any) -> Any:
    """The first true answer of a function."""
    end = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found
