"""The API behind a real server: what a test client would smooth over."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from contextlib import closing

import pytest
import uvicorn


@pytest.fixture
def ask(serve_memory, onboarding, state, token):
    """(method, target as it goes over the wire) -> (status, headers, body)."""
    api = serve_memory(onboarding, {token("a/b"): state(onboarding, 0, 4)})
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        config = uvicorn.Config(api.app, log_config=None, access_log=False, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:

            def send(method: str, target: str) -> tuple[int, dict[str, str], bytes]:
                connection.request(method, target)
                response = connection.getresponse()
                return response.status, dict(response.getheaders()), response.read()

            yield send
        server.should_exit = True
        thread.join()


def test_an_encoded_slash_is_part_of_the_user_id(ask):
    assert ask("GET", "/api/v1/ttf/a%2Fb?journey=onboarding")[0] == 200
    assert ask("GET", "/api/v1/ttf/a%2Fb/alerts")[0] == 200
    assert ask("GET", "/api/v1/ttf/a/b")[0] == 404


def test_head_tells_the_length_and_keeps_the_connection_in_step(ask):
    status, headers, body = ask("HEAD", "/api/v1/ttf/a%2Fb")
    assert (status, body) == (200, b"")
    # On the same connection: a body sent after HEAD would be read as the next answer.
    assert int(headers["content-length"]) == len(ask("GET", "/api/v1/ttf/a%2Fb")[2])
    assert ask("HEAD", "/metrics")[0] == 200
    assert ask("GET", "/health")[2] == b'{"status":"ok"}'
