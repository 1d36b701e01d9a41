"""By which names a server may be called."""

from __future__ import annotations

import pytest

from otel_ttf.access.hosts import Hosts, loopback

HOSTS = Hosts(["ttf.internal", "Other.Example."])


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8080", "LOCALHOST", "localhost.", "localhost.:80", "localhost:"),
        *("127.0.0.1", "127.0.0.1:8080", "10.2.3.4", "[::1]", "[::1]:80", "[2001:db8::1]"),
        *("ttf.internal", "TTF.internal:443", "other.example"),
    ],
)
def test_names_of_ours(host):
    assert HOSTS.allow(host.encode())
    assert HOSTS.allow(host.encode())


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "evil.localhost",
            "127.0.0.1.nip.example",
        ),
        *(
            "ttf.internal.evil.example",
            "xttf.internal",
            "",
            " ",
            "localhost evil.example",
            "localhost,evil.example",
        ),
        *(
            "[::1].evil.example",
            "::1",
            "user@localhost",
            "localhost:80:80",
            "localhost:x",
            "127.1",
            "0x7f000001",
        ),
        *("2130706433", "localhost/evil", "[localhost]", "löcalhost", "\x00localhost"),
    ],
)
def test_names_that_are_none(host):
    assert not HOSTS.allow(host.encode("latin-1", "replace"))


def test_who_sends_no_name_is_no_browser():
    assert HOSTS.allow(None)


def test_what_is_remembered_is_bounded():
    hosts = Hosts()
    assert all(hosts.allow(b"localhost:%d" % port) for port in range(1000))
    assert len(hosts._known) == 100


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("a", False),
    ],
)
def test_which_hosts_only_this_machine_reaches(host, ours):
    assert loopback(host) is ours
