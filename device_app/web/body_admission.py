"""Whether a request may send a body: decided from its headers, before the body is read.

The application checks every request again when it is complete. This check keeps those out who could send nothing that
would be accepted, so that they take neither memory nor disk nor a place.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from .request_checks import Refusal
from .services import Services
from .sessions import COOKIE

UPLOAD = "/upload"
FORM_BYTES = 64 << 10  # of a form that is no upload
_WITHOUT_PIN = ("/enter", "/settings")
_MIN_FREE = 64 << 20
# The body is stored once as it arrives and once more when its files are taken apart.
_COPIES = 2


BUSY = Refusal(503, "error.busy", 1)


@dataclass(frozen=True)
class BodyAdmission:
    """The rules of one server."""

    services: Services

    def largest(self, path: str) -> int:
        """Return the maximum size in bytes of a body that is sent to a path."""
        return self.services.limits.request_bytes if path == UPLOAD else FORM_BYTES

    def refuse(self, method: str, path: str, headers: Mapping[str, str], size: int | None) -> Refusal | None:
        """Return why a body is not read; None if it may be sent.

        Args:
            method: Method of the request.
            path: Path of the request, without its query.
            headers: Headers by their names in capitals, with underscores for hyphens.
            size: Stated size in bytes; None if the body is sent in chunks.
        """
        services = self.services
        if not services.hosts.allows(headers.get("HOST")):
            return Refusal(421, "error.host")
        if method != "POST":
            return Refusal(405, "error.request")
        token = _cookie(headers.get("COOKIE", ""))
        session = services.sessions.find(token) if token else None
        if services.gate and not (session and session.signed_in) and path not in _WITHOUT_PIN:
            return Refusal(401, "error.pin")
        site = headers.get("SEC_FETCH_SITE")
        same_origin = services.hosts.is_same_origin(headers.get("ORIGIN"), headers.get("HOST"), site)
        csrf = headers.get("X_CSRF_TOKEN")
        if session is None or not same_origin or (csrf is not None and not session.owns_csrf_token(csrf)):
            return Refusal(403, "error.csrf")
        if size is None and path != UPLOAD:
            return Refusal(411, "error.request")
        largest = self.largest(path)
        if size is not None and size > largest:
            return Refusal(413, "error.large")
        return None if self._has_room(size or largest) else BUSY

    def _has_room(self, size: int) -> bool:
        """Return whether a body finds room on the disk of temporary files."""
        if size <= FORM_BYTES:
            return True
        return shutil.disk_usage(tempfile.gettempdir()).free > _COPIES * size + _MIN_FREE


def _cookie(header: str) -> str | None:
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel else None
