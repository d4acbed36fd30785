"""Other application entities: where they are, who may call, and TLS with certificates on both sides."""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_ct.errors import EdgeCTError

_AET = re.compile(r"[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?")
HANDSHAKE_SECONDS = 30.0


@dataclass(frozen=True)
class Peer:
    """An application entity at an address."""

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Peer:
        """AET@host:port, or AET@[address]:port. Raises ValueError."""
        title, at, address = text.rpartition("@")
        host, colon, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (at and colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{text!r} is not AET@host:port")
        return cls(aet(title), host, int(port))

    def __str__(self) -> str:
        return f"{self.title}@{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def aet(text: str) -> str:
    """An application entity's title (PS3.5, 6.2): up to 16 printable characters. Raises ValueError."""
    if not _AET.fullmatch(text.strip(" ")):
        raise ValueError(f"{text!r} is no AE title: 1 to 16 printable ASCII characters without backslash")
    return text.strip(" ")


def networks(texts: Sequence[str]) -> list[Any]:
    """Addresses and networks, such as 192.168.7.0/24. Raises ValueError."""
    return [ipaddress.ip_network(text, strict=False) for text in texts]


def allowed(address: str, among: Sequence[Any]) -> bool:
    """Whether an address is in one of the networks; everybody is where there are none."""
    if not among:
        return True
    try:
        own = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    own = getattr(own, "ipv4_mapped", None) or own
    return any(own in network for network in among)


class _Patient(ssl.SSLContext):
    """Hands shakes in the association's thread: a client that stalls must not hold up the next one."""

    def wrap_socket(self, sock: Any, *arguments: Any, **options: Any) -> Any:
        sock.settimeout(HANDSHAKE_SECONDS)
        return super().wrap_socket(sock, *arguments, **{**options, "do_handshake_on_connect": False})


def tls(certificate: Path, key: Path, authority: Path, server: bool) -> ssl.SSLContext:
    """Mutual TLS, 1.2 at least: we show `certificate`; the other side must show one that `authority` signed."""
    context: ssl.SSLContext
    if server:
        context = _Patient(ssl.PROTOCOL_TLS_SERVER)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # peers are known by address; the authority is the hospital's own
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise EdgeCTError(
            f"TLS: {certificate}, {key} or {authority} cannot be used: {error.strerror or error}"
        ) from error
    return context
