"""The bytes-first path gives what decoding and visiting everything gives, whatever comes in."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from made import EMAIL, NOW, SECRETS, SUBJECTS, left, request
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import Event, Extract, Rules, TimeConfig, extract, unpack_ids
from otel_ttf.otlp.wire import SHAPES, SIGNALS, Signal, decode
from otel_ttf.pii.consent import Book, Marks, mark
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import Pseudonyms, SubjectConfig
from otel_ttf.pii.scanner import ENGINES, Engine
from otel_ttf.processors import pipeline
from otel_ttf.processors.base import Processor
from otel_ttf.processors.consent import ConsentConfig
from otel_ttf.processors.enrich import EnrichConfig
from otel_ttf.processors.mask import MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig
from otel_ttf.processors.validate import ValidateConfig

SUBJECT = SubjectConfig.model_validate(
    {"from": ["user.id", "http.request.header.x-user-id", "enduser.id", "user_id"]}
)
KEYS = Keys(event=b"e" * 32, subjects=(b"s" * 32,))
TABLE = Path(__file__).with_name("table.json")
CONFIGS = {
    "validate": ValidateConfig(),
    "enrich": EnrichConfig.model_validate(
        {
            "attributes": {"deployment": "ops@example.com", "plan": "x"},
            # From all that may be sent, the user id too; what it finds has to be masked, or names somebody.
            "user_agent": {"from": ["plan", "url.path"], "browser": "ua"},
            "email_domain": {"from": [EMAIL, "http.request.header.x_user_id", "id"]},
            "lookups": {
                "one": {
                    "file": str(TABLE),
                    "column": "k",
                    "from": SUBJECTS,
                    "columns": {"v": "x", "w": "password"},
                }
            },
        }
    ),
    "pseudonymise": PseudonymiseConfig(),
    "consent": ConsentConfig(),
    "mask": MaskConfig(keys=("tax id",)),
}
USERS = [Pseudonyms(KEYS).token(f"raw-user-{n}").encode() for n in (1, 2, 3)]


class Told(Book):
    """Starts each request anew, with what its seed says of the three users."""

    def start(self, seed: int) -> None:
        rng = random.Random(seed)
        self.exceptions.clear()
        self._unsaved.clear()
        self.usual = rng.random() < 0.2
        said = {}
        for user in rng.sample(USERS, rng.randrange(4)):
            said[user] = Marks(*(mark(NOW - 10**17, strict=rng.random() < 0.5) for _ in range(2)))
        self.join(said)

    def known(self) -> list[Marks]:
        return [self.state(user) for user in USERS]


BOOK = Told()
RULES = [
    Rules(TimeConfig(), SUBJECT.from_, wants_span=lambda name: name == "signup", lines=lines)
    for lines in (False, True)
]
quickly = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
requests = st.tuples(st.sampled_from(SIGNALS), st.integers(0, 2**32), st.booleans())


@cache
def processor(engine: Engine, way: Literal["drop", "anonymise"]) -> Processor:
    """Made when it is needed: with its scan it takes a second."""
    return pipeline(
        CONFIGS | {"consent": ConsentConfig(on_deny=way)}, KEYS, SUBJECT, engine=engine, book=BOOK
    )


def run(signal: Signal, raw: bytes, engine: Engine = "hyperscan", *, seed: int = 1, **options: Any) -> Batch:
    """seed: of what the book holds before, and of what is done with those who deny."""
    BOOK.start(seed)
    return processor(engine, on_deny(seed))(Batch(signal, raw, NOW, **options))


def on_deny(seed: int) -> Literal["drop", "anonymise"]:
    return "drop" if seed % 3 else "anonymise"


def known(signal: Signal, data: bytes) -> Any:
    """The message without fields that nobody knows."""
    message = decode(signal, data)
    message.DiscardUnknownFields()
    return message


def told(event: Event) -> tuple[object, ...]:
    id_ = event.id if event.id is None or any(event.id[:6]) else "random"
    facts = (event.kind, event.name, event.span_kind, event.status, event.subject, event.at, event.flags)
    return (id_, *facts, dict(event.attributes), dict(event.resource))


def everything(batch: Batch, rules: Rules) -> tuple[object, ...]:
    found = batch.extract(rules)
    ids = {place: id_ if any(id_[:6]) else "random" for place, id_ in unpack_ids(batch.ids).items()}
    return batch.records, batch.kept, batch.rejected, ids, repr([told(e) for e in found.events]), found.names


def same(one: Extract, other: Extract) -> bool:
    return one.names == other.names and [e.facts() for e in one.events] == [e.facts() for e in other.events]


@quickly
@given(requests, st.sampled_from(RULES), st.booleans())
def test_fast_is_plain(made, rules, trusted):
    signal, seed, odd = made
    raw = request(signal, random.Random(seed), odd=odd)
    fast = run(signal, raw, seed=seed, trusted=trusted, gpc=seed % 5 == 0)
    told = BOOK.known(), dict(BOOK.exceptions)
    plain = run(signal, raw, seed=seed, trusted=trusted, gpc=seed % 5 == 0, plain=True)
    assert (BOOK.known(), dict(BOOK.exceptions)) == told
    assert known(signal, fast.finish()) == known(signal, plain.finish())
    assert everything(fast, rules) == everything(plain, rules)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_match_from_one_record_into_the_next_changes_nothing(engine):
    made = SHAPES["logs"].request()
    records = made.resource_logs.add().scope_logs.add().log_records
    records.add().body.string_value = "order 4111 1111 1111"  # then the tag of attributes: `2`
    records.add().attributes.add(key="a").value.string_value = "b"
    joined = b"".join(record.SerializeToString() for record in records)
    assert b"4111 1111 11112" in joined, "the records are no longer what they have to be"
    batch = run("logs", made.SerializeToString(), engine)
    assert known("logs", batch.finish()).resource_logs[0].scope_logs == made.resource_logs[0].scope_logs


@pytest.mark.parametrize("engine", ENGINES)
def test_of_several_ids_that_are_too_long_both_paths_tell_the_same_one(engine):
    made = SHAPES["logs"].request()
    record = made.resource_logs.add().scope_logs.add().log_records.add()
    record.attributes.add(key="enduser.id").value.string_value = "x" * 600
    record.body.kvlist_value.values.add(key="user.id").value.string_value = "x" * 700
    # Whoever has denied is not told of: seed 1 knows nobody's consent.
    told = [run("logs", made.SerializeToString(), engine, plain=plain).rejected for plain in (False, True)]
    assert told == [{0: "log_records[0]: enduser.id: expected at most 512 bytes, found 600"}] * 2


@quickly
@given(requests, st.sampled_from(RULES))
def test_a_row_of_the_log_gives_the_events_of_the_batch(made, rules):
    signal, seed, odd = made
    batch = run(signal, request(signal, random.Random(seed), odd=odd), seed=seed)
    assert same(extract(signal, batch.finish(), batch.ids, NOW, rules), batch.extract(rules))


@quickly
@given(requests)
def test_nothing_raw_comes_out(made):
    signal, seed, odd = made
    batch = run(signal, request(signal, random.Random(seed), odd=odd), seed=seed)
    out = batch.finish() + repr((batch.rejected, batch.warnings)).encode()
    out += repr([e.facts() for e in batch.extract(RULES[1]).events]).encode()
    assert not [secret for secret in SECRETS if secret in out]


@quickly
@example(("logs", 405, False))  # a domain of what is no address, of a user who denies
@given(requests)
def test_masking_twice_is_masking_once_on_trusted_input(made):
    signal, seed, odd = made
    once = run(signal, request(signal, random.Random(seed), odd=odd), seed=seed).finish()
    twice = processor("hyperscan", on_deny(seed))(Batch(signal, once, NOW, trusted=True))
    assert known(signal, twice.finish()) == known(signal, once)
    assert not twice.rejected
    assert not twice.left_out


@settings(quickly, max_examples=40)
@given(requests, st.sampled_from(["re2", "re"]))
def test_engines_give_one_result(made, engine):
    signal, seed, odd = made
    raw = request(signal, random.Random(seed), odd=odd)
    one, other = run(signal, raw, seed=seed), run(signal, raw, engine, seed=seed)
    assert known(signal, one.finish()) == known(signal, other.finish())
    assert everything(one, RULES[0]) == everything(other, RULES[0])


@settings(quickly, max_examples=60)
@given(requests)
def test_records_that_are_left_are_those_that_were_neither_rejected_nor_left_out(made):
    signal, seed, odd = made
    batch = run(signal, request(signal, random.Random(seed), odd=odd), seed=seed)
    records = left(batch)
    if signal == "metrics":
        kinds = [(metric, metric.WhichOneof("data")) for metric in records]
        assert sum(len(getattr(m, kind).data_points) for m, kind in kinds if kind) == batch.kept
    else:
        assert len(records) == batch.kept == batch.records - len(batch.rejected) - batch.left_out


@pytest.mark.parametrize("signal", SIGNALS)
def test_what_holds_nothing_stays_the_bytes_that_came(signal):
    shape = SHAPES[signal]
    made = shape.request()
    record = getattr(getattr(getattr(made, shape.resources).add(), shape.scopes).add(), shape.records).add()
    record.SetInParent()
    raw = made.SerializeToString()
    plainly = {name: config for name, config in CONFIGS.items() if name != "enrich"}
    batch = pipeline(plainly, KEYS, SUBJECT)(Batch(signal, raw, NOW))
    assert batch.finish() is raw


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("key", "text", "gone"),
    [
        pytest.param("msg", json.dumps({"contraseña": "hunter2"}), "hunter2", id="a name in JSON"),
        pytest.param("msg", json.dumps({"msg": "contraseña=hunter2"}), "hunter2", id="a pair in JSON"),
        pytest.param("msg", json.dumps({"note": "móvil: 612 34 56 78"}), "612 34", id="a word in JSON"),
        pytest.param(
            "msg", json.dumps({"m": "Bearer\\n8f14e45fceea167a5a36d"}), "8f14e45f", id="a line's end in JSON"
        ),
        pytest.param(
            "msg", "GET%20/x?session_id=abcdefgh1%20jane%40example.com", "abcdefgh1", id="beside an escape"
        ),
        pytest.param("USER_ID", "ada-lovelace", "ada-lovelace", id="another spelling"),
        pytest.param("a\x07user.id", "ada-lovelace", "ada-lovelace", id="a length that is none"),
    ],
)
def test_what_the_scan_may_overlook(engine, key, text, gone):
    record = LogRecord(attributes=[KeyValue(key=key, value=AnyValue(string_value=text))])
    raw = SHAPES["logs"].request()
    raw.resource_logs.add().scope_logs.add().log_records.append(record)
    fast, plain = (run("logs", raw.SerializeToString(), engine, plain=p).finish() for p in (False, True))
    assert fast == plain
    assert gone.encode() not in fast
