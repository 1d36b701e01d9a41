"""What enrich adds: where, from what, and that nothing of it goes round the mask."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from mmdb import database
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import TimeConfig
from otel_ttf.otlp.values import mapping
from otel_ttf.otlp.wire import SHAPES, Signal, decode
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import Pseudonyms, SubjectConfig
from otel_ttf.processors import derive, files, pipeline
from otel_ttf.processors.base import ProcessorRefused
from otel_ttf.processors.consent import ConsentConfig
from otel_ttf.processors.enrich import EnrichConfig
from otel_ttf.processors.kubernetes import KubernetesConfig, attributes, entries
from otel_ttf.processors.mask import MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig

NOW = 1_790_000_000_000_000_000
KEYS = Keys(event=b"e" * 32, subjects=(b"s" * 32,))
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0"


def pairs(given: dict[str, Any]) -> list[KeyValue]:
    def value(one: Any) -> AnyValue:
        if isinstance(one, list):
            return AnyValue(array_value=ArrayValue(values=[value(item) for item in one]))
        return AnyValue(int_value=one) if isinstance(one, int) else AnyValue(string_value=one)

    return [KeyValue(key=key, value=value(one)) for key, one in given.items()]


def request(signal: Signal, *records: Any, resource: dict[str, Any] | None = None) -> bytes:
    shape = SHAPES[signal]
    made = shape.request()
    by_resource = getattr(made, shape.resources).add()
    by_resource.resource.attributes.extend(pairs(resource or {}))
    getattr(getattr(by_resource, shape.scopes).add(), shape.records).extend(records)
    return bytes(made.SerializeToString())


def processor(config: Any) -> Any:
    configs = {
        "enrich": EnrichConfig.model_validate(config),
        "pseudonymise": PseudonymiseConfig(),
        "mask": MaskConfig(),
    }
    return pipeline(configs, KEYS, SubjectConfig(), engine="re", time=TimeConfig())


def run(config: Any, raw: bytes, signal: Signal = "logs", **options: Any) -> Batch:
    return processor(config)(Batch(signal, raw, NOW, **options))


def logs(batch: Batch) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Attributes of the resource, and of the records."""
    (by_resource,) = decode("logs", batch.finish()).resource_logs
    records = by_resource.scope_logs[0].log_records
    return mapping(by_resource.resource.attributes), [mapping(record.attributes) for record in records]


@pytest.fixture
def geo(tmp_path):
    path = tmp_path / "geo.mmdb"
    path.write_bytes(
        database(
            {
                "81.2.69.0/24": {"country": {"iso_code": "GB"}},
                "89.160.20.0/24": {"country": "SE"},
                "9.9.9.0/24": {"country": {"names": "none"}},
            }
        )
    )
    return {"country": {"database": str(path)}}


@pytest.fixture
def plans(tmp_path):
    path = tmp_path / "plans.csv"
    path.write_text("account,plan,owner,seats\n7,pro,ada@example.com,3\nada,free,,\n")
    columns = {"plan": "account.plan", "owner": "account.owner"}
    return path, {
        "lookups": {"a": {"file": str(path), "column": "account", "from": ["user.id"], "columns": columns}}
    }


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("sent", "told"),
    [
        pytest.param({"client.address": "81.2.69.160"}, "GB", id="an address that is known"),
        pytest.param({"client.address": "89.160.20.112, 10.0.0.1"}, "SE", id="the first of several"),
        pytest.param({"client.address": ["81.2.69.160"]}, "GB", id="a list of one"),
        pytest.param({"client.address": "8.8.8.8"}, None, id="an address that is not known"),
        pytest.param({"client.address": "9.9.9.9"}, None, id="an entry without a country"),
        pytest.param({"client.address": "::1"}, None, id="an address of another version"),
        pytest.param({"client.address": "localhost"}, None, id="no address"),
        pytest.param({"client.address": 7}, None, id="a number"),
        pytest.param({"client.address.x": "81.2.69.160"}, None, id="another attribute"),
    ],
)
def test_the_country_is_read_before_the_address_is_masked(geo, sent, told, plain):
    raw = request("logs", LogRecord(attributes=pairs(sent)), resource=sent)
    resource, (record,) = logs(run(geo, raw, plain=plain))
    assert record.get("geo.country.iso_code") == resource.get("geo.country.iso_code") == told
    assert "81.2.69.160" not in repr(record) + repr(resource)


@pytest.mark.parametrize(
    ("sent", "browser", "system"),
    [
        pytest.param(FIREFOX, "Firefox", "Windows", id="a browser"),
        pytest.param("curl/8.4.0", "curl", None, id="a tool"),
        pytest.param("no such thing", None, None, id="an unknown one"),
        pytest.param(FIREFOX + "x" * 3000, None, None, id="one that is too long"),
    ],
)
def test_families_of_the_user_agent(sent, browser, system):
    config = {"user_agent": {}}
    _, (record,) = logs(
        run(config, request("logs", LogRecord(attributes=pairs({"user_agent.original": sent}))))
    )
    assert (record.get("user_agent.name"), record.get("user_agent.os.name")) == (browser, system)


def test_made_up_user_agents_do_not_take_all_of_a_processor(monkeypatch):
    monkeypatch.setattr(derive, "NEW_A_SECOND", 1)
    monkeypatch.setattr(derive, "_REMEMBERED", 8)
    made = [LogRecord(attributes=pairs({"user_agent.original": f"curl/8.{number}"})) for number in range(200)]
    batch = run({"user_agent": {}}, request("logs", *made))
    _, records = logs(batch)
    named = sum("user_agent.name" in record for record in records)
    assert len(records) == 200
    assert 8 <= named < 200
    assert batch.counts["underived", "user_agent"] == 200 - named


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        pytest.param("Ada@Example.COM", "example.com", id="an address"),
        pytest.param("ada@localhost", None, id="without a dot"),
        pytest.param("ada@example.c", None, id="a letter at its end"),
        pytest.param("a@b@example.com", None, id="two of them"),
        pytest.param("example.com", None, id="no address"),
    ],
)
def test_the_domain_of_an_address(sent, told):
    _, (record,) = logs(
        run({"email_domain": {}}, request("logs", LogRecord(attributes=pairs({"user.email": sent}))))
    )
    assert record.get("ttf.email_domain") == told
    assert "ada@" not in repr(record).lower()


def test_a_table_is_asked_by_the_id_as_it_came_and_what_it_tells_is_masked(plans):
    _, config = plans
    records = [
        LogRecord(event_name="signup", attributes=pairs({"user.id": one})) for one in ("ada", 7, "eve")
    ]
    _, (ada, seven, eve) = logs(run(config, request("logs", *records)))
    assert (ada["account.plan"], seven["account.plan"]) == ("free", "pro")
    assert seven["account.owner"] == "[EMAIL]"
    assert "account.owner" not in ada, "an empty field tells nothing"
    assert list(eve) == ["user.id"]
    assert ada["user.id"] == Pseudonyms(KEYS).token("ada")


def test_what_tells_who_it_was_is_not_left_of_whoever_has_denied(geo, plans):
    configs = {
        "enrich": EnrichConfig.model_validate(geo | plans[1] | {"user_agent": {}, "email_domain": {}}),
        "pseudonymise": PseudonymiseConfig(),
        "consent": ConsentConfig(on_deny="anonymise"),
        "mask": MaskConfig(),
    }
    sent = {
        "user.id": "ada",
        "client.address": "81.2.69.160",
        "user.email": "ada@lovelace.org",
        "user_agent.original": FIREFOX,
        "ttf.consent": "deny",
    }
    raw = request("logs", LogRecord(event_name="signup", attributes=pairs(sent)))
    _, (record,) = logs(pipeline(configs, KEYS, SubjectConfig(), engine="re")(Batch("logs", raw, NOW)))
    assert record == {
        "user_agent.original": FIREFOX,
        "user_agent.name": "Firefox",
        "user_agent.os.name": "Windows",
    }


def test_what_a_sender_has_set_stays(plans):
    _, config = plans
    sent = pairs({"user.id": "ada", "account.plan": "mine"})
    _, (record,) = logs(run(config, request("logs", LogRecord(attributes=sent))))
    assert record["account.plan"] == "mine"


def test_a_span_and_its_events_are_looked_at_by_themselves(geo):
    span = Span(name="GET /", attributes=pairs({"client.address": "81.2.69.160"}))
    span.events.add(name="a")
    span.events.add(name="b", attributes=pairs({"client.address": "89.160.20.112"}))
    batch = run(geo, request("traces", span), "traces")
    (out,) = decode("traces", batch.finish()).resource_spans[0].scope_spans[0].spans
    told = [mapping(one.attributes).get("geo.country.iso_code") for one in (out, *out.events)]
    assert told == ["GB", None, "SE"]


@pytest.mark.parametrize("plain", [False, True])
def test_event_ids_are_those_of_what_came(geo, plans, plain):
    attributes = pairs({"user.id": "ada", "client.address": "81.2.69.160", "k": "v"})
    log = request("logs", LogRecord(event_name="signup", time_unix_nano=NOW, attributes=attributes))
    span = Span(name="x", attributes=attributes)
    span.events.add(name="signup", time_unix_nano=NOW, attributes=attributes)
    for signal, raw in (("logs", log), ("traces", request("traces", span))):
        enriched = run(geo | plans[1], raw, signal, plain=plain)
        assert b"GB" in enriched.finish()
        assert b"free" in enriched.finish()
        assert enriched.ids == run({}, raw, signal).ids


def test_records_without_a_source_stay_the_bytes_that_came(geo):
    raw = request("logs", LogRecord(attributes=pairs({"k": "81.2.69.160 is no source"[11:]})))
    assert run(geo, raw).finish() is raw


def test_metrics_get_only_what_the_resource_tells(geo):
    metric = SHAPES["metrics"].record(name="m")
    metric.gauge.data_points.add(attributes=pairs({"client.address": "81.2.69.160"}))
    raw = request("metrics", metric, resource={"client.address": "81.2.69.160"})
    (out,) = decode("metrics", run(geo, raw, "metrics").finish()).resource_metrics
    assert mapping(out.resource.attributes)["geo.country.iso_code"] == "GB"
    (point,) = out.scope_metrics[0].metrics[0].gauge.data_points
    assert "geo.country.iso_code" not in mapping(point.attributes)


# Files.


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        pytest.param("a.csv", None, "expected a file, found none: put it there", id="no file"),
        pytest.param(
            "a.csv", "k,x\n1,2\n", "expected v among the names in line 1, found others", id="no column"
        ),
        pytest.param(
            "a.csv",
            "k,v\n1,2\n1,3\n",
            "expected each value of k once, found one in line 2 and line 3",
            id="twice",
        ),
        pytest.param("a.csv", "k,v\n1\n", "found more or fewer in line 2", id="a short line"),
        pytest.param("a.csv", "k,v\n,1\n", "expected a value of k, found none in line 2", id="no key"),
        pytest.param(
            "a.csv", b"k,v\n\xff,1\n", "expected text in UTF-8, found something else at byte 4", id="bytes"
        ),
        pytest.param("a.csv", 'k,v\n"1"x,2\n', "expected CSV, found an error in line 2", id="a quote"),
        pytest.param("a.json", "[{]", "expected JSON, found an error in it at line 1", id="no JSON"),
        pytest.param(
            "a.json", '{"k": 1}', "expected a list of objects, found something else", id="an object"
        ),
        pytest.param(
            "a.json", "[1]", "expected a list of objects, found something else at [0]", id="a number"
        ),
        pytest.param(
            "a.json", '[{"k": 1, "v": [2]}]', "found something else: [0], v", id="a list in a column"
        ),
    ],
)
def test_a_file_that_cannot_be_used_stops_the_start(tmp_path, name, text, error):
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    one = {"file": str(path), "column": "k", "from": ["x"], "columns": {"v": "y"}}
    with pytest.raises(ProcessorRefused) as caught:
        processor({"lookups": {"a": one}})
    assert str(caught.value).startswith(f"processors.enrich.lookups.a.file: {path}: ")
    assert error in str(caught.value)


def test_json_keeps_the_kinds_of_values(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"k": 7, "a": 1, "b": 1.5, "c": True, "d": None, "e": "t"}]))
    columns = {name: f"x.{name}" for name in "abcde"}
    config = {"lookups": {"a": {"file": str(path), "column": "k", "from": ["id"], "columns": columns}}}
    _, (record,) = logs(run(config, request("logs", LogRecord(attributes=pairs({"id": "7"})))))
    assert record == {"id": "7", "x.a": 1, "x.b": 1.5, "x.c": True, "x.e": "t"}


def test_a_damaged_entry_of_an_mmdb_file_tells_nothing(geo):
    path = Path(geo["country"]["database"])
    path.write_bytes(path.read_bytes().replace(b"\xe1\x47country", b"\xe1\xe0\x40ountry"))
    sent = LogRecord(attributes=pairs({"client.address": "81.2.69.142"}))
    _, (record,) = logs(run(geo, request("logs", sent)))
    assert list(record) == ["client.address"]


@pytest.mark.parametrize(
    "damage", [lambda _: b"not one", lambda data: data.replace(b"node_count", b"node_coumt")]
)
def test_no_mmdb_file(tmp_path, geo, damage):
    path = tmp_path / "geo.mmdb"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        ProcessorRefused, match=r"database: .*: expected an MMDB file, found another: mend it"
    ):
        processor({"country": {"database": str(path)}})


@pytest.mark.parametrize(
    ("module", "extra", "config"),
    [
        ("maxminddb", "geo", {"country": {"database": "x.mmdb"}}),
        ("ua_parser", "useragent", {"user_agent": {}}),
    ],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, module, extra, config):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ProcessorRefused) as caught:
        processor(config)
    assert f"pip install 'otel-ttf[{extra}]'" in str(caught.value)


def replaced(path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def test_a_changed_table_is_read_again_and_an_invalid_one_changes_nothing(plans, capsys, monkeypatch):
    path, config = plans
    monkeypatch.setattr(files, "LOOK_SECONDS", -1.0)
    process = processor(config)

    def plan() -> str:
        raw = request("logs", LogRecord(attributes=pairs({"user.id": "ada"})))
        _, (record,) = logs(process(Batch("logs", raw, NOW)))
        return str(record["account.plan"])

    def seen_within_a_while(text: str) -> None:
        for _ in range(500):
            if plan() == text:
                return
            settle()
        pytest.fail("not read again")

    def settle() -> None:
        for thread in threading.enumerate():
            if thread.name == "read again":
                thread.join(5)

    assert plan() == "free"
    replaced(path, "account,plan,owner,seats\nada,team,,\n")
    seen_within_a_while("team")
    replaced(path, "account,price\nada,1\n")
    for _ in range(3):
        assert plan() == "team"
        settle()
    said = capsys.readouterr().out
    assert said.count("a changed file cannot be used, what was read before stays") == 1
    assert "expected plan and owner among the names in line 1" in said
    path.unlink()
    assert plan() == "team"
    replaced(path, "account,plan,owner,seats\nada,again,,\n")
    seen_within_a_while("again")


# Kubernetes.


def test_the_downward_api(tmp_path):
    (tmp_path / "labels").write_text('app="web \\"1\\""\ntier="x=y"\nbroken\nodd="\n')
    (tmp_path / "annotations").write_text('note="n"\n')
    (tmp_path / "namespace").write_text("from-a-file\n")
    (tmp_path / "uid").write_text("u-1")
    environment = {"POD_NAME": "web-1", "POD_NAMESPACE": "shop", "K8S_NODE_NAME": ""}
    found = attributes(KubernetesConfig(path=str(tmp_path)), environment)
    assert found == {
        "k8s.pod.name": "web-1",
        "k8s.namespace.name": "shop",
        "k8s.pod.uid": "u-1",
        "k8s.pod.label.app": 'web "1"',
        "k8s.pod.label.tier": "x=y",
    }
    noted = attributes(KubernetesConfig(path=str(tmp_path), annotations=True), environment)
    assert noted == found | {"k8s.pod.annotation.note": "n"}
    assert attributes(KubernetesConfig(path=str(tmp_path / "none")), {}) == {}
    assert list(entries('="x"\n')) == []


def test_static_wins_over_the_environment_and_that_over_kubernetes(monkeypatch):
    for name, value in (("POD_NAME", "k"), ("NODE_NAME", "k"), ("POD_UID", "k"), ("X", "e")):
        monkeypatch.setenv(name, value)
    config = {
        "kubernetes": None,
        "environment": {"k8s.node.name": "X", "k8s.pod.name": "X"},
        "attributes": {"k8s.pod.name": "s"},
    }
    resource, _ = logs(run(config, request("logs", LogRecord(), resource={"k8s.pod.uid": "sent"})))
    assert resource == {"k8s.pod.uid": "sent", "k8s.node.name": "e", "k8s.pod.name": "s"}
