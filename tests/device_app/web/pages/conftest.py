"""Rows behind the pages, sent by Flask's test client."""

from __future__ import annotations

import io
from typing import Any

import pytest

from ..conftest import Home, png

PAGES = ("/", "/?show=negative", "/rows", "/add", "/slices/1", "/slices/1/print", "/model", "/device")


def send(client: Home, csrf: dict[str, str], *files: tuple[str, bytes], **more: Any) -> Any:
    data = {"files": [(io.BytesIO(content), name) for name, content in files], "folder": more.pop("folder", "")}
    return client.post("/upload", data=data, headers={**csrf, **more.pop("headers", {})}, **more)


@pytest.fixture
def judged(client: Home, csrf: dict[str, str]) -> list[dict[str, Any]]:
    """Three rows: two slices and a file that is not an image."""
    answer = send(client, csrf, ("a.png", png(1, 2)), ("b.png", png(2, 3, True)), ("notes.txt", b"hello"))
    assert answer.status_code == 201
    files = answer.json["files"]
    assert isinstance(files, list)
    return files
