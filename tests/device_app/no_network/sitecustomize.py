"""Makes every socket call of this Python that would leave the machine fail. Loopback and local sockets work.

Python imports a module of this name at its start wherever it finds one: tests put this folder on PYTHONPATH. An audit
hook cannot be taken away again; in the tests' own process it does nothing while `active` is False.
"""

import ipaddress
import os
import sys

active = bool(os.environ.get("EDGE_CT_NO_NETWORK"))
_ADDRESSES = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}
_NAMES = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
_LOCAL_NAMES = {"", "localhost", "ip6-localhost"}


class NetworkCall(OSError):
    """Somebody tried to leave the machine."""


def _is_local(host: object, event: str) -> bool:
    if host is None:
        return True
    text = host.decode(errors="replace") if isinstance(host, bytes) else str(host)
    if text in _LOCAL_NAMES:
        return True
    try:
        own = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    # All interfaces: listening there reaches nobody. The text of an address needs no name server.
    return own.is_loopback or (own.is_unspecified and event == "socket.bind") or event == "socket.getaddrinfo"


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not active or not event.startswith("socket."):
        return
    if event in _ADDRESSES:
        address = arguments[1]
        if isinstance(address, tuple) and not _is_local(address[0], event):
            raise NetworkCall(f"{event} to {address[0]}")
    elif event in _NAMES and not _is_local(arguments[0], event):
        raise NetworkCall(f"{event} of {arguments[0]}")


sys.addaudithook(_hook)
