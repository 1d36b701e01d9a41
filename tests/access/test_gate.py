"""Who is let in, and that whoever is not never learns which part was wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otel_ttf.access.config import LimitConfig
from otel_ttf.access.gate import (
    LONGEST,
    MOST_CALLERS,
    STATUS,
    Gate,
    Refused,
    Unavailable,
    of_grpc,
    of_http,
)
from otel_ttf.access.keys import ApiKey, make
from otel_ttf.telemetry import Telemetry

NOW = 1_800_000_000
INGEST, INGEST_KEY = make(ApiKey("", b"", frozenset({"ingest"})))
READ, READ_KEY = make(ApiKey("", b"", frozenset({"read"})))
ADMIN, ADMIN_KEY = make(ApiKey("", b"", frozenset({"admin"})))
EXPIRED, EXPIRED_KEY = make(ApiKey("", b"", frozenset({"ingest"}), expires=NOW))
TRUSTED, TRUSTED_KEY = make(ApiKey("", b"", frozenset({"ingest"}), trusted_tokens=True))
_, REVOKED_KEY = make(ApiKey("", b"", frozenset({"ingest"})))
OWN = "the key of the environment"
FORGED = f"{INGEST_KEY[:-1]}{'a' if INGEST_KEY[-1] != 'a' else 'b'}"
LIMITS = LimitConfig()
HOME = "192.0.2.1"


def gate(limits: LimitConfig = LIMITS, **options: object) -> tuple[Gate, Telemetry]:
    telemetry = Telemetry()
    keys = (INGEST, READ, ADMIN, EXPIRED, TRUSTED)
    return Gate(telemetry, limits, keys, OWN, now=lambda: NOW, **options), telemetry


@pytest.mark.parametrize(
    ("key", "scopes"),
    [
        pytest.param(INGEST_KEY, {"ingest"}, id="to send"),
        pytest.param(READ_KEY, {"read"}, id="to ask"),
        pytest.param(ADMIN_KEY, {"ingest", "read", "admin"}, id="an admin may all"),
        pytest.param(OWN, {"ingest", "read"}, id="of the environment"),
    ],
)
async def test_a_key_opens_what_it_is_for(key, scopes):
    asked, _ = gate()
    for scope in ("ingest", "read", "admin"):
        if scope in scopes:
            await asked.admit("api", scope, key, HOME)
        else:
            with pytest.raises(Refused) as caught:
                await asked.admit("api", scope, key, HOME)
            assert caught.value.why == "forbidden"


WRONG = [
    pytest.param(None, id="none"),
    pytest.param("", id="an empty one"),
    pytest.param(FORGED, id="a letter is another"),
    pytest.param(INGEST_KEY[:-1], id="a letter too few"),
    pytest.param(INGEST_KEY.upper(), id="in capitals"),
    pytest.param(INGEST.id, id="its id alone"),
    pytest.param(INGEST.digest.hex(), id="its hash"),
    pytest.param(f"ttfk_{READ.id}_{INGEST_KEY.split('_')[2]}", id="with another's id"),
    pytest.param(EXPIRED_KEY, id="an expired one"),
    pytest.param(REVOKED_KEY, id="one that is no more"),
    pytest.param("x" * (LONGEST + 1), id="far too long"),
    pytest.param("a.b.c", id="a token where there is no issuer"),
    pytest.param("ä\ud800", id="no text"),
]


@pytest.mark.parametrize("key", WRONG)
async def test_whatever_is_wrong_with_a_key_the_answer_is_the_same(key):
    asked, telemetry = gate()
    with pytest.raises(Refused) as caught:
        await asked.admit("http", "ingest", key, HOME)
    refused = caught.value
    assert (refused.why, refused.seconds) == ("unauthenticated", 0.0)
    assert str(refused) == "expected an API key or token that is valid here, see docs/security.md"
    assert refused.headers == {"WWW-Authenticate": 'Bearer realm="otel-ttf"'}
    count = telemetry.registry.get_sample_value
    assert count("otel_ttf_access_refused_total", {"door": "http", "reason": "unauthenticated"}) == 1


async def test_a_key_is_compared_as_often_whatever_it_is(monkeypatch):
    asked, _ = gate()
    compared = []
    monkeypatch.setattr(
        "otel_ttf.access.gate.compare_digest", lambda a, b: compared.append(len(a) == len(b)) or a == b
    )
    for key in (INGEST_KEY, FORGED, REVOKED_KEY, EXPIRED_KEY, OWN, "x"):
        compared.clear()
        await asked.knows("ingest", key, HOME)
        assert compared == [True, True]


async def test_keys_change_while_it_runs_and_keep_what_is_left_of_their_limits():
    asked, telemetry = gate(LimitConfig(requests_per_second=0.001, burst="1s"))
    await asked.admit("http", "ingest", INGEST_KEY, HOME)
    new, new_key = make(INGEST)
    asked.change((INGEST, new, replace(TRUSTED, requests_per_second=0.002)))
    await asked.admit("http", "ingest", new_key, HOME)
    for spent in (INGEST_KEY, new_key):
        with pytest.raises(Refused, match="this key has sent what it may"):
            await asked.admit("http", "ingest", spent, HOME)
    with pytest.raises(Refused):
        await asked.admit("http", "read", READ_KEY, HOME)
    used = telemetry.registry.get_sample_value
    assert used("otel_ttf_api_key_requests_total", {"key": new.id}) == 1


async def test_bytes_are_charged_when_they_are_known_and_then_are_waited_for():
    asked, telemetry = gate(LimitConfig(bytes_per_second=100, burst="1s"))
    grant = await asked.admit("grpc", "ingest", INGEST_KEY, HOME)
    grant.charge(1000)
    with pytest.raises(Refused) as caught:
        await asked.admit("grpc", "ingest", INGEST_KEY, HOME)
    assert caught.value.why == "limited"
    assert 8.5 < caught.value.seconds <= 9.01
    assert caught.value.headers == {"Retry-After": "10"} or caught.value.headers == {"Retry-After": "9"}
    await asked.admit("grpc", "ingest", TRUSTED_KEY, HOME)  # others are none the worse for it
    count = telemetry.registry.get_sample_value
    assert count("otel_ttf_access_refused_total", {"door": "grpc", "reason": "limited"}) == 1


async def test_wrong_keys_that_come_too_often_are_asked_to_come_later_and_a_right_one_never_is():
    asked, telemetry = gate(refusals=1.0, tokens=Issuer())
    said = []
    for number in range(100):
        with pytest.raises(Refused) as caught:
            await asked.admit("http", "ingest", f"wrong {number}" if number % 2 else "bad.to.ken", HOME)
        said.append(caught.value)
        await asked.admit("http", "ingest", INGEST_KEY, HOME)
        await asked.admit("http", "read", "good.to.ken", HOME)
    assert [one.why for one in said] == ["unauthenticated"] * 60 + ["too_often"] * 40
    assert said[-1].headers == {"Retry-After": "1"}
    assert STATUS[said[-1].why] == 429
    # Others are none the worse for it.
    with pytest.raises(Refused, match="expected an API key"):
        await asked.admit("http", "ingest", "wrong", "192.0.2.2")
    with pytest.raises(Refused, match="expected a key or token with the scope read"):
        await asked.admit("http", "read", INGEST_KEY, HOME)
    count = telemetry.registry.get_sample_value
    assert count("otel_ttf_access_refused_total", {"door": "http", "reason": "too_often"}) == 40
    assert count("otel_ttf_access_refused_total", {"door": "http", "reason": "unauthenticated"}) == 61


async def test_trying_keys_where_nothing_is_refused_counts_too():
    asked, _ = gate(refusals=1.0)
    for _ in range(100):
        assert not await asked.knows("read", None, "192.0.2.2")
        assert not await asked.knows("read", "wrong", HOME)
    assert await asked.knows("read", READ_KEY, HOME)
    for source, why in ((HOME, "too_often"), ("192.0.2.2", "unauthenticated")):
        with pytest.raises(Refused) as caught:
            await asked.admit("api", "read", None, source)
        assert caught.value.why == why


class Issuer:
    """Knows a token for each user."""

    def __init__(self) -> None:
        self.up = True

    async def check(self, token: str) -> tuple[str, frozenset] | None:
        if not self.up:
            raise Unavailable(5)
        return (token, frozenset({"read"})) if token.startswith("good") else None


async def test_tokens_of_an_issuer_are_good_beside_keys():
    issuer = Issuer()
    asked, _ = gate(tokens=issuer)
    assert (await asked.admit("api", "read", "good.to.ken", HOME)).may("read")
    for token, why in (("bad.to.ken", "unauthenticated"), ("good.for.read", "forbidden")):
        with pytest.raises(Refused) as caught:
            await asked.admit("api", "ingest", token, HOME)
        assert caught.value.why == why
    issuer.up = False
    with pytest.raises(Refused) as caught:
        await asked.admit("api", "read", "good.to.ken", HOME)
    assert (caught.value.why, caught.value.headers) == ("unavailable", {"Retry-After": "5"})
    await asked.admit("api", "read", READ_KEY, HOME)


async def test_what_is_kept_of_an_issuers_users_is_bounded():
    asked, _ = gate(LimitConfig(requests_per_second=0.001, burst="1s"), tokens=Issuer())
    for number in range(MOST_CALLERS + 10):
        await asked.admit("api", "read", f"good.{number}.x", HOME)
    assert len(asked._callers) == MOST_CALLERS
    with pytest.raises(Refused):
        await asked.admit("api", "read", f"good.{MOST_CALLERS + 9}.x", HOME)


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        pytest.param([], None, id="nothing"),
        pytest.param([("authorization", "Bearer abc")], "abc", id="a bearer"),
        pytest.param([("authorization", "bearer  abc ")], "abc", id="in small letters, with blanks"),
        pytest.param([("x-api-key", " abc")], "abc", id="a key"),
        pytest.param([("authorization", "Basic abc")], None, id="another scheme"),
        pytest.param([("authorization", "abc")], None, id="no scheme"),
        pytest.param([("authorization", "Bearer a"), ("authorization", "Bearer b")], None, id="two bearers"),
        pytest.param([("authorization", "Bearer a"), ("authorization", "Bearer a")], None, id="one twice"),
        pytest.param([("authorization", "Bearer a"), ("x-api-key", "a")], None, id="by both headers"),
        pytest.param([("x-api-key", "a"), ("x-api-key", "b")], None, id="two keys"),
        pytest.param([("cookie", "x-api-key=a")], None, id="a cookie"),
    ],
)
def test_what_somebody_shows(headers, shown):
    assert of_grpc(headers) == shown
    assert of_http([(name.encode(), value.encode()) for name, value in headers]) == shown
