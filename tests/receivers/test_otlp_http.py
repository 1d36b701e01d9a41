"""OTLP/HTTP as clients see it: the official exporters, plain requests, and browsers."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
import requests
import zstandard
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from sdk import emit_log, emit_metric, emit_span
from serving import Serving, attributes, records, refusing, serving

from otel_ttf.receivers.endpoint import CannotListen
from otel_ttf.receivers.http_server import HttpServer
from otel_ttf.receivers.otlp_http import CorsConfig, HttpConfig

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}
EVENT = {
    "timeUnixNano": "1790000000000000000",
    "eventName": "signup",
    "attributes": [{"key": "user.id", "value": {"stringValue": "jane"}}],
}
DOCUMENT = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [EVENT]}]}]}).encode()
LOGS = json_format.Parse(DOCUMENT, ExportLogsServiceRequest()).SerializeToString()
BODIES = {"protobuf": (PROTOBUF, LOGS), "JSON": (JSON, DOCUMENT)}
both = pytest.mark.parametrize(("headers", "body"), BODIES.values(), ids=BODIES)


def post(server: Serving, headers: dict[str, str], body: bytes, path: str = "/v1/logs") -> requests.Response:
    return requests.post(server.url(path), body, headers=headers, timeout=20)


def status_of(answer: requests.Response) -> status_pb2.Status:
    if answer.headers["content-type"] == "application/json":
        return json_format.Parse(answer.content, status_pb2.Status())
    assert answer.headers["content-type"] == "application/x-protobuf"
    return status_pb2.Status.FromString(answer.content)


@pytest.mark.parametrize("compression", list(Compression))
def test_the_official_exporters_are_understood(server, compression):
    with server.stored() as rows:
        emit_log(OTLPLogExporter(server.url("/v1/logs"), compression=compression))
        emit_span(OTLPSpanExporter(server.url("/v1/traces"), compression=compression))
        emit_metric(OTLPMetricExporter(server.url("/v1/metrics"), compression=compression))
    assert [row.signal for row in rows] == ["logs", "traces", "metrics"]


@both
def test_the_answer_has_the_requests_encoding(server, headers, body):
    with server.stored() as rows:
        answer = post(server, headers, body)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == headers["content-type"]
    assert answer.content == (b"{}" if headers is JSON else b"")
    (record,) = records(rows)
    assert record.event_name == "signup"
    assert attributes(record)["user.id"].startswith("u1_")


def test_the_api_port_takes_otlp_too(server):
    with server.stored() as rows:
        answer = requests.post(
            f"http://127.0.0.1:{server.api_port}/v1/logs", LOGS, headers=PROTOBUF, timeout=20
        )
    assert answer.status_code == 200
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        pytest.param("gzip", gzip.compress, id="gzip"),
        pytest.param("GZIP", gzip.compress, id="encodings have no case"),
        pytest.param("deflate", zlib.compress, id="deflate"),
        pytest.param("deflate", lambda data: zlib.compress(data, wbits=-15), id="raw deflate"),
        pytest.param("zstd", zstandard.compress, id="zstd"),
        pytest.param("identity", bytes, id="identity"),
    ],
)
@both
def test_compressed_bodies(server, headers, body, encoding, pack):
    with server.stored() as rows:
        assert post(server, headers | {"content-encoding": encoding}, pack(body)).status_code == 200
    assert len(records(rows)) == 1


@both
@pytest.mark.parametrize("path", ["/v1/logs", "/v1/traces", "/v1/metrics"])
def test_an_empty_request_succeeds(server, path, headers, body):
    with server.stored() as rows:
        assert post(server, headers, b"{}" if headers is JSON else b"", path).status_code == 200
    assert rows == []


@both
def test_a_bad_record_is_named_and_the_others_are_kept(server, headers, body):
    request = ExportLogsServiceRequest.FromString(LOGS)
    bad = LogRecord(event_name="signup")
    bad.attributes.add(key="user.id").value.string_value = "x" * 513
    request.resource_logs[0].scope_logs[0].log_records.append(bad)
    raw = request.SerializeToString()
    with server.stored() as rows:
        answer = post(
            server, headers, json_format.MessageToJson(request).encode() if headers is JSON else raw
        )
    assert answer.status_code == 200
    if headers is JSON:
        assert answer.json()["partialSuccess"]["rejectedLogRecords"] == "1"
        told = json_format.Parse(answer.content, ExportLogsServiceResponse())
    else:
        told = ExportLogsServiceResponse.FromString(answer.content)
    assert told.partial_success.rejected_log_records == 1
    assert "log_records[1]" in told.partial_success.error_message
    assert rows[0].records == 1


def test_a_value_of_a_wrong_type_costs_one_record(server):
    record = '{"eventName":"signup","attributes":[{"key":"user.id","value":{"stringValue":"ada"}}]}'
    bad = '{"eventName":"signup","body":{"intValue":"many"}}'
    body = f'{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{record},{bad},{record}]}}]}}]}}'
    with server.stored() as rows:
        answer = post(server, JSON, body.encode())
    assert answer.status_code == 200
    told = answer.json()["partialSuccess"]
    assert told["rejectedLogRecords"] == "1"
    assert "log_records[1]: body.intValue: expected an integer, found a string" in told["errorMessage"]
    assert rows[0].records == 2


REFUSALS = [
    pytest.param("POST", "/v1/logs", PROTOBUF, b"\xff\xff", 400, id="garbage"),
    pytest.param("POST", "/v1/logs", PROTOBUF, LOGS[:-3], 400, id="protobuf cut off"),
    pytest.param("POST", "/v1/logs", JSON, DOCUMENT[:-3], 400, id="JSON cut off"),
    pytest.param("POST", "/v1/logs", JSON, b"", 400, id="no JSON at all"),
    pytest.param("POST", "/v1/logs", JSON, b"[" * 1_000_000, 400, id="a million brackets"),
    pytest.param(
        "POST", "/v1/logs", JSON, b'{"resourceLogs": [' + b"{}," * 3_000_000 + b"{}]}", 413, id="objects"
    ),
    pytest.param("POST", "/v1/logs", PROTOBUF, b"\x0a\x00" * 4_000_000, 400, id="empty resources"),
    pytest.param("POST", "/v1/logs", JSON, b"[1, 2]", 400, id="a list where an object belongs"),
    pytest.param("POST", "/v1/logs", JSON, b'{"resourceLogs": "\xff"}', 400, id="JSON that is no UTF-8"),
    pytest.param("POST", "/v1/logs", PROTOBUF | {"content-encoding": "gzip"}, b"text", 400, id="no gzip"),
    pytest.param("POST", "/v1/logs", PROTOBUF | {"content-encoding": "gzip"}, b"", 400, id="empty gzip"),
    pytest.param("POST", "/v1/logs", PROTOBUF | {"content-encoding": "br"}, LOGS, 415, id="unknown encoding"),
    pytest.param(
        "POST", "/v1/logs", PROTOBUF | {"content-encoding": "gzip, gzip"}, LOGS, 415, id="encoded twice"
    ),
    pytest.param("POST", "/v1/logs", {"content-type": "text/plain"}, LOGS, 415, id="text"),
    pytest.param("POST", "/v1/logs", {}, LOGS, 415, id="no content type"),
    pytest.param(
        "POST", "/v1/logs", {"content-type": "application/json; charset=utf-16"}, DOCUMENT, 415, id="UTF-16"
    ),
    pytest.param("POST", "/v1/profiles", PROTOBUF, LOGS, 404, id="a signal that is none of ours"),
    pytest.param("POST", "/", PROTOBUF, LOGS, 404, id="no path"),
    pytest.param("GET", "/v1/logs", PROTOBUF, b"", 405, id="GET"),
    pytest.param("PUT", "/v1/logs", JSON, DOCUMENT, 405, id="PUT"),
]


@pytest.mark.parametrize(("method", "path", "headers", "body", "status"), REFUSALS)
def test_refusals_carry_a_status(server, method, path, headers, body, status):
    before = server.count("telemetry_errors_total", reason="malformed")
    with server.stored() as rows:
        answer = requests.request(method, server.url(path), data=body, headers=headers, timeout=20)
    assert answer.status_code == status
    expected = (
        "application/x-protobuf"
        if headers.get("content-type") == PROTOBUF["content-type"]
        else "application/json"
    )
    assert answer.headers["content-type"] == expected
    told = status_of(answer)
    assert told.code != 0
    assert told.message
    if status == 400:
        assert told.details[0].Is(error_details_pb2.BadRequest.DESCRIPTOR)
    assert rows == []
    assert server.count("telemetry_errors_total", reason="malformed") == before + 1


def test_refusals_say_what_would_do(server):
    answer = post(server, PROTOBUF | {"content-encoding": "br"}, LOGS)
    assert answer.headers["accept-encoding"] == "gzip, deflate, zstd"
    assert requests.get(server.url("/v1/logs"), timeout=20).headers["allow"] == "POST"


@both
def test_back_pressure_says_when_to_come_again(server, headers, body):
    with server.failing(refusing()):
        answer = post(server, headers, body)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"  # 1.5 s, rounded up
    detail = error_details_pb2.RetryInfo()
    assert status_of(answer).details[0].Unpack(detail)
    assert detail.retry_delay.ToMilliseconds() == 1500


def test_too_much_in_flight_is_refused_for_a_while(server):
    with server.full():
        answer = post(server, PROTOBUF, LOGS)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert post(server, PROTOBUF, LOGS).status_code == 200
    assert server.intake.in_flight.used == 0


@both
def test_an_error_of_ours_is_never_the_senders(server, capsys, headers, body):
    with server.failing(RuntimeError("jane@example.com")):
        answer = post(server, headers, body)
    assert answer.status_code == 503
    written = capsys.readouterr()
    assert "jane" not in written.out + written.err + answer.text


def test_a_connection_stays_after_refusals(server):
    with requests.Session() as session:
        for headers in ({}, PROTOBUF):
            answer = session.post(server.url("/v1/logs"), b"\xff", headers=headers, timeout=20)
            assert "connection" not in answer.headers
        assert session.post(server.url("/v1/logs"), LOGS, headers=PROTOBUF, timeout=20).status_code == 200


def test_no_header_tells_of_the_software(server):
    assert "server" not in post(server, PROTOBUF, LOGS).headers


def test_the_limit_is_configurable_and_holds_before_and_after_inflation(tmp_path):
    with serving(tmp_path, HttpConfig(max_request_body_size="1KiB")) as server:
        padded = LOGS + b"\x82\x7d\xff\x0f" + bytes(2047)  # an unknown field: valid, and ignored
        assert post(server, PROTOBUF, LOGS).status_code == 200
        assert post(server, PROTOBUF, padded).status_code == 413
        assert post(server, PROTOBUF | {"content-encoding": "gzip"}, gzip.compress(padded)).status_code == 413
        assert post(server, PROTOBUF, iter([padded[:1500], padded[1500:]])).status_code == 413


def test_browsers_of_allowed_pages_may_send(tmp_path):
    cors = CorsConfig(allowed_origins=("https://app.example.com", "https://*.example.org"), max_age="1m")
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    with serving(tmp_path, HttpConfig(cors=cors)) as server:
        for origin, allowed in {
            "https://app.example.com": True,
            "https://a.b.example.org": True,
            "https://example.com": False,
            "https://evil.com/.example.org": False,
        }.items():
            answer = requests.options(server.url("/v1/logs"), headers=ask | {"origin": origin}, timeout=20)
            assert (answer.headers.get("access-control-allow-origin") == origin) is allowed, origin
        answer = post(server, JSON | {"origin": "https://app.example.com"}, DOCUMENT)
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"


def test_a_port_in_use_is_said_in_one_sentence(server):
    again = HttpServer(None, f"127.0.0.1:{server.otlp_port}", setting="api.endpoint")
    with pytest.raises(CannotListen, match=r"^api\.endpoint: .* is in use; stop the program"):
        server.call(again.start)
