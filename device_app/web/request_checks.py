"""Checks of a request's host name and origin, how a request is refused, and the security headers of every answer."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

# Only files of this server, no inline script or style, no embedding in a frame.
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
class Refusal(Exception):
    """An error page instead of an answer.

    Attributes:
        status: HTTP status.
        key: Key of the text in `strings.json`.
        wait: Seconds after which the request may be repeated, if that helps.
    """

    status: int
    key: str
    wait: int | None = None


@dataclass(frozen=True)
class AllowedHosts:
    """The host names that this server answers to; other names are refused, which stops DNS rebinding.

    Attributes:
        port: Port of the server.
        names: Lower-case host names.
        addresses: True to allow every literal IP address: a page of a foreign site cannot use one as its own name.
    """

    port: int
    names: frozenset[str]
    addresses: bool

    def allows(self, host: str | None) -> bool:
        """Return whether a Host header names this server."""
        name, port = _split_host(host or "")
        if port != self.port or not name:
            return False
        if name in self.names:
            return True
        return self.addresses and _is_address(name)

    def is_same_origin(self, origin: str | None, host: str | None, fetch_site: str | None) -> bool:
        """Return whether a POST comes from a page of this server, as far as its headers tell.

        Browsers send Origin with every POST. For a program that sends none, the CSRF token alone decides.

        Args:
            origin: Origin header.
            host: Host header.
            fetch_site: Sec-Fetch-Site header.
        """
        if fetch_site is not None and fetch_site not in ("same-origin", "none"):
            return False
        return origin is None or origin.lower() == f"http://{(host or '').lower()}"


def is_host(host: str | None) -> bool:
    """Return whether a Host header is a host name or an address with or without a port, whichever it is."""
    return re.fullmatch(r"([\w.-]{1,255}|\[[\w:.%-]{1,255}\])(:[0-9]{1,5})?", host or "", re.ASCII) is not None


def allowed_hosts(port: int, lan: bool, more: Iterable[str]) -> AllowedHosts:
    """Return the loopback names and `more`; with `lan`, also IP addresses and the name of this machine."""
    names = {"127.0.0.1", "localhost", "::1"}
    if lan:
        import socket

        machine = socket.gethostname().lower()
        names |= {machine, machine.partition(".")[0], f"{machine.partition('.')[0]}.local"}
    return AllowedHosts(port, frozenset(names | {name.lower() for name in more}), lan)


def _split_host(host: str) -> tuple[str, int]:
    """Split '[::1]:8080' into ('::1', 8080); the port is 80 if none is given, and -1 if it is invalid."""
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
