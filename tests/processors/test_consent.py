"""What people have said about the use of their data is done."""

from __future__ import annotations

from typing import Any

import pytest
from made import left
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import Rules, TimeConfig, extract, unpack_ids
from otel_ttf.otlp.leaving import MARK, for_vendor
from otel_ttf.otlp.wire import SHAPES, Signal, decode
from otel_ttf.pii.consent import DENIED, NOT_FOR_SALE, Book, ConsentRefused
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import Pseudonyms, SubjectConfig
from otel_ttf.processors import pipeline
from otel_ttf.processors.base import Processor
from otel_ttf.processors.consent import ConsentConfig
from otel_ttf.processors.mask import MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig
from otel_ttf.telemetry import Telemetry

SECOND = 1_000_000_000
NOW = 1_790_000_000 * SECOND
KEYS = Keys(event=b"e" * 32, subjects=(b"s" * 32,))
SUBJECT = SubjectConfig()
RULES = Rules(TimeConfig(), SUBJECT.from_, wants_span=lambda _name: True)
token = Pseudonyms(KEYS).token
JANE, BOB = token("jane").encode(), token("bob").encode()


def value(given: Any) -> AnyValue:
    match given:
        case bool():
            return AnyValue(bool_value=given)
        case int():
            return AnyValue(int_value=given)
        case str():
            return AnyValue(string_value=given)
        case bytes():
            return AnyValue(bytes_value=given)
        case list():
            return AnyValue(array_value=ArrayValue(values=[value(one) for one in given]))
        case dict():
            return AnyValue(kvlist_value=KeyValueList(values=pairs(given)))
    return AnyValue()


def pairs(given: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(one)) for key, one in given.items()]


def log(name: str = "signup", at: int = NOW, body: Any = None, **attributes: Any) -> LogRecord:
    """Attribute names with `__` for a dot."""
    given = {key.replace("__", "."): one for key, one in attributes.items()}
    return LogRecord(event_name=name, time_unix_nano=at, attributes=pairs(given), body=value(body))


def span(name: str = "GET /", at: int = NOW, events: Any = (), **attributes: Any) -> Span:
    given = {key.replace("__", "."): one for key, one in attributes.items()}
    ids = {"trace_id": b"t" * 16, "span_id": b"s" * 8}
    return Span(name=name, end_time_unix_nano=at, attributes=pairs(given), events=events, **ids)


def event(name: str, at: int = NOW, **attributes: Any) -> Span.Event:
    given = {key.replace("__", "."): one for key, one in attributes.items()}
    return Span.Event(name=name, time_unix_nano=at, attributes=pairs(given))


def request(signal: Signal, *records: Any, resource: Any = None, scope: Any = None) -> bytes:
    shape = SHAPES[signal]
    made = shape.request()
    by_resource = getattr(made, shape.resources).add()
    by_resource.resource.attributes.extend(pairs(resource or {}))
    by_scope = getattr(by_resource, shape.scopes).add()
    by_scope.scope.attributes.extend(pairs(scope or {}))
    getattr(by_scope, shape.records).extend(records)
    return bytes(made.SerializeToString())


class World:
    """A pipeline with a book and metrics of its own."""

    def __init__(self, mask: MaskConfig | None = None, **config: Any) -> None:
        self.config = ConsentConfig(**config)
        self.book = Book(usual=self.config.usual, limit=self.config.max_subjects)
        self.telemetry = Telemetry()
        configs = {"pseudonymise": PseudonymiseConfig(), "consent": self.config, "mask": mask or MaskConfig()}
        self.process: Processor = pipeline(configs, KEYS, SUBJECT, engine="re2", book=self.book)

    def take(
        self, signal: Signal, *records: Any, gpc: bool = False, trusted: bool = False, **around: Any
    ) -> Batch:
        return self.raw(signal, request(signal, *records, **around), gpc=gpc, trusted=trusted)

    def raw(self, signal: Signal, raw: bytes, **options: Any) -> Batch:
        batch = self.process(Batch(signal, raw, NOW, **options))
        self.telemetry.counted(batch.counts)
        return batch

    def count(self, metric: str, **labels: str) -> float:
        return self.telemetry.registry.get_sample_value(metric, labels) or 0.0


@pytest.fixture
def world() -> World:
    return World()


def names(batch: Batch) -> list[str]:
    return [getattr(record, "event_name", None) or record.name for record in left(batch)]


def keys(record: Any) -> list[str]:
    return [pair.key for pair in record.attributes]


# Statements.


@pytest.mark.parametrize(
    ("attributes", "flags"),
    [
        pytest.param({"ttf.consent": "deny"}, DENIED, id="deny"),
        pytest.param({"ttf.consent": "denied"}, DENIED, id="denied"),
        pytest.param({"ttf.consent": " Deny "}, DENIED, id="blanks and case"),
        pytest.param({"ttf.consent": False}, DENIED, id="false"),
        pytest.param({"ttf.consent": "grant"}, 0, id="grant"),
        pytest.param({"ttf.consent": True}, 0, id="true"),
        pytest.param({"ttf.consent": "do_not_sell"}, NOT_FOR_SALE, id="do_not_sell as a value"),
        pytest.param({"ttf.consent": ["grant", "do_not_sell"]}, NOT_FOR_SALE, id="a list"),
        pytest.param({"ttf.consent": ["grant", "deny"]}, DENIED, id="of two in a list the stricter one"),
        pytest.param({"ttf.consent.analytics": False}, DENIED, id="a category: analytics"),
        pytest.param({"ttf.consent.sale": False}, NOT_FOR_SALE, id="a category: sale"),
        pytest.param({"ttf.consent.advertising": "denied"}, NOT_FOR_SALE, id="a category: advertising"),
        pytest.param({"ttf.consent.sale": True}, 0, id="sale allowed"),
        pytest.param({"ttf.do_not_sell": True}, NOT_FOR_SALE, id="do_not_sell"),
        pytest.param({"ttf.do_not_sell": False}, 0, id="do_not_sell is false"),
        pytest.param({"ttf.consent.gpc": True}, NOT_FOR_SALE, id="GPC copied by the application"),
        pytest.param({"ttf.consent.gpc": "1"}, NOT_FOR_SALE, id="GPC as its header has it"),
        pytest.param({"ttf.consent.gpc": "0"}, 0, id="no GPC says nothing"),
        pytest.param({"http.request.header.sec-gpc": ["1"]}, NOT_FOR_SALE, id="GPC as a captured header"),
        pytest.param({"http.request.header.sec_gpc": ["1"]}, NOT_FOR_SALE, id="a header's other spelling"),
        pytest.param({"ttf.consent": "maybe"}, 0, id="a value that is none"),
        pytest.param({"ttf.consent": {"deny": True}}, 0, id="a map is none"),
        pytest.param({"ttf.consent": [["deny"]]}, 0, id="a list in a list is none"),
        pytest.param({"ttf.consent.colour": "deny"}, 0, id="a category that nobody knows"),
        pytest.param({"consent": "deny"}, 0, id="a short name outside of a consent event"),
        pytest.param({"map": {"ttf.consent": "deny"}}, 0, id="in a map it is no statement"),
    ],
)
@pytest.mark.parametrize("place", ["record", "resource", "span", "span event", "data point"])
def test_a_statement_is_read(world, attributes, flags, place):
    who = {"user.id": "jane"} | attributes
    match place:
        case "record":
            world.take("logs", LogRecord(time_unix_nano=NOW, attributes=pairs(who)))
        case "resource":
            world.take("logs", LogRecord(time_unix_nano=NOW), resource=who)
        case "span":
            world.take("traces", Span(attributes=pairs(who)))
        case "span event":
            world.take("traces", Span(events=[Span.Event(attributes=pairs(who))]))
        case "data point":
            metric = Metric()
            metric.sum.data_points.add(attributes=pairs(who))
            world.take("metrics", metric)
    assert world.book.flags([JANE]) == flags
    assert world.book.flags([BOB]) == 0


def test_a_value_that_cannot_be_read_is_told_and_counted(world):
    batch = world.take("logs", log(user__id="jane", ttf__consent="perhaps, says jane@example.com"))
    assert names(batch) == ["signup"]
    (warning,) = batch.warnings
    assert "expected e.g. grant, deny" in warning
    assert "perhaps" not in warning
    assert world.count("otel_ttf_consent_total", statement="unreadable") == 1


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(log("consent_updated", user__id="jane", consent="deny"), id="by its field"),
        pytest.param(
            LogRecord(
                attributes=pairs({"event.name": "consent_updated", "user.id": "jane", "consent": "deny"})
            ),
            id="by an attribute",
        ),
        pytest.param(log("ttf.consent", user__id="jane", ttf__consent="deny"), id="with long names"),
        pytest.param(
            log("consent_updated", user__id="jane", **{"consent.analytics": False}), id="by category"
        ),
    ],
)
def test_a_consent_event_says_it_in_short_names_and_is_not_kept_either(world, record):
    batch = world.take("logs", record)
    assert world.book.flags([JANE]) == DENIED
    assert batch.kept == 0
    assert JANE not in batch.finish()


def test_a_span_event_is_a_consent_event_too(world):
    world.take("traces", span(user__id="jane", events=[event("consent_updated", do_not_sell=True)]))
    assert world.book.flags([JANE]) == NOT_FOR_SALE


def test_events_and_attributes_can_be_named(world):
    world = World(attributes={"cmp.choice": "consent"}, events=("choice_made",))
    world.take("logs", log(user__id="jane", cmp__choice="deny"), log(user__id="bob", ttf__consent="deny"))
    assert (world.book.flags([JANE]), world.book.flags([BOB])) == (DENIED, 0)


# Of whom.


def test_a_statement_is_about_those_whom_its_record_names(world):
    world.take(
        "logs",
        log(user__id="jane", enduser__id="anonymous", ttf__consent="deny"),
        log(user__id="bob"),
        resource={"user.id": "eve"},
    )
    denied = {token(name).encode() for name in ("jane", "anonymous")}
    assert world.book.exceptions == dict.fromkeys(denied, DENIED)


def test_a_record_without_a_subject_speaks_for_that_of_its_resource(world):
    world.take("logs", log(ttf__consent="deny"), resource={"user.id": "jane"})
    assert world.book.exceptions == {JANE: DENIED}


def test_a_resource_speaks_for_the_subjects_of_its_records(world):
    batch = world.take(
        "logs", log(user__id="jane"), log(user__id="bob"), log(), resource={"ttf.consent": "deny"}
    )
    assert world.book.exceptions == {JANE: DENIED, BOB: DENIED}
    assert batch.kept == 0


def test_who_says_deny_and_names_nobody_is_not_kept_and_nobody_is_denied(world):
    assert names(world.take("logs", log("a", ttf__consent="deny"), log("b"))) == ["b"]
    assert world.book.silent


def test_a_span_event_speaks_for_its_own_subject_or_for_that_of_its_span(world):
    told = [event("a", user__id="bob", ttf__consent="deny"), event("b", ttf__do_not_sell=True)]
    world.take("traces", span(user__id="jane", events=told))
    assert world.book.exceptions == {BOB: DENIED, JANE: NOT_FOR_SALE}


def test_nobody_can_speak_for_somebody_by_a_token(world):
    """A token from a stranger is a user id like any other."""
    world.take("logs", log(user__id=JANE.decode(), ttf__consent="deny"))
    assert world.book.flags([JANE]) == 0


# When.


def test_a_denial_counts_for_the_whole_request_and_for_all_that_follow(world):
    batch = world.take(
        "logs",
        log("a", user__id="jane"),
        log("b", at=NOW + SECOND, user__id="jane", ttf__consent="deny"),
        log("c"),
    )
    assert names(batch) == ["c"]
    assert names(
        world.take("logs", log("d", at=NOW - SECOND, user__id="jane"), log("e", user__id="bob"))
    ) == ["e"]


def test_the_latest_by_the_time_of_the_record_counts(world):
    world.take("logs", log(at=NOW, user__id="jane", ttf__consent="deny"))
    year = 365 * 86400 * SECOND
    assert names(world.take("logs", log("late", at=NOW - year, user__id="jane", ttf__consent="grant"))) == []
    assert names(world.take("logs", log("new", at=NOW + SECOND, user__id="jane", ttf__consent="grant"))) == [
        "new"
    ]
    # A denial of a year ago is no longer one, but the record that says it is not kept.
    batch = world.take(
        "logs", log("old", at=NOW - year, user__id="jane", ttf__consent="deny"), log("b", user__id="jane")
    )
    assert names(batch) == ["b"]
    assert world.book.flags([JANE]) == 0


@pytest.mark.parametrize(
    "time", [0, 1, NOW + 3600 * SECOND, 2**64 - 1], ids=["none", "1970", "ahead", "no time"]
)
def test_a_time_that_is_not_believed_gives_way_to_the_arrival(world, time):
    """So nobody decides for ever."""
    world.take("logs", log(at=time, user__id="jane", ttf__consent="grant"))
    world.take("logs", log(at=NOW + SECOND, user__id="jane", ttf__consent="deny"))
    assert world.book.flags([JANE]) == DENIED


def test_what_is_to_be_saved_is_told(world):
    assert world.take("logs", log(user__id="jane")).said is None
    batch = world.take("logs", log(user__id="jane", ttf__consent="grant"))
    assert batch.said is not None
    assert world.take("logs", log(user__id="jane")).said is None


def test_more_subjects_than_there_is_room_for_are_refused(world):
    world = World(max_subjects=1)
    world.take("logs", log(user__id="jane", ttf__consent="deny"))
    with pytest.raises(ConsentRefused):
        world.take("logs", log(user__id="bob", ttf__consent="deny"))
    assert names(world.take("logs", log(user__id="bob"))) == ["signup"]


# Denied.


@pytest.mark.parametrize(
    ("signal", "record"),
    [
        pytest.param("logs", log(user__id="jane"), id="a log record"),
        pytest.param("logs", log(user__id="bob", enduser__id="jane"), id="beside another subject"),
        pytest.param("logs", log(map={"of": {"user.id": "jane"}}), id="in a map"),
        pytest.param("logs", log(body={"user.id": "jane"}), id="in a body"),
        pytest.param("traces", span(user__id="jane"), id="a span"),
        pytest.param(
            "traces", Span(links=[Span.Link(attributes=pairs({"user.id": "jane"}))]), id="a link of a span"
        ),
    ],
)
@pytest.mark.parametrize("plain", [False, True])
def test_whoever_has_denied_leaves_no_trace(world, signal, record, plain):
    world.take("logs", log(user__id="jane", ttf__consent="deny"))
    other = log(user__id="bob") if signal == "logs" else span(user__id="bob")
    batch = world.raw(signal, request(signal, other, record), plain=plain)
    assert (batch.records, batch.kept, batch.rejected, batch.warnings) == (2, 1, {}, [])
    assert JANE not in batch.finish() + batch.ids
    assert len(left(batch)) == 1
    assert {e.subject for e in batch.extract(RULES).events} == {BOB.decode()}
    assert world.count("otel_ttf_consent_dropped_total", action="drop") == 2


@pytest.mark.parametrize("place", ["resource", "scope"])
def test_a_resource_or_scope_that_names_them_goes_with_all_below(world, place):
    world.take("logs", log(user__id="jane", ttf__consent="deny"))
    raw = request(
        "logs", log("a"), log("b", user__id="bob"), **{place: {"user.id": "jane", "host.name": "janes-pc"}}
    )
    batch = world.raw("logs", raw + request("logs", log("c"), resource={"host.name": "x"}))
    assert names(batch) == ["c"]
    assert b"janes-pc" not in batch.finish()
    assert JANE not in batch.finish()


def test_a_span_event_goes_and_the_ids_of_the_others_follow(world):
    world.take("logs", log(user__id="jane", ttf__consent="deny"))
    events = [event("a"), event("b", user__id="jane"), event("c"), event("d", user__id="jane"), event("e")]
    before = World().take("traces", span(events=events), span(events=[event("f")]))
    batch = world.take("traces", span(events=events), span(events=[event("f")]))
    assert [e.name for s in left(batch) for e in s.events] == ["a", "c", "e", "f"]
    told = {e.name: e.id for e in before.extract(RULES).events}
    for found in (batch.extract(RULES), extract("traces", batch.finish(), batch.ids, NOW, RULES)):
        assert {e.name: e.id for e in found.events} == {n: told[n] for n in ("GET /", "a", "c", "e", "f")}
    assert (batch.kept, batch.left_out) == (2, 0)
    assert world.count("otel_ttf_consent_dropped_total", action="drop") == 3


def test_a_span_whose_events_are_all_gone_stays(world):
    world.take("logs", log(user__id="jane", ttf__consent="deny"))
    batch = world.take(
        "traces", span("a", events=[event("x", user__id="jane")]), span("b", events=[event("y")])
    )
    assert [(s.name, [e.name for e in s.events]) for s in left(batch)] == [("a", []), ("b", ["y"])]
    assert list(unpack_ids(batch.ids)) == [0]


def test_data_points_go_and_their_exemplars_and_a_metric_without_any(world):
    world.take("logs", log(user__id="jane", ttf__consent="deny"))
    some, none = Metric(name="some"), Metric(name="none")
    some.sum.data_points.add(as_int=1, attributes=pairs({"user.id": "jane"}))
    kept = some.sum.data_points.add(as_int=2, attributes=pairs({"user.id": "bob"}))
    kept.exemplars.add(as_int=3, filtered_attributes=pairs({"user.id": "jane"}))
    kept.exemplars.add(as_int=4)
    none.gauge.data_points.add(as_int=5, attributes=pairs({"user.id": "jane"}))
    batch = world.take("metrics", some, none)
    (metric,) = left(batch)
    (point,) = metric.sum.data_points
    assert (point.as_int, [exemplar.as_int for exemplar in point.exemplars]) == (2, [4])
    assert (batch.records, batch.kept, batch.left_out) == (3, 1, 2)


def test_anonymised_it_is_stored_and_nobodys():
    world = World(on_deny="anonymise")
    world.take("logs", log(user__id="jane", ttf__consent="deny"))
    telling = {
        "user.email": "x@example.com",
        "session.id": "s-1",
        "client.address": "1.2.3.4",
        "ttf.event.id": "0" * 32,
        "customer.phone": "+49 30 1234567",
        "geo.location.lat": 52.5,
        "map": {"user.id": "jane", "plan": "pro"},
    }
    record = LogRecord(
        event_name="signup", time_unix_nano=NOW, attributes=pairs({"user.id": "jane", **telling})
    )
    technical = {"plan": "pro", "user.roles": "admin", "client.port": 4711}
    record.attributes.extend(pairs(technical))
    batch = world.take("logs", record, log("other", user__id="bob"))
    first, other = left(batch)
    assert [*first.attributes] == pairs({"map": {"plan": "pro"}, **technical})
    assert (batch.records, batch.kept) == (2, 2)
    assert list(unpack_ids(batch.ids)) == [1]
    for found in (batch.extract(RULES), extract("logs", batch.finish(), batch.ids, NOW, RULES)):
        assert [(e.name, e.subject) for e in found.events] == [("signup", None), ("other", BOB.decode())]
        assert found.events[0].id is None
        assert found.names == {("event", "signup"): 1, ("event", "other"): 1}
    assert other.attributes
    assert world.count("otel_ttf_consent_dropped_total", action="anonymise") == 2


@pytest.mark.parametrize(
    ("attributes", "rest"),
    [
        pytest.param({"tax_id": "7", "customerTaxId": "7"}, {}, id="words"),
        pytest.param({"crm.account": "7", "crm.plan": "pro"}, {"crm.plan": "pro"}, id="a name"),
        pytest.param({"shop.cart.owner": 7, "shop.open": True}, {"shop.open": True}, id="a glob"),
        pytest.param({"customer.phone": "7"}, {}, id="kept, but personal for all we know"),
        pytest.param({"a": {"b": {"tax_id": "7", "c": 1}}}, {"a": {"b": {"c": 1}}}, id="in maps"),
        pytest.param({"session": {"id": "7", "age": 1}}, {"session": {"age": 1}}, id="one name of two maps"),
        pytest.param({"user": {"id": "7", "age": 1}}, {"user": {"age": 1}}, id="a user id of two maps"),
        pytest.param({"a": '{"b": 1, "tax_id": "7"}'}, {"a": '{"b": 1}'}, id="in JSON"),
        pytest.param({"a": b'{"user.id": "7", "b": 1}'}, {"a": b'{"b": 1}'}, id="in JSON in bytes"),
        pytest.param({"a": {"name": "tax_id", "value": "7"}}, {"a": None}, id="a pair as a map"),
        pytest.param({"a": '[["tax_id", "7"], ["b", 1]]'}, {"a": '[["b", 1]]'}, id="a pair in JSON"),
    ],
)
def test_what_the_configuration_masks_by_key_goes_too(attributes, rest):
    rules = [
        {"words": "tax id", "action": "hash"},
        {"key": "crm.account", "action": "partial"},
        {"glob": "shop.cart.*"},
        {"key": "customer.phone", "action": "keep"},
    ]
    world = World(MaskConfig.model_validate({"keys": rules}), on_deny="anonymise")
    world.take("logs", log(user__id="jane", ttf__consent="deny"))
    (found,) = left(world.take("logs", LogRecord(attributes=pairs({"user.id": "jane", **attributes}))))
    assert [*found.attributes] == pairs(rest)


def test_an_anonymised_resource_takes_its_records_along():
    world = World(on_deny="anonymise")
    attributes = {"user.id": "jane", "service.name": "web", "ttf.consent": "deny"}
    batch = world.take("logs", log("a"), log("b", user__id="bob"), resource=attributes)
    (by_resource,) = decode("logs", batch.finish()).resource_logs
    assert keys(by_resource.resource) == ["service.name"]
    assert [keys(record) for record in left(batch)] == [[], []]
    assert batch.ids == b""


def test_of_a_span_only_the_events_of_whoever_denied_are_anonymised():
    world = World(on_deny="anonymise")
    world.take("logs", log(user__id="jane", ttf__consent="deny"))
    batch = world.take("traces", span(user__id="bob", events=[event("a", user__id="jane"), event("b")]))
    (found,) = left(batch)
    assert [keys(e) for e in found.events] == [[], []]
    assert list(unpack_ids(batch.ids)) == [1]


def test_silence_can_mean_no():
    world = World(default="deny")
    batch = world.take(
        "logs", log("a", user__id="jane"), log("b"), log("c", user__id="bob", ttf__consent="grant")
    )
    assert names(batch) == ["b", "c"]
    assert names(world.take("logs", log("d", user__id="bob"), log("e", user__id="jane"))) == ["d"]


# Not to be sold.


@pytest.mark.parametrize("signal", ["logs", "traces"])
def test_what_must_not_be_sold_goes_on_with_the_mark_and_not_to_vendors(world, signal):
    world.take("logs", log(user__id="jane", ttf__do_not_sell=True))
    make = log if signal == "logs" else span
    batch = world.take(signal, make("a", user__id="jane"), make("b", user__id="bob"))
    first, second = left(batch)
    assert MARK in keys(first)
    assert MARK not in keys(second)
    assert MARK.encode() not in for_vendor(signal, batch.finish())
    assert BOB in for_vendor(signal, batch.finish())
    assert JANE not in for_vendor(signal, batch.finish())


def test_span_events_have_the_mark_of_their_span(world):
    batch = world.take("traces", span(user__id="jane", ttf__do_not_sell=True, events=[event("a")]))
    (found,) = left(batch)
    assert keys(found.events[0]) == [MARK]


def test_a_resource_has_the_mark_for_all_below(world):
    world.take("logs", log(user__id="jane", ttf__do_not_sell=True))
    batch = world.take("logs", log("a"), resource={"user.id": "jane"})
    (by_resource,) = decode("logs", batch.finish()).resource_logs
    assert keys(by_resource.resource) == ["user.id", MARK]
    assert for_vendor("logs", batch.finish()) == b""


@pytest.mark.parametrize(
    ("claim", "found"),
    [
        pytest.param(False, [], id="a sender's false goes"),
        pytest.param(True, [True], id="a sender's true stays, and is a statement"),
        pytest.param("true", [True], id="a text is a statement, too"),
        pytest.param("x", [], id="what is no statement goes"),
    ],
)
def test_a_senders_own_mark_is_replaced(world, claim, found):
    batch = world.take("logs", log(user__id="jane", **{"ttf.consent.do_not_sell": claim}))
    (record,) = left(batch)
    marks = [pair.value for pair in record.attributes if pair.key == MARK]
    assert [one.bool_value for one in marks] == found
    assert world.book.flags([JANE]) == (NOT_FOR_SALE if found else 0)


def test_a_senders_false_does_not_take_the_mark_away(world):
    world.take("logs", log(at=NOW, user__id="jane", ttf__do_not_sell=True))
    batch = world.take("logs", log(at=NOW - SECOND, user__id="jane", **{"ttf.consent.do_not_sell": False}))
    (record,) = left(batch)
    assert [p.value.bool_value for p in record.attributes if p.key == MARK] == [True]


def test_on_a_trusted_path_the_mark_stays_and_is_no_statement(world):
    record = log(user__id=JANE.decode(), **{"ttf.consent.do_not_sell": True})
    batch = world.take("logs", record, trusted=True)
    assert [p.value.bool_value for p in left(batch)[0].attributes if p.key == MARK] == [True]
    assert world.book.silent


def test_gpc_of_a_request_counts_for_all_its_subjects_and_all_its_records(world):
    batch = world.take(
        "traces",
        span("a", user__id="jane", events=[event("x", enduser__id="eve")]),
        span("b"),
        resource={"user.id": "bob"},
        gpc=True,
    )
    who = (JANE, BOB, token("eve").encode())
    assert world.book.exceptions == dict.fromkeys(who, NOT_FOR_SALE)
    assert batch.kept == 2
    assert for_vendor("traces", batch.finish()) == b""
    assert for_vendor("logs", world.take("logs", log()).finish())
    assert for_vendor("logs", world.take("logs", log(), gpc=True).finish()) == b""
    assert world.count("otel_ttf_consent_total", statement="do_not_sell") == 2


# As long as nobody says anything.


def test_a_request_that_is_not_concerned_stays_the_bytes_that_came(world):
    raw = request("logs", log(plan="pro"))
    assert world.raw("logs", raw).finish() is raw
    world.take("logs", log(user__id="jane", ttf__consent="deny"))
    assert world.raw("logs", raw).finish() is raw
