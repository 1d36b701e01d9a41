"""Tokens of an issuer: which are good, and what happens while it cannot be asked."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from issuer import AUDIENCE, LocalIssuer
from joserfc import jwk
from pydantic import ValidationError
from structlog.testing import capture_logs

from otel_ttf.access.config import OidcConfig
from otel_ttf.access.gate import Unavailable
from otel_ttf.access.oidc import AGAIN_SECONDS, Issuer


@pytest.fixture(scope="module")
def at() -> Iterator[LocalIssuer]:
    with LocalIssuer() as running:
        yield running


class Watch:
    """Two clocks that are moved."""

    def __init__(self) -> None:
        self.passed = 0.0

    def clock(self) -> float:
        return 1000 + self.passed

    def now(self) -> float:
        return time.time()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def issuer(at: LocalIssuer, watch: Watch) -> AsyncIterator[Issuer]:
    at.trouble, at.asked, at.more = None, 0, []
    at.rotate("first")
    checking = made(at, watch)
    yield checking
    await checking.close()


def made(at: LocalIssuer, watch: Watch, **options: object) -> Issuer:
    config = OidcConfig(issuer_url=at.url, audience=[AUDIENCE], **{"leeway": "10s", **options})
    return Issuer(config, now=watch.now, clock=watch.clock)


async def test_a_good_token_tells_whose_it_is_and_what_they_may(at, issuer):
    assert await issuer.check(at.token()) == ("jo", frozenset({"read"}))
    assert await issuer.check(at.token(scope="otel-ttf.admin otel-ttf.ingest")) == (
        "jo",
        frozenset({"admin", "ingest"}),
    )
    assert await issuer.check(at.token(scope=None)) == ("jo", frozenset())
    assert await issuer.check(at.token(aud=["somebody", AUDIENCE], sub=None, client_id="a program")) == (
        "a program",
        frozenset({"read"}),
    )
    assert at.asked == 1


@pytest.mark.parametrize(
    ("name", "claims", "scopes"),
    [
        pytest.param("scp", {"scp": ["otel-ttf.read", "x"]}, {"read"}, id="a list"),
        pytest.param(
            "realm_access.roles", {"realm_access": {"roles": ["otel-ttf.admin"]}}, {"admin"}, id="below"
        ),
        pytest.param(
            "https://x.example/roles", {"https://x.example/roles": "otel-ttf.read"}, {"read"}, id="a URL"
        ),
        pytest.param("roles", {"roles": {"otel-ttf.read": True}}, set(), id="a mapping"),
        pytest.param("roles", {"roles": 7}, set(), id="a number"),
        pytest.param("roles", {"roles": [["otel-ttf.read"], None]}, set(), id="lists in a list"),
        pytest.param("a.b.c", {"a": {"b": "otel-ttf.read"}}, set(), id="not so deep"),
    ],
)
async def test_where_a_token_says_what_its_owner_may(at, watch, name, claims, scopes):
    at.trouble = None
    issuer = made(at, watch, scopes_claim=name)
    assert await issuer.check(at.token(scope=None, **claims)) == ("jo", frozenset(scopes))


def part(told: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")


def unsigned(at: LocalIssuer) -> str:
    return f"{part({'alg': 'none'})}.{at.token().split('.')[1]}."


def signed_with_the_public_key(at: LocalIssuer) -> str:
    """As if what checks signatures had been a shared secret."""
    signed = f"{part({'alg': 'HS256', 'kid': at.signing.kid})}.{at.token().split('.')[1]}"
    signature = hmac.digest(at.signing.as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def another_payload(at: LocalIssuer) -> str:
    head, _, signature = at.token().split(".")
    return f"{head}.{at.token(scope='otel-ttf.admin').split('.')[1]}.{signature}"


def key_in_the_header(at: LocalIssuer) -> str:
    own = jwk.RSAKey.generate_key(2048, {"kid": "own"})
    return at.token(header={"kid": None, "jwk": own.as_dict(private=False)}, key=own)


OWN = jwk.RSAKey.generate_key(2048, {"kid": "own"})
CURVE = jwk.ECKey.generate_key("P-256", {"kid": "curve"})


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(lambda at: at.token(iss="https://another.example"), id="of another issuer"),
        pytest.param(lambda at: at.token(iss=None), id="of no issuer"),
        pytest.param(lambda at: at.token(iss=f"{at.url}/"), id="of nearly the same issuer"),
        pytest.param(lambda at: at.token(aud="somebody"), id="for somebody else"),
        pytest.param(lambda at: at.token(aud=None), id="for nobody"),
        pytest.param(lambda at: at.token(aud=[]), id="for an empty list"),
        pytest.param(lambda at: at.token(aud={AUDIENCE: 1}), id="for a mapping"),
        pytest.param(lambda at: at.token(exp=time.time() - 11), id="ended"),
        pytest.param(lambda at: at.token(exp=None), id="without an end"),
        pytest.param(lambda at: at.token(exp=float("nan")), id="with an end that is no number"),
        pytest.param(lambda at: at.token(exp=float("inf")), id="for ever"),
        pytest.param(lambda at: at.token(exp="2100-01-01"), id="with a text as its end"),
        pytest.param(lambda at: at.token(nbf=time.time() + 20), id="not yet good"),
        pytest.param(lambda at: at.token(sub=None), id="of nobody"),
        pytest.param(lambda at: at.token(sub=["jo"]), id="of a list"),
        pytest.param(lambda at: at.token(key=OWN), id="signed with another key"),
        pytest.param(lambda at: at.token(key=OWN, header={"kid": "own"}), id="with a key of its own"),
        pytest.param(lambda at: at.token(header={"alg": "RS512"}), id="by an algorithm that is not wanted"),
        pytest.param(
            lambda at: at.token(header={"alg": "ES256"}, key=CURVE), id="by the algorithm of another key"
        ),
        pytest.param(unsigned, id="not signed at all"),
        pytest.param(signed_with_the_public_key, id="signed with the public key"),
        pytest.param(another_payload, id="with the signature of another"),
        pytest.param(key_in_the_header, id="with its key in it"),
        pytest.param(lambda at: at.token()[:-4], id="cut short"),
        pytest.param(lambda _: "..", id="three times nothing"),
        pytest.param(lambda _: "ä.ö.ü", id="no ASCII"),
        pytest.param(
            lambda _: f"{base64.urlsafe_b64encode(b'[' * 10_000).decode()}.e30.x", id="a nested header"
        ),
        pytest.param(lambda _: f"{part([1])}.e30.x", id="a list as header"),
        pytest.param(lambda _: f"{part({'alg': ['RS256']})}.e30.x", id="a list as algorithm"),
        pytest.param(lambda _: f"{part({'alg': 'RS256', 'kid': 7})}.e30.x", id="a number as key"),
        pytest.param(
            lambda at: f"{part({'alg': 'RS256', 'crit': ['x'], 'x': 1})}.e30.x", id="a critical extension"
        ),
    ],
)
async def test_a_token_that_is_not_good(at, issuer, token):
    assert await issuer.check(at.token()) is not None
    assert await issuer.check(token(at)) is None


async def test_clocks_may_differ_by_the_leeway(at, issuer):
    now = time.time()
    for claims in ({"exp": now - 8}, {"nbf": now + 8}):
        assert await issuer.check(at.token(**claims)) is not None


async def test_a_new_key_of_the_issuer_is_fetched_when_a_token_names_it(at, issuer, watch):
    old = at.token()
    assert await issuer.check(old) is not None
    at.rotate("second", drop=False)
    watch.passed += AGAIN_SECONDS
    assert await issuer.check(at.token()) is not None
    assert await issuer.check(old) is not None
    at.rotate("third")
    watch.passed += AGAIN_SECONDS
    assert await issuer.check(at.token()) is not None
    assert await issuer.check(old) is None
    assert at.asked == 3


async def test_names_of_keys_that_there_are_not_do_not_make_us_ask_each_time(at, issuer, watch):
    assert await issuer.check(at.token()) is not None
    watch.passed += AGAIN_SECONDS
    unknown = [at.token(header={"kid": f"k{number}"}, key=OWN) for number in range(20)]
    assert await asyncio.gather(*map(issuer.check, unknown)) == [None] * 20
    assert at.asked == 2


async def test_callers_at_the_same_time_wait_for_one_answer(at, issuer):
    at.trouble = "slow"
    tokens = [at.token() for _ in range(20)]
    assert None not in await asyncio.gather(*map(issuer.check, tokens))
    assert at.asked == 1


TROUBLES = [404, 500, 302, "garbage", "nested", "large", "elsewhere", "another"]


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_while_the_issuer_does_not_answer_the_last_keys_count_for_a_bounded_time(
    at, issuer, watch, trouble
):
    assert await issuer.check(at.token()) is not None
    at.trouble = trouble
    for hours in (1, 10, 12.9):
        watch.passed += hours * 3600
        assert await issuer.check(at.token()) is not None
        await settled(issuer)
    watch.passed += 3600
    with pytest.raises(Unavailable) as caught:
        await issuer.check(at.token())
    assert 1 <= caught.value.seconds <= AGAIN_SECONDS
    at.trouble = None
    watch.passed += AGAIN_SECONDS
    assert await issuer.check(at.token()) is not None


async def settled(issuer: Issuer) -> None:
    if (fetching := issuer._fetching) is not None:
        await fetching


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_without_any_keys_nobody_is_let_in_nor_sent_away_for_good(at, issuer, watch, trouble):
    at.trouble = trouble
    for _ in range(3):
        with pytest.raises(Unavailable):
            await issuer.check(at.token())
    assert at.asked <= 1
    assert await issuer.check("not.a.token") is None


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (404, "expected 200 at /realms/test/.well-known/openid-configuration, found 404"),
        ("large", "expected at most 1048576 bytes at "),
        ("elsewhere", "its jwks_uri: expected a URL that begins with https://"),
        ("another", "it calls itself otherwise: set auth.oidc.issuer_url to its `issuer`"),
        ("garbage", "JSONDecodeError"),
    ],
)
async def test_why_keys_cannot_be_fetched_is_said_once(at, issuer, watch, trouble, said):
    at.trouble = trouble
    with capture_logs() as told:
        for _ in range(2):
            watch.passed += AGAIN_SECONDS
            with pytest.raises(Unavailable):
                await issuer.check(at.token())
    (line,) = told
    assert line["reason"].startswith(said)


async def test_keys_are_fetched_anew_from_time_to_time_and_nobody_waits(at, issuer, watch):
    assert await issuer.check(at.token()) is not None
    watch.passed += 16 * 60
    assert await issuer.check(at.token()) is not None
    await settled(issuer)
    assert at.asked == 2


async def test_keys_that_are_not_for_this_are_left_out(at, issuer):
    secret = jwk.OctKey.import_key(b"x" * 32, {"kid": "shared"})
    encrypting = {**OWN.as_dict(private=False), "use": "enc", "kid": "enc"}
    at.more = [
        secret.as_dict(private=True),
        encrypting,
        {"kty": "RSA"},
        {"kty": "X"},
        {"kty": "EC", "crv": 7},
    ]
    assert await issuer.check(at.token()) is not None
    assert [key.kid for key in issuer._keys] == ["first"]
    assert await issuer.check(at.token(header={"kid": "enc"}, key=OWN)) is None


async def test_a_token_that_names_no_key_is_tried_with_those_there_are(at, issuer):
    at.keys = [OWN, at.signing]
    assert await issuer.check(at.token(header={"kid": None})) is not None


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("PS256", jwk.RSAKey.generate_key(2048, {"kid": "k"})),
        ("ES256", CURVE),
        ("EdDSA", jwk.OKPKey.generate_key("Ed25519", {"kid": "k"})),
    ],
)
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
async def test_other_algorithms_where_they_are_wanted(at, watch, algorithm, key):
    at.trouble = None
    at.keys = [key]
    issuer = made(at, watch, algorithms=[algorithm])
    assert await issuer.check(at.token(header={"alg": algorithm, "kid": key.kid}, key=key)) is not None
    assert await issuer.check(at.token()) is None


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"issuer_url": "http://issuer.example"}, id="in plain over the network"),
        pytest.param({"issuer_url": "https://u:p@issuer.example"}, id="with a password"),
        pytest.param({"issuer_url": "file:///etc/passwd"}, id="a file"),
        pytest.param({"audience": []}, id="for whomever"),
        pytest.param({"algorithms": ["HS256"]}, id="a shared key"),
        pytest.param({"algorithms": ["none"]}, id="no signature"),
        pytest.param({"algorithms": []}, id="no algorithm"),
        pytest.param({"jwks_url": "http://issuer.example/keys"}, id="keys in plain"),
    ],
)
def test_an_issuer_that_cannot_be_trusted_is_refused(options):
    with pytest.raises(ValidationError):
        OidcConfig(**{"issuer_url": "https://issuer.example", "audience": ["a"], **options})
