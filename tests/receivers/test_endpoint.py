"""Where listeners listen."""

from __future__ import annotations

import contextlib
import socket

import pytest

from otel_ttf.receivers.endpoint import CannotListen, listen, split


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("127.0.0.1:4317", ("127.0.0.1", 4317)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:4317", ("::1", 4317)),
        (":4317", ("0.0.0.0", 4317)),
    ],
)
def test_host_and_port(endpoint, expected):
    assert split(endpoint) == expected


@pytest.mark.parametrize(
    "endpoint",
    ["", "4317", "localhost", "localhost:", "localhost:70000", "::1:4317", "http://localhost:4317", "a b:1"],
)
def test_what_is_no_endpoint(endpoint):
    with pytest.raises(ValueError, match="expected host:port"):
        split(endpoint)


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        pytest.param("192.0.2.1:4317", "is no address of this machine", id="somebody else's address"),
        pytest.param(
            "nowhere.invalid:4317", "the host of nowhere.invalid:4317 is not known", id="unknown host"
        ),
    ],
)
def test_why_it_cannot_listen(endpoint, why):
    with pytest.raises(CannotListen, match=f"^api.endpoint: .*{why}; set "):
        listen(endpoint, "api.endpoint")


def test_a_port_in_use():
    with contextlib.ExitStack() as stack:
        for opened in listen("127.0.0.1:0", "api.endpoint"):
            stack.enter_context(opened)
        port = opened.getsockname()[1]
        with pytest.raises(
            CannotListen, match=rf"^api.endpoint: 127.0.0.1:{port} is in use; stop the program"
        ):
            listen(f"127.0.0.1:{port}", "api.endpoint")


def test_all_addresses_of_a_host_share_the_port():
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(one) for one in listen("localhost:0", "api.endpoint")]
        assert len({one.getsockname()[1] for one in opened}) == 1
        with socket.create_connection(opened[0].getsockname()[:2], 5):
            pass
