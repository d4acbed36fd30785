"""Other application entities: their addresses, which of them may call, and mutual TLS."""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_ct.errors import EdgeCTError

_AE_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?")
HANDSHAKE_SECONDS = 30.0


@dataclass(frozen=True)
class Peer:
    """An application entity and its address."""

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Parse AET@host:port or AET@[IPv6 address]:port.

        Raises:
            ValueError: The text has another form.
        """
        title, at, address = text.rpartition("@")
        host, colon, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (at and colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{text!r} is not of the form AET@host:port")
        return cls(parse_ae_title(title), host, int(port))

    def __str__(self) -> str:
        return f"{self.title}@{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_ae_title(text: str) -> str:
    """Return an AE title without surrounding spaces (PS3.5, 6.2).

    Raises:
        ValueError: The title is not 1 to 16 printable ASCII characters, or has a backslash.
    """
    if not _AE_TITLE.fullmatch(text.strip(" ")):
        raise ValueError(f"{text!r} is not an AE title: use 1 to 16 printable ASCII characters, no backslash")
    return text.strip(" ")


def parse_networks(texts: Sequence[str]) -> list[Any]:
    """Parse addresses and networks such as 192.168.7.0/24.

    Raises:
        ValueError: A text is neither.
    """
    return [ipaddress.ip_network(text, strict=False) for text in texts]


def is_allowed(address: str, networks: Sequence[Any]) -> bool:
    """Return whether an address lies in one of the networks; an empty list allows every address."""
    if not networks:
        return True
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(parsed in network for network in networks)


class _ServerContext(ssl.SSLContext):
    """Does the TLS handshake in the thread of the association, so that a stalled client does not block the next one."""

    def wrap_socket(self, sock: Any, *arguments: Any, **options: Any) -> Any:
        sock.settimeout(HANDSHAKE_SECONDS)
        return super().wrap_socket(sock, *arguments, **{**options, "do_handshake_on_connect": False})


def tls_context(certificate: Path, key: Path, authority: Path, server: bool) -> ssl.SSLContext:
    """Return a context for mutual TLS, version 1.2 or later.

    Args:
        certificate: PEM file with the certificate of this device.
        key: PEM file with its private key.
        authority: PEM file with the authority that must have signed the certificate of the peer.
        server: True for incoming connections, False for outgoing ones.

    Raises:
        EdgeCTError: A file cannot be used.
    """
    context: ssl.SSLContext
    if server:
        context = _ServerContext(ssl.PROTOCOL_TLS_SERVER)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # Peers are configured by address, and the authority belongs to the hospital: a host name would prove nothing.
        context.check_hostname = False
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
