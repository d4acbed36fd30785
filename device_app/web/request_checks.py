"""Who may ask what: host names, origins, the PIN, CSRF tokens; and the headers that every answer carries."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

# Nothing but this server's own files, no inline script or style, no frame around it.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), usb=(), payment=()",
    "X-Robots-Tag": "noindex",
}


@dataclass(frozen=True)
class Hosts:
    """The names that this server answers to, so that no other name can be made to lead a browser here (DNS rebinding).

    port: of the server. names: lower-case host names. addresses: any literal address is good: a page under a foreign
    name cannot have one.
    """

    port: int
    names: frozenset[str]
    addresses: bool

    def good(self, host: str | None) -> bool:
        """Whether a Host header names this server."""
        name, port = _split(host or "")
        if port != self.port or not name:
            return False
        if name in self.names:
            return True
        return self.addresses and _is_address(name)

    def same_origin(self, origin: str | None, host: str | None, fetch_site: str | None) -> bool:
        """Whether a request that changes something came from a page of this server, as far as its headers tell.

        Browsers send Origin with every POST; where a program sends none, the CSRF token decides alone.
        """
        if fetch_site is not None and fetch_site not in ("same-origin", "none"):
            return False
        return origin is None or origin.lower() == f"http://{(host or '').lower()}"


def hosts(port: int, lan: bool, more: Iterable[str]) -> Hosts:
    """Loopback names; with `lan` literal addresses and this machine's name too, and whatever was given."""
    names = {"127.0.0.1", "localhost", "::1"}
    if lan:
        import socket

        own = socket.gethostname().lower()
        names |= {own, own.partition(".")[0], f"{own.partition('.')[0]}.local"}
    return Hosts(port, frozenset(names | {name.lower() for name in more}), lan)


def _split(host: str) -> tuple[str, int]:
    """'[::1]:8080' -> ('::1', 8080); no port means 80; a bad one gives -1."""
    host = host.strip().lower()
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return "", -1
        port = rest[1:]
    else:
        name, _, port = host.partition(":")
    if not port:
        return name.rstrip("."), 80
    return name.rstrip("."), int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else -1


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
