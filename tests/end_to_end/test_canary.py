"""A secret of its own in every position of OTLP where a text can stand, by every door: none of them stays.

The positions are walked from the descriptors, so a field that a later OTLP brings is tested as soon as it is there.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from canaries import MAKERS, Planted, card
from destinations import OK, GrpcDestination
from disk import contents
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from server_process import Answer as HttpAnswer
from server_process import ServerProcess, wait_for
from sinks import refusing_metrics
from test_dead_letters import PLANTED, dead_letters

REQUESTS = {
    "logs": ("logs.v1.LogsService", ExportLogsServiceRequest),
    "traces": ("trace.v1.TraceService", ExportTraceServiceRequest),
    "metrics": ("metrics.v1.MetricsService", ExportMetricsServiceRequest),
}
HARMLESS = "zq-harmless"
# Any secret, or half of one; the digits tell where it was planted.
SECRET = re.compile(
    rb"zqmail(\d+)|45391488(\d{7})\d|" + base64.b64encode(b'{"zq":')[:8] + rb"|zqbearer(\d+)|zquser(\d+)"
)
OTHERS = [kind for kind in MAKERS if kind not in ("email", "card", "jwt", "bearer")]
NO_BYTES = re.compile('"bytesValue": "[^"]*"')  # they are in base64 in JSON
HEADER = "http.request.header.x_user_id"


class Canaries:
    """Makes secrets, each of them once, and knows where it put them.

    more  of the other kinds, two in each text by turns
    """

    def __init__(self) -> None:
        self.places: list[str] = []
        self.more = Planted()

    def text(self, place: str) -> str:
        number = len(self.places)
        self.places.append(place)
        payload = base64.urlsafe_b64encode(b'{"zq": %d}' % number).decode().rstrip("=")
        jwt = f"eyJhbGciOiJIUzI1NiJ9.{payload}.c2lnbmF0dXJl"
        others = " and ".join(self.more.of(OTHERS[at % len(OTHERS)], place) for at in (number, number + 5))
        return (
            f"{HARMLESS}: zqmail{number}@example.com <{card(f'45391488{number:07d}')}> {jwt} then {others} "
            f"Authorization: Bearer zqbearer{number}0815"
        )

    def line(self, place: str) -> str:
        """A text for where none with several lines can stand."""
        return self.text(place).replace("\n", " ")

    def user(self, place: str) -> str:
        self.places.append(place)
        return f"zquser{len(self.places) - 1}"

    def found_in(self, data: bytes) -> set[str]:
        """Where what is in these bytes had been planted."""
        found = set()
        for match in SECRET.finditer(data):
            number = int(next((group for group in match.groups() if group), b"-1"))
            known = 0 <= number < len(self.places)
            found.add(f"{match.group().decode()} of {self.places[number] if known else 'a token'}")
        return found.union(*self.more.found_in([("here", data)]).values())

    # Messages.

    def fill(self, message: Any, place: str, variant: int = 0) -> None:
        """Puts a text into everything below the message. variant: which member of each oneof."""
        for field in message.DESCRIPTOR.fields:
            oneof = field.containing_oneof
            if oneof is not None and oneof.fields[variant % len(oneof.fields)] is not field:
                continue
            here = f"{place}.{field.name}"
            if field.type == FieldDescriptor.TYPE_STRING:
                if field.is_repeated:
                    getattr(message, field.name).append(self.text(here))
                else:
                    setattr(message, field.name, self.text(here))
            elif field.type == FieldDescriptor.TYPE_MESSAGE:
                self._below(message, field, here)
            elif field.name.endswith("time_unix_nano"):
                setattr(message, field.name, time.time_ns())

    def _below(self, message: Any, field: FieldDescriptor, here: str) -> None:
        kind = field.message_type
        assert kind is not None
        below = getattr(message, field.name)
        if kind.name == "KeyValue":
            self.attributes(below, here)
        elif kind.name == "AnyValue":
            self.values(below, here)
        elif field.is_repeated:
            for variant in range(max((len(oneof.fields) for oneof in kind.oneofs), default=1)):
                self.fill(below.add(), f"{here}[{variant}]", variant)
        else:
            below.SetInParent()
            self.fill(below, here)

    def attributes(self, pairs: Any, place: str) -> None:
        pairs.add(key=self.text(f"{place} key")).value.string_value = self.text(f"{place} text")
        self.values(pairs.add(key="zq.values").value, f"{place} values")
        user = pairs.add(key="user.id").value
        user.string_value = self.user(f"{place} user.id")
        pairs.add(key="enduser.id").value.array_value.values.add().string_value = self.user(f"{place} list")
        bytes_id = pairs.add(key="user_id").value
        bytes_id.bytes_value = self.user(f"{place} bytes").encode()
        odd = pairs.add(key="user_id").value.kvlist_value.values.add(key=self.user(f"{place} map key"))
        odd.value.string_value = self.user(f"{place} map")
        several = pairs.add(key="enduser.id").value.array_value.values
        several.add().string_value = self.user(f"{place} first of two")
        several.add().array_value.values.add().string_value = self.user(f"{place} second of two")

    def values(self, value: AnyValue, place: str) -> None:
        """A list of all kinds of values, and these again in a map, six deep."""
        for depth in range(6):
            listed = value.array_value.values
            listed.add().string_value = self.text(f"{place} text, {depth} deep")
            listed.add().bytes_value = self.text(f"{place} bytes, {depth} deep").encode()
            pairs = listed.add().kvlist_value.values
            nested = pairs.add(key=self.text(f"{place} key, {depth} deep"))
            nested.value.string_value = self.text(f"{place} value, {depth} deep")
            pairs.add(key="enduser.id").value.string_value = self.user(f"{place} user, {depth} deep")
            value = pairs.add(key="zq.deeper").value
        value.string_value = self.text(f"{place} at the bottom")

    def request(self, signal: str, door: str) -> Message:
        message: Message = REQUESTS[signal][1]()
        self.fill(message, f"{door} {signal}")
        return message

    # The doors.

    def send(self, server: ServerProcess) -> Iterator[bytes]:
        """Everything by every door, whole and broken; the answers."""
        with grpc.insecure_channel(server.grpc) as channel:
            for signal, (service, _) in REQUESTS.items():
                call = channel.unary_unary(f"/opentelemetry.proto.collector.{service}/Export")
                raw = self.request(signal, "gRPC").SerializeToString()
                yield call(raw, timeout=10)
                for broken in (raw[:-1], raw[: len(raw) // 2], raw[3:]):
                    with pytest.raises(grpc.RpcError) as refused:
                        call(broken, timeout=10)
                    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
                    yield str(refused.value).encode()
                with pytest.raises(grpc.RpcError) as refused:
                    channel.unary_unary(f"/{self.line('gRPC method')}/x")(raw, timeout=10)
                yield str(refused.value.code()).encode()
        for port in (server.http_port, server.api_port):
            for signal in REQUESTS:
                raw = self.request(signal, f"{port}").SerializeToString()
                yield self._post(server, f"/v1/{signal}", raw, "application/x-protobuf", port, 200)
                yield self._post(server, f"/v1/{signal}", raw[:-1], "application/x-protobuf", port, 400)
                yield self._post(server, f"/v1/{signal}", raw, "application/json", port, 400)
                request = self.request(signal, f"JSON {port}")
                text = json.dumps(json_format.MessageToDict(request, use_integers_for_enums=True)).encode()
                yield self._post(server, f"/v1/{signal}", text, "application/json", port, 200)
                yield self._post(server, f"/v1/{signal}", text[:-1], "application/json", port, 400)
                yield self._post(server, f"/v1/{signal}", text, self.line("media type"), port, 415)
                yield self._post(server, f"/v1/{signal}?{self.user('query')}", text, "text/plain", port, 415)
                yield self._post(server, f"/v1/{self.user('path')}", text, "text/plain", port, 404)
        for event, status in self.rest():
            body = json.dumps({"events": [event]}).encode()
            yield self._post(server, "/api/v1/events", body, "application/json", server.api_port, status)
        no_events: tuple[object, ...] = (
            self.text("JSON"),
            {self.text("JSON key"): []},
            {"events": self.text("no list")},
        )
        for document in no_events:
            body = json.dumps(document).encode()
            yield self._post(server, "/api/v1/events", body, "application/json", server.api_port, 400)

    def rest(self) -> Iterator[tuple[dict[str, object], int]]:
        """Events and the status that they are answered with."""
        good = {"event_name": self.text("event_name"), "event_type": self.text("event_type")}
        deep: object = self.text("at the bottom")
        for depth in range(10):
            deep = {self.text(f"key, {depth} deep"): [deep, self.text(f"value, {depth} deep")]}
        properties = {self.text("property"): self.text("value"), "deep": deep}
        yield {**good, "user_id": self.user("user_id"), "properties": properties}, 200
        yield {**good, "user_id": self.user("user_id"), "event_id": self.text("event_id")}, 200
        yield {**good, "user_id": self.user("user_id") * 60}, 400
        yield {**good, "user_id": [self.user("user_id")]}, 400
        yield {**good, "event_id": self.text("event_id") * 20}, 400
        yield {**good, "timestamp": self.text("timestamp")}, 400
        yield {**good, self.text("field"): 1}, 400
        for value in (float("nan"), 10**30):
            yield {**good, "properties": {self.text("property"): value}}, 400
        yield {**good, "properties": {f"ttf.{self.text('property')}": 1}}, 400
        yield {**good, "properties": {"user.id": self.user("user.id")}}, 400

    def _post(
        self, server: ServerProcess, path: str, body: bytes, media: str, port: int, status: int
    ) -> bytes:
        answer = server.request("POST", path, body, headers={"content-type": media}, port=port)
        assert answer.status == status, f"{path} answered {answer.body[:500]!r}"
        return whole(answer)

    def ask(self, server: ServerProcess) -> Iterator[bytes]:
        """All questions, secrets in all of their parts."""
        told = self.line("question").replace(" ", "%20").replace("<", "%3C").replace(">", "%3E")
        paths = [
            *("/api/v1/ttf", "/api/v1/stuck?over=0s", "/api/v1/events/names?limit=10000"),
            *("/metrics", "/openapi.json", "/docs", "/health", "/ready"),
            *(f"/{told}", f"/api/v1/ttf/{told}", f"/api/v1/ttf/{told}/{told}", f"/api/v1/subjects/{told}"),
            *(f"/api/v1/ttf?from={told}", f"/api/v1/ttf?segment.{told}=1", f"/api/v1/ttf?journey={told}"),
            *(f"/api/v1/ttf?{told}=1", f"/api/v1/ttf/x?version={told}", f"/api/v1/stuck?cursor={told}"),
            *(f"/api/v1/stuck?stage={told}", f"/api/v1/stuck?over={told}", f"/metrics?{told}"),
            *(f"/api/v1/events/names?limit={told}", f"/api/v1/stuck?limit={told}", f"/docs?{told}"),
        ]
        for path in paths:
            for method in ("GET", "DELETE"):
                yield whole(server.request(method, path, headers={"x-user-id": self.user("header")}))


def whole(answer: HttpAnswer) -> bytes:
    return str(answer.headers).encode() + answer.body


@pytest.fixture
def sink() -> Iterator[GrpcDestination]:
    """Where an exporter sends everything; it refuses some metrics, so that dead letters are looked at, too."""
    made = GrpcDestination(judge=refusing_metrics())
    made.start()
    yield made
    made.stop()


@pytest.mark.timeout(180)  # it searches every byte for everything, and a busy machine takes its time
def test_no_text_of_otlp_is_forgotten(tmp_path: Path, sink: GrpcDestination) -> None:
    canaries = Canaries()
    table = tmp_path / "table.json"
    table.write_text(json.dumps([{"who": "by-header", "note": canaries.text("lookup")}]))
    lookup = {"file": str(table), "column": "who", "from": [HEADER], "columns": {"note": "zq.note"}}
    settings = [
        f"exporters.otlp={{endpoint: '127.0.0.1:{sink.port}', tls: {{insecure: true}}}}",
        *(f"service.pipelines.{signal}.exporters=[otlp]" for signal in REQUESTS),
        "service.telemetry.logs.level=debug",
        "storage.events=all",
        f"processors.enrich.lookups.a={json.dumps(lookup)}",
        f"subject.from=[user.id, enduser.id, user_id, {HEADER}]",
    ]
    with ServerProcess(tmp_path / "data", settings=settings) as server:
        answers = list(canaries.send(server))
        signup = ExportLogsServiceRequest()
        record = signup.resource_logs.add().scope_logs.add().log_records.add(event_name="signup")
        header = record.attributes.add(key="http.request.header.x-user-id").value
        header.array_value.values.add().string_value = "by-header"
        media = {"content-type": "application/x-protobuf"}
        server.request("POST", "/v1/logs", signup.SerializeToString(), headers=media)
        server.wait_caught_up()
        assert server.get("/api/v1/ttf/by-header").json["state"] == "in_progress", "HEADER names the subject"
        answers += canaries.ask(server)
        wait_for(lambda: server.metrics().total("otelcol_exporter_queue_size") == 0, "the exporter", 30)
        wait_for(
            lambda: server.metrics().total("otel_ttf_quarantine_records", consumer="otlp:metrics") > 0,
            "letters",
        )
        letters = [
            json.dumps(dead_letters(server, "show", str(item["id"])))
            for item in dead_letters(server, "list")["items"]
        ]
        before = list(contents(server.data_dir))
        assert server.terminate() == 0
        after = list(contents(server.data_dir))
    assert len(canaries.places) > 2000, "the walk has reached hardly anything"
    assert {name: found for name, data in before + after if (found := canaries.found_in(data))} == {}
    assert [found for answer in answers if (found := canaries.found_in(answer))] == []
    assert canaries.found_in(server.printed().encode()) == set()
    assert {one.signal for one in sink.came} == set(REQUESTS)
    # What was refused came again in parts, and is on the disk.
    sent = [one.request.SerializeToString() for one in sink.came if one.answer is OK]
    assert [found for data in sent if (found := canaries.found_in(data))] == []
    assert [found for text in letters if (found := canaries.found_in(NO_BYTES.sub("", text).encode()))] == []
    assert any(HARMLESS.encode() in data for _, data in after), "the search finds nothing at all"
    assert any(b"zq.note" in data for _, data in after), "the table was not asked"
    assert canaries.found_in(canaries.text("here").encode()), "the search finds no secret"


@pytest.mark.slow
def test_what_is_set_aside_holds_none_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flag = tmp_path / "planted"
    flag.write_text(HARMLESS)
    monkeypatch.setenv("PLANTED", str(flag))
    event = {"event_type": "user", "event_name": "signup", "user_id": "u"}
    canaries = Canaries()
    with ServerProcess(tmp_path / "data", program=[str(PLANTED)]) as server:
        for _ in canaries.send(server):
            # Others pass, so it is no defect that hits all.
            server.post_json("/api/v1/events", {"events": [event]})
        server.wait_caught_up()
        letters = dead_letters(server, "list")
        assert letters["count"] > 10
        told = [json.dumps(dead_letters(server, "show", str(item["id"]))) for item in letters["items"][::4]]
        assert any(HARMLESS in text for text in told)
        # Bytes are in base64 here; as they are, they are looked at on the disk.
        texts = NO_BYTES.sub("", json.dumps(letters) + "".join(told))
        assert canaries.found_in(texts.encode()) == set()
        assert canaries.found_in(server.get("/ready").body + server.get("/metrics").body) == set()
        assert canaries.found_in(server.printed().encode()) == set()
        assert server.terminate() == 0
        on_disk = list(contents(server.data_dir))
    assert {name: found for name, data in on_disk if (found := canaries.found_in(data))} == {}
