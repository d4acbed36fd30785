"""Host names, origins and sessions, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_ct.device_app.web.request_checks import allowed_hosts
from edge_ct.device_app.web.sessions import IDLE_SECONDS, Sessions

HOME = allowed_hosts(8042, lan=False, more=["pi.clinic"])
LAN = allowed_hosts(8042, lan=True, more=[])


@pytest.mark.parametrize("host", ["127.0.0.1:8042", "localhost:8042", "LOCALHOST:8042", "[::1]:8042", "pi.clinic:8042"])
def test_own_names_are_answered(host: str) -> None:
    assert HOME.allows(host)


@pytest.mark.parametrize(
    "host",
    [
        None, "", ":8042", "evil.example:8042", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8042:1", "192.168.0.7:8042",
        "127.0.0.1.evil.example:8042", "[::1:8042", "[::1]8042", "localhost:08042x", "localhost:\u0668", "localhost:-1",
    ],
)  # fmt: skip
def test_other_names_are_not(host: str | None) -> None:
    assert not HOME.allows(host)


def test_on_a_network_addresses_are_answered_but_no_foreign_name() -> None:
    assert LAN.allows("192.168.0.7:8042")
    assert LAN.allows("[fe80::1]:8042")
    assert not LAN.allows("rebound.example:8042")
    assert not LAN.allows("192.168.0.7:80")


def test_port_80_goes_without_saying() -> None:
    assert allowed_hosts(80, lan=False, more=[]).allows("localhost")


@given(st.text(max_size=80))
def test_no_host_header_breaks_it(host: str) -> None:
    assert HOME.allows(host) in (True, False)


def test_origins() -> None:
    assert HOME.is_same_origin(None, "localhost:8042", None)
    assert HOME.is_same_origin("http://localhost:8042", "localhost:8042", "same-origin")
    for origin in ("http://localhost:8043", "https://localhost:8042", "null", "http://evil.example"):
        assert not HOME.is_same_origin(origin, "localhost:8042", None)
    for site in ("cross-site", "same-site"):
        assert not HOME.is_same_origin("http://localhost:8042", "localhost:8042", site)


def test_sessions_are_found_by_their_token_until_they_are_idle() -> None:
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    one, two = sessions.open(), sessions.open(signed_in=True)
    assert _csrf(sessions, one.token) == one.csrf
    assert sessions.find(two.token) is two
    assert sessions.find("x") is None
    assert not one.owns_csrf_token(two.csrf)
    assert one.owns_csrf_token(one.csrf)
    assert not one.owns_csrf_token("\u00fc")
    now[0] = IDLE_SECONDS
    assert sessions.find(two.token) is two
    now[0] = IDLE_SECONDS + 1
    assert sessions.find(one.token) is None
    sessions.close(two)
    assert sessions.find(two.token) is None


def _csrf(sessions: Sessions, token: str) -> str | None:
    session = sessions.find(token)
    return session and session.csrf


def test_visitors_end_no_session_whether_the_pin_was_given_or_not() -> None:
    sessions = Sessions()
    own, before = sessions.open(signed_in=True), sessions.open()
    before.reviewer = "Dr Lima"
    sessions.keep(before)
    strangers = [sessions.open() for _ in range(600)]
    assert sessions.find(own.token) is own
    assert sessions.find(before.token) is before
    assert [_csrf(sessions, stranger.token) for stranger in strangers] == [stranger.csrf for stranger in strangers]
    for stranger in strangers:
        sessions.keep(stranger)
    found = sessions.find(before.token)
    assert found is not None
    assert (found.csrf, found.signed_in) == (before.csrf, False)
    assert sessions.find(own.token) is own


def test_a_token_that_the_server_did_not_sign_is_no_session() -> None:
    sessions, other = Sessions(), Sessions()
    token = sessions.open().token
    assert sessions.find(token) is not None
    assert other.find(token) is None
    body, _, signature = token.rpartition(".")
    random, _, issued = body.partition(".")
    forged = (f"{random}.{int(issued) + 9}.{signature}", f"{body}.", body, f"{body}.{signature}0", f"\u00fc{token}")
    for text in (*forged, "", ".", "..", "a.b.c", "." * 300, "x" * 100_000):
        assert sessions.find(text) is None
    # What protects forms differs from what the cookie holds.
    assert sessions.open().csrf not in token
