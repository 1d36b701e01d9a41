"""What comes to the ports that isn't the SDK: JSON by hand, and garbage."""

from __future__ import annotations

import random
import socket
import time

import grpc
import pytest
from google.rpc.status_pb2 import Status
from server_process import ServerProcess

MINUTE = 60 * 10**9
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
GARBAGE = random.Random(1).randbytes(4096)


def otlp_json(user: str, at: int) -> dict[str, object]:
    record = {
        "timeUnixNano": str(at),
        "eventName": "signup",
        "attributes": [{"key": "user.id", "value": {"stringValue": user}}],
    }
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}


@pytest.mark.parametrize("port", ["http", "api"])
def test_otlp_as_json_by_hand(server: ServerProcess, port: str) -> None:
    user = f"json-{port}"
    number = server.http_port if port == "http" else server.api_port
    answer = server.post_json("/v1/logs", otlp_json(user, time.time_ns() - MINUTE), port=number)
    assert (answer.status, answer.json) == (200, {})
    assert answer.headers["content-type"] == "application/json"
    server.wait_caught_up()
    assert server.get(f"/api/v1/ttf/{user}").json["state"] == "in_progress"


def test_rest_says_which_events_it_did_not_take_and_why(server: ServerProcess) -> None:
    good = {"event_name": "signup", "event_type": "milestone", "user_id": "rest-ada"}
    answer = server.post_json(
        "/api/v1/events",
        {"events": [good, {"event_type": "milestone"}, {**good, "properties": {"user.id": "eve"}}]},
    )
    assert (answer.status, answer.json["accepted"]) == (200, 1)
    assert [item["index"] for item in answer.json["rejected"]] == [1, 2]
    none = server.post_json("/api/v1/events", {"events": [{"event_type": "milestone"}]})
    assert (none.status, none.headers["content-type"]) == (400, "application/problem+json")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(GARBAGE, id="random bytes"),
        pytest.param(b"\x0a\xff\xff\xff\xff\x0f", id="a length of 4 GiB"),
        pytest.param(b"\x0a\x05ab", id="truncated"),
    ],
)
def test_a_broken_request_is_the_senders_mistake_for_good(server: ServerProcess, raw: bytes) -> None:
    with (
        grpc.insecure_channel(server.grpc) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        channel.unary_unary(LOGS)(raw, timeout=10)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    answer = server.request(
        "POST", "/v1/logs", raw, headers={"content-type": "application/x-protobuf"}, port=server.http_port
    )
    assert answer.status == 400
    assert Status.FromString(answer.body).message


@pytest.mark.parametrize("port", ["grpc", "http", "api"])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(GARBAGE, id="random bytes"),
        pytest.param(b"\x00" * 100_000, id="zeros"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + GARBAGE, id="garbage after a HTTP/2 preface"),
        pytest.param(b"POST /v1/logs HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nx", id="an early end"),
        pytest.param(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", id="a very long path"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_garbage_on_a_port_hurts_nobody_else(server: ServerProcess, port: str, data: bytes) -> None:
    number = {"grpc": server.grpc_port, "http": server.http_port, "api": server.api_port}[port]
    with socket.create_connection(("127.0.0.1", number), timeout=5) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except OSError:
            pass  # it may hang up at any point
    assert server.running.poll() is None
    assert server.get("/ready").status == 200
    assert "Traceback" not in server.printed()


def test_the_limits_of_http(server: ServerProcess) -> None:
    assert server.request("GET", "/v1/logs", port=server.http_port).status == 405
    plain = server.request("POST", "/v1/logs", b"{}", headers={"content-type": "text/plain"})
    assert plain.status == 415
