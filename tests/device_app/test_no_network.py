"""Zero network: what would leave the machine fails in all tests of the device (conftest), here below Python too."""

import json
import os
import shutil
import socket
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path

import cv2
import pytest

from edge_ct.phantom import make_slice

TESTNET = "192.0.2.1"  # RFC 5737: nobody's

# Logs and refuses each connect, sendto and sendmsg to another address than loopback, and each name to be resolved.
SHIM = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static int refused(const struct sockaddr *address, const char *call) {
  int leaves = 0;
  if (address && address->sa_family == AF_INET)
    leaves = (ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24) != 127;
  else if (address && address->sa_family == AF_INET6)
    leaves = !IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
  if (!leaves) return 0;
  FILE *log = fopen(getenv("EDGE_CT_CALLS"), "a");
  if (log) { fprintf(log, "%s\n", call); fclose(log); }
  errno = ENETUNREACH;
  return 1;
}
int connect(int fd, const struct sockaddr *address, socklen_t length) {
  static int (*real)(int, const struct sockaddr *, socklen_t);
  if (!real) real = dlsym(RTLD_NEXT, "connect");
  return refused(address, "connect") ? -1 : real(fd, address, length);
}
ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length) {
  static ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
  if (!real) real = dlsym(RTLD_NEXT, "sendto");
  return refused(address, "sendto") ? -1 : real(fd, data, size, flags, address, length);
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  static ssize_t (*real)(int, const struct msghdr *, int);
  if (!real) real = dlsym(RTLD_NEXT, "sendmsg");
  return refused(message->msg_name, "sendmsg") ? -1 : real(fd, message, flags);
}
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
  struct in6_addr parsed;
  if (!real) real = dlsym(RTLD_NEXT, "getaddrinfo");
  if (node && strcmp(node, "localhost") && !inet_pton(AF_INET, node, &parsed) && !inet_pton(AF_INET6, node, &parsed)) {
    FILE *log = fopen(getenv("EDGE_CT_CALLS"), "a");
    if (log) { fprintf(log, "getaddrinfo %s\n", node); fclose(log); }
    return EAI_AGAIN;
  }
  return real(node, service, hints, found);
}
"""


def test_guard_lets_nothing_out(network_guard: types.ModuleType) -> None:
    with socket.socket() as one, pytest.raises(network_guard.NetworkCall):
        one.connect((TESTNET, 80))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, pytest.raises(network_guard.NetworkCall):
        one.sendto(b"x", (TESTNET, 53))
    with socket.socket(socket.AF_INET6) as one, pytest.raises(network_guard.NetworkCall):
        one.connect(("2001:db8::1", 80))
    for resolve in (socket.gethostbyname, lambda name: socket.getaddrinfo(name, 80)):
        with pytest.raises(network_guard.NetworkCall):
            resolve("edge-ct.invalid")


def test_guard_lets_loopback_through() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(("localhost", server.getsockname()[1])) as one:
            one.sendall(b"x")
        accepted, _ = server.accept()
        with accepted:
            assert accepted.recv(1) == b"x"


def test_guard_is_in_every_python_that_a_test_starts() -> None:
    code = f"import socket; socket.create_connection(({TESTNET!r}, 80), 1)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "NetworkCall: socket.connect to 192.0.2.1" in ended.stderr


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler: calls below Python are not looked at")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    library = folder / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "shim.c", "-ldl"], check=True)
    return library


def below(shim: Path, calls: Path, command: Sequence[object], **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command with the shim; `calls` holds what it refused."""
    calls.touch()
    environment = {**os.environ, "LD_PRELOAD": str(shim), "EDGE_CT_CALLS": str(calls)}
    environment.pop("EDGE_CT_NO_NETWORK")  # or nothing would get as far as the shim
    return subprocess.run(
        [str(own) for own in command],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=120,
        **options,
    )  # type: ignore[call-overload]


def test_shim_sees_calls_of_native_code(shim: Path, tmp_path: Path) -> None:
    code = f"""
import ctypes, socket, struct
address = struct.pack("=H", socket.AF_INET) + struct.pack("!H", 80) + socket.inet_aton({TESTNET!r}) + bytes(8)
with socket.socket() as one:
    assert ctypes.CDLL(None).connect(one.fileno(), address, 16) == -1
try:
    socket.getaddrinfo("edge-ct.invalid", 80)
except OSError:
    print("refused")
"""
    ended = below(shim, tmp_path / "calls", [sys.executable, "-c", code])
    assert ended.stdout == "refused\n", ended.stderr
    assert (tmp_path / "calls").read_text() == "connect\ngetaddrinfo edge-ct.invalid\n"


def test_main_flows_call_nobody(shim: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """Classify with heat maps and worklist, watch, review, export, verify, doctor, install: not even an attempt."""
    hot, state, calls = tmp_path / "hot", tmp_path / "state", tmp_path / "calls"
    hot.mkdir()
    for number in range(3):
        cv2.imwrite(str(hot / f"{number}.png"), make_slice(number, 3, True, 64).image)
    model, own = ["--model", tiny_bundle], ["--state", state]
    flows: list[list[object]] = [
        ["classify", hot, *model, *own, "--worklist", "--heatmap", tmp_path / "maps", "--json"],
        ["watch", hot, *model, *own, "--once", "--settle", "0.05", "--interval", "0.05"],
        ["worklist", "list", *own, "--json"],
        ["worklist", "review", "1", *own, "--reviewer", "Lima", "--override", "unusable"],
        ["worklist", "review", "2", *own, "--reviewer", "Lima", "--agree"],
        ["worklist", "export", *own, "--out", tmp_path / "all.csv"],
        ["worklist", "verify", *own],
        ["doctor", *model, *own],
        ["bundle", "verify", tiny_bundle],
        ["device", "install", *model, "--watch", hot, "--dry-run"],
    ]
    for flow in flows:
        ended = below(shim, calls, [sys.executable, "-m", "edge_ct", *flow])
        assert ended.returncode == 0, (flow, ended.stderr)
        if flow[0] == "classify":
            assert len([json.loads(line) for line in ended.stdout.splitlines()]) == 3
    assert calls.read_text() == ""


def test_judging_loads_no_network_client() -> None:
    """Neither TLS nor HTTP is as much as imported."""
    code = "import edge_ct.device_app.worklist.worklist, edge_ct.device_app.judging.judge, sys\n"
    code += "from edge_ct import runtime; runtime.interpreter_class(); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ended.stdout.split()) & {"requests", "urllib3", "httpx", "http.client", "ssl", "aiohttp"} == set()


def test_page_calls_nobody(shim: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """`edge-ct serve`: an upload, and every page."""
    pytest.importorskip("flask", reason="the web extra is not installed")
    pytest.importorskip("waitress", reason="the web extra is not installed")
    from .web.conftest import Browser, Served, png

    calls, state = tmp_path / "calls", tmp_path / "state"
    calls.touch()
    environment = {**os.environ, "LD_PRELOAD": str(shim), "EDGE_CT_CALLS": str(calls)}
    environment.pop("EDGE_CT_NO_NETWORK")
    command = ["serve", "--model", tiny_bundle, "--state", state, "--port", "0", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_ct", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["urls"][0]
        served = Served(process, url, [url], None, state)
        browser = Browser(served)
        assert browser.upload("a.png", png(1, 2))[0] == 201
        for path in ("/", "/slices/1", "/slices/1/print", "/model", "/device", "/state"):
            assert browser.ask("GET", path)[0] == 200, path
        process.terminate()
        assert process.wait(60) == 0
        served.close()
    finally:
        process.kill()
        if process.stdout:
            process.stdout.close()
    assert calls.read_text() == ""
