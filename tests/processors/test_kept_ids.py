"""`privacy.subject: encrypted`: the ids behind the tokens of a request are handed to whoever keeps them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping

import pytest
from made import request
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_ttf.otlp.batch import Batch
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import Pseudonyms, SubjectConfig
from otel_ttf.pii.sealed import VaultUnavailable
from otel_ttf.processors import pipeline
from otel_ttf.processors.base import Processor
from otel_ttf.processors.consent import ConsentConfig
from otel_ttf.processors.filter import FilterConfig
from otel_ttf.processors.mask import MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig
from otel_ttf.processors.sample import SampleConfig

KEYS = Keys(event=b"e" * 32, subjects=(b"s" * 32,))
CONFIGS = {"pseudonymise": PseudonymiseConfig(), "mask": MaskConfig()}
TOKENS = re.compile(rb"u1_[a-z2-7]{4}_[a-z2-7]{32}")
token = Pseudonyms(KEYS).token


class Keeper:
    """Takes what is to be kept; the rest of a Sealer is nobody's business here."""

    def __init__(self) -> None:
        self.calls: list[dict[str, str]] = []

    def remember(self, ids: Mapping[str, str]) -> None:
        self.calls.append(dict(ids))

    def unknown(self, tokens: Iterable[str]) -> list[str]:
        return list(tokens)

    def prepare(self, subjects: Iterable[str]) -> None:
        raise AssertionError("not asked for")

    def seal(self, subject: str, path: str, text: str, *, vendors: bool = True) -> str | None:
        raise AssertionError("not asked for")

    def open(self, subject: str, path: str, sealed: str) -> str:
        raise AssertionError("not asked for")


BUILT = Keeper()


@pytest.fixture
def keeper() -> Keeper:
    BUILT.calls.clear()
    return BUILT


@pytest.fixture(scope="module")
def process() -> Processor:
    """Made once: the scan takes its time to be built."""
    return pipeline(CONFIGS, KEYS, SubjectConfig(), ids=BUILT)


@pytest.fixture(scope="module")
def by_hmac() -> Processor:
    return pipeline(CONFIGS, KEYS, SubjectConfig())


def logs(*users: str, resource: str = "") -> bytes:
    made = ExportLogsServiceRequest()
    by_resource = made.resource_logs.add()
    if resource:
        by_resource.resource.attributes.append(pair("enduser.id", resource))
    scope = by_resource.scope_logs.add()
    for user in users:
        scope.log_records.add(event_name="signup").attributes.append(pair("user.id", user))
    scope.log_records.add().body.string_value = "a line of nobody"
    return made.SerializeToString()


def pair(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def test_all_ids_of_a_request_are_handed_over_at_once(keeper, process):
    process(Batch("logs", logs("jane", "bob", "jane", resource="the-resource-user"), 1))
    expected = {token(user): user for user in ("jane", "bob", "the-resource-user")}
    assert keeper.calls == [expected]


def test_nothing_is_handed_over_where_there_is_nobody(keeper, process):
    process(Batch("logs", logs(), 1))
    assert keeper.calls == []


def test_a_token_that_a_trusted_sender_brings_has_no_id(keeper, process):
    process(Batch("logs", logs(token("jane"), "bob"), 1, trusted=True))
    assert keeper.calls == [{token("bob"): "bob"}]


@pytest.mark.parametrize("signal", ["logs", "traces", "metrics"])
@pytest.mark.parametrize("seed", range(10))
def test_each_token_that_comes_out_has_its_id_kept_and_the_bytes_are_those_of_hmac(
    keeper, process, by_hmac, signal, seed
):
    raw = request(signal, random.Random(seed), odd=False)
    batch = process(Batch(signal, raw, 1))
    out = batch.finish()
    kept = {made: user for call in keeper.calls for made, user in call.items()}
    assert all(token(user) == made for made, user in kept.items())
    new = set(TOKENS.findall(out)) - set(TOKENS.findall(raw))
    # Metrics without a data point are not kept.
    assert {made.decode() for made in new} <= kept.keys() or not batch.kept
    assert out == by_hmac(Batch(signal, raw, 1)).finish()


def test_what_cannot_be_kept_fails_the_request(process, keeper, monkeypatch):
    def full(_: Mapping[str, str]) -> None:
        raise VaultUnavailable("the disk is full")

    monkeypatch.setattr(keeper, "remember", full)
    with pytest.raises(VaultUnavailable):
        process(Batch("logs", logs("jane"), 1))


class Sealing(Keeper):
    """Notes for whom a key would be made, too."""

    def __init__(self) -> None:
        super().__init__()
        self.sealed: set[str] = set()

    def prepare(self, subjects: Iterable[str]) -> None:
        self.sealed.update(subjects)

    def seal(self, subject: str, path: str, text: str, *, vendors: bool = True) -> str | None:
        self.sealed.add(subject)
        return None


USERS = [f"user-{number}" for number in range(200)]


def noted(*users: str) -> bytes:
    """A signup of each user, with a note that is to be encrypted."""
    made = ExportLogsServiceRequest()
    scope = made.resource_logs.add().scope_logs.add()
    for number, user in enumerate(users):
        record = scope.log_records.add(event_name="signup")
        record.attributes.extend(
            [pair("user.id", user), pair("note", "call me"), pair("half", str(number % 2))]
        )
    return made.SerializeToString()


HALF = FilterConfig.model_validate({"rules": [{"name": "half", "drop": {"attributes": {"half": "1"}}}]})
ENCRYPTING = MaskConfig.model_validate({"keys": [{"key": "note", "action": "encrypt"}]})


@pytest.mark.parametrize(
    ("configs", "all_sealed"),
    [
        pytest.param({"sample": SampleConfig(by="subject", ratio=0.5)}, False, id="sampled out"),
        pytest.param({"filter": HALF}, True, id="filtered"),
        pytest.param({"consent": ConsentConfig(default="deny")}, False, id="without consent"),
    ],
)
def test_nothing_is_kept_of_users_of_whom_nothing_goes_on(configs, all_sealed):
    keeper = Sealing()
    process = pipeline(
        {**CONFIGS, "mask": ENCRYPTING, **configs}, KEYS, SubjectConfig(), sealer=keeper, ids=keeper
    )
    batch = process(Batch("logs", noted(*USERS), 1))
    there = {found.decode() for found in TOKENS.findall(batch.finish())} if batch.kept else set()
    assert len(there) < len(USERS)
    assert {made for call in keeper.calls for made in call} == there
    # What a filter sees is masked already.
    assert keeper.sealed == ({token(user) for user in USERS} if all_sealed else there)
    keeper.calls.clear()
    process(Batch("metrics", b"", 1))
    assert keeper.calls == []
