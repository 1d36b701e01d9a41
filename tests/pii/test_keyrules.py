"""What the key of an attribute says of its value, and that the one scan hits every key that says something."""

from __future__ import annotations

import csv
import importlib
import pkgutil
import time
from functools import cache
from itertools import product
from pathlib import Path

import opentelemetry.semconv._incubating.attributes
import opentelemetry.semconv.attributes
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import otel_ttf.pii
from otel_ttf.pii.keyrules import KeyRule, KeyRules, registry, secret
from otel_ttf.pii.phrases import table
from otel_ttf.pii.scanner import ENGINES, KEY, Engine, Scanner

SUBJECT = ("user.id", "enduser.id", "user_id")
RULES = KeyRules(subject=SUBJECT)
ALL = KeyRules()
FIELDS = Path(otel_ttf.pii.__path__[0])
TEMPLATES = [name[:-1] for name in registry() if name.endswith(".*")]


@cache
def scanner(rules: KeyRules, engine: Engine) -> Scanner:
    """Made when it is needed: some take a second."""
    return Scanner(rules.patterns, engine)


def conventions():
    """Every attribute of the installed conventions."""
    for package in (opentelemetry.semconv.attributes, opentelemetry.semconv._incubating.attributes):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            for name, value in vars(importlib.import_module(module.name)).items():
                if name.isupper() and isinstance(value, str):
                    yield value


# The registry.


def test_every_attribute_of_the_conventions_has_a_class():
    names = set(conventions())
    assert len(names) > 800
    known = registry()
    assert sorted(name for name in names if name not in known and f"{name}.*" not in known) == []


@pytest.mark.parametrize("name", ["semconv.csv", "phrases.csv", "words.csv"])
def test_a_table_is_sorted_and_says_nothing_twice(name):
    with (FIELDS / name).open(encoding="utf-8", newline="") as file:
        keys = [row[0] for row in csv.reader(file)][1:]
    assert keys == sorted(set(keys))


@pytest.mark.parametrize("name", ["semconv.csv", "phrases.csv"])
def test_a_line_of_a_table_is_whole(name):
    with (FIELDS / name).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            assert row["policy"] in ("never", "pseudonymise", "truncate", "scan", "safe"), row
            assert bool(row["label"]) == (row["policy"] not in ("scan", "safe")), row
            assert not row["label"] or (row["label"].isupper() and row["label"].isalpha()), row
            assert row["how"] in (("ip", "geo", "date") if row["policy"] == "truncate" else ("",)), row


@pytest.mark.parametrize(
    ("key", "policy", "label", "how"),
    [
        ("user.email", "never", "EMAIL", ""),
        ("user.full_name", "never", "NAME", ""),
        ("user.name", "pseudonymise", "NAME", ""),
        ("session.id", "pseudonymise", "ID", ""),
        ("client.address", "truncate", "IP", "ip"),
        ("net.sock.peer.addr", "truncate", "IP", "ip"),
        ("geo.location.lat", "truncate", "LOCATION", "geo"),
        ("geo.postal_code", "never", "ADDRESS", ""),
        ("db.connection_string", "never", "REDACTED", ""),
        ("tls.client.subject", "pseudonymise", "NAME", ""),
        ("http.request.header.forwarded", "never", "IP", ""),
        ("process.environment_variable.USER", "pseudonymise", "NAME", ""),
        ("url.full", "scan", "REDACTED", ""),
        ("gen_ai.input.messages", "scan", "REDACTED", ""),
        ("db.query.parameter.0", "scan", "REDACTED", ""),
        ("http.request.header.content-type", "scan", "REDACTED", ""),
        ("user_agent.original", "safe", "REDACTED", ""),
        ("gen_ai.usage.input_tokens", "safe", "REDACTED", ""),
        ("k8s.pod.label.app", "safe", "REDACTED", ""),
        ("k8s.pod.annotation.note", "scan", "REDACTED", ""),
        ("server.address", "safe", "REDACTED", ""),
        ("aws.secretsmanager.secret.arn", "safe", "REDACTED", ""),
        # Behind the prefix of a template the rest is judged as a name of its own.
        ("http.request.header.authorization", "never", "REDACTED", ""),
        ("http.request.header.cookie", "never", "REDACTED", ""),
        ("http.response.header.set-cookie", "never", "REDACTED", ""),
        ("http.request.header.x_forwarded_for", "truncate", "IP", "ip"),
        ("http.request.header.x-user-email", "never", "EMAIL", ""),
        ("rpc.request.metadata.x-api-key", "never", "REDACTED", ""),
        ("db.query.parameter.lat", "truncate", "LOCATION", "geo"),
        ("k8s.pod.label.owner-email", "never", "EMAIL", ""),
        ("process.environment_variable.AWS_SECRET_ACCESS_KEY", "never", "REDACTED", ""),
    ],
)
def test_what_the_conventions_say(key, policy, label, how):
    rule = RULES.rule(key)
    assert (rule.policy, rule.label, rule.how) == (policy, label, how)


# Names.

MASKED = {
    "REDACTED": "password newPassword2 user.password passWord db.password_hash apiKey x-api-key APIKey apikey "
    "APP__API__KEY access_token password_reset_token Cookie token pin otp pin_code client-secret "
    "privateKey card.cvv salary GITHUB_TOKEN slack.webhook_url contraseña CONTRASEÑA contrasena mot_de_passe "
    "Passwort senha",
    "CARD": "card.number creditCardNumber pan debit_card",
    "EMAIL": "email customer.email emailAddress E-Mail e_mail email.0 email_hash email.work user[email] courriel",
    "PHONE": "phone user.phone userPhone guardianPhone phoneNumber mobilePhone telephone phone_e164 phone.home tel fax "
    "telefono teléfono TÉLÉPHONE telefonnummer handynummer",
    "NAME": "firstName last_name customer.full-name surname cardholderName username login_name Vorname nachname "
    "apellido prénom",
    "IP": "ip IP clientIp client_ip X-Real-IP remote_addr X-Forwarded-For customer.ip_address ipAddress",
    "ADDRESS": "address address1 street billing.address.line1 shippingAddress postalCode zip_code zip plz straße",
    "DATE": "dob dateOfBirth birth-date birthday Geburtsdatum",
    "LOCATION": "lat lon latitude userLat pickup_lng geo.coordinates coordinates place_of_birth",
    "ID": "SSN userSsn taxId passport passport_number licensePlate imei mac_address deviceId session_id userId user-id "
    "app.user_id USER_ID User.Id app.user.id user__id appUser_id enduser_id EndUser.Id "
    "patient.id idfa",
    "IBAN": "iban customer.iban",
    "ACCOUNT": "bankAccount account_number",
}
LEFT_ALONE = (
    "author authentication.completed token_count gen_ai.usage.input_tokens tokens "
    "password_reset_completed secretary auth.method class.name className thread.name file.name filename "
    "host.name service.name event.name display.name email_sent email.template email_domain phone_verified "
    "phone.model address_space address.family mailbox.size server.address memory.address peer.address "
    "ip_version ipv6_enabled pin.count session.count lat_ms latency latest template state zip.file "
    "zipfile compass passenger_count keyboard monkey cookies_enabled cookie_consent "
    "password.policy.min_length has_password is_api_key_valid num_emails needs_phone iPhone device.iPhone "
    "apiPhone server.ip_address pod.ip node.mac_address host.session_id db.user_name mapping span company "
    "telemetry.name order.id customer.id trace_id user.id user_id street_view route.method "
    "authorized secrets_manager_status timeInMillis midnight adobe x url.path 日本語 ½ _ ."
)


@pytest.mark.parametrize(
    ("label", "key"), [(label, key) for label, keys in MASKED.items() for key in keys.split()]
)
def test_a_name_tells(label, key):
    rule = RULES.rule(key)
    assert rule is not None
    assert rule.masks
    assert rule.label == label
    for engine in ENGINES:
        assert scanner(RULES, engine).hits([encoded(key)])


@pytest.mark.parametrize("phrase", list(table()), ids=str)
def test_no_phrase_of_the_table_is_dead(phrase):
    words = phrase.words
    spellings = {
        "".join(words),
        "_".join(words),
        "-".join(words).upper(),
        words[0] + "".join(map(str.title, words[1:])),
    }
    if phrase.place == "whole":
        spellings = {"".join(words), "".join(words).upper()}
    for key in spellings:
        found = ALL.rule(key)
        assert found is not None, key
        assert found.masks, key
        assert found.label == phrase.label, key


@pytest.mark.parametrize("key", ["", *LEFT_ALONE.split()])
def test_a_name_does_not_tell(key):
    rule = RULES.rule(key)
    assert rule is None or not rule.masks
    assert not secret(key)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("apiKey", True),
        ("password", True),
        ("access_token", True),
        ("email", False),
        ("token_count", False),
        ("x" * 300 + ".password", True),
    ],
)
def test_which_names_are_secret(key, told):
    assert secret(key) is told


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("order.id", True),
        ("createdAt", True),
        ("duration_ms", True),
        ("order_number", True),
        ("commit.sha256", True),
        ("app.version", True),
        ("http.response.status_code", True),
        ("user_agent.original", True),
        ("phone_number", False),  # masked
        ("account_number", False),
        ("session.id", False),
        ("message", False),
        ("url.full", False),
        ("", False),
    ],
)
def test_which_keys_identify(key, told):
    assert RULES.identifies(key) is told


def test_the_subject_is_not_looked_after_here():
    assert ALL.rule("user.id").policy == "pseudonymise"
    assert ALL.rule("user_id").policy == "pseudonymise"
    assert RULES.rule("user.id") is None
    assert RULES.rule("user_id") is None
    for engine in ENGINES:
        for key in SUBJECT:
            assert not scanner(RULES, engine).hits([encoded(key)])
            assert scanner(ALL, engine).hits([encoded(key)])


# The configuration.


def test_configured_rules_come_first_in_their_order():
    rules = KeyRules(
        [
            KeyRule(key="user.email", action="hash"),
            KeyRule(glob="user.*", action="encrypt", vendors="drop"),
            KeyRule(glob="client.*", action="drop"),
            KeyRule(words="tax id", action="partial"),
        ]
    )
    told = {
        key: (rule.origin, rule.policy, rule.label, rule.how, rule.action, rule.vendors, rule.masks)
        for key in ("user.email", "user.name", "client.address", "customer.taxId", "session.id")
        if (rule := rules.rule(key))
    }
    assert told == {
        "user.email": ("config keys[0]", "pseudonymise", "EMAIL", "", "hash", True, True),
        "user.name": ("config keys[1]", "never", "NAME", "", "encrypt", False, True),
        "client.address": ("config keys[2]", "never", "IP", "ip", "drop", True, True),
        "customer.taxId": ("config keys[3]", "never", "ID", "", "partial", True, True),
        "session.id": ("registry session.id", "pseudonymise", "ID", "", None, True, True),
    }


@pytest.mark.parametrize(
    ("glob", "key", "matches"),
    [
        ("app.*.note", "app.x.y.note", True),
        ("app.*.note", "app.note", False),
        ("*note", "app.note", True),
        ("*note", "app.notes", False),
        ("a.b.*", "aXbX", False),
        ("app.*", "App.x", False),
        ("a*.bcd.*.bcd", "a.bcd.bcd.bcd", True),
        ("a*.bcd.*.bcd", "a.bcd.bcd", False),
        ("abc", "abcd", False),
        ("*abc**", "xabcx", True),
        # Of some hours, if stars tried all places.
        ("*abc*abc*abc*abc*x", "abc" * 20_000, False),
    ],
)
def test_a_glob_matches_whole_keys(glob, key, matches):
    rule = KeyRules([KeyRule(glob=glob)]).rule(key)
    assert (rule is not None) is matches


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, "exactly one of key, glob and words"),
        ({"key": "a", "words": "a"}, "exactly one of key, glob and words"),
        ({"glob": "*a*"}, "at least 3 characters in a row"),
        ({"words": "--"}, "a letter or a digit"),
        ({"key": ""}, "at least 1 character"),
    ],
)
def test_what_no_rule_is(rule, expected):
    with pytest.raises(ValidationError, match=expected):
        KeyRule(**rule)


# The scan.

WORDS = sorted({word for phrase in table() for word in phrase.words})
PHRASES = [phrase.words for phrase in table()]


def varint(number: int, padding: int) -> bytes:
    """Padded, as no encoder writes it but every decoder reads it."""
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    if not padding:
        return bytes([*data, number])
    return bytes([*data, number | 0x80, *[0x80] * (padding - 1), 0])


def encoded(key: str, padding: int = 0) -> bytes:
    """A KeyValue with that key and the value "v"."""
    text = key.encode()
    return b"\x0a" + varint(len(text), padding) + text + b"\x12\x03\x0a\x01v"


def cased(draw, word: str) -> str:
    return draw(st.sampled_from([word, word, word.upper(), word.title()]))


@st.composite
def keys(draw):
    parts = []
    for _ in range(draw(st.integers(0, 3))):
        words = draw(st.sampled_from(PHRASES) | st.lists(st.sampled_from(WORDS), max_size=2).map(tuple))
        between = draw(st.sampled_from(["", "", "_", ".", "-", " ", "/", "__", "--", "é", "\x12", "[", "ſ"]))
        parts.append(between.join(cased(draw, word) for word in words))
    prefix = draw(st.sampled_from(["", "", "app.", "x-", "is_", "server.", "i", "\u212a", *TEMPLATES]))
    suffix = draw(st.sampled_from(["", "", "_count", ".2", "_home", "Id", "é", "x" * 130]))
    return prefix + draw(st.sampled_from([".", "_", ""])).join(parts) + suffix


CONFIGURED = KeyRules(
    [KeyRule(key="x" * 200), KeyRule(glob="*.note.*"), KeyRule(words="straße no", action="hash")]
)


@settings(max_examples=600, deadline=None)
@given(keys() | st.sampled_from([*registry()]) | st.text(max_size=12), st.sampled_from([0, 0, 1, 3]))
@example("x" * 200, 0)
@example("x" * 200, 2)
@example("a.note.b", 0)
@example("STRAßE-NO", 0)
def test_the_scan_hits_every_key_that_is_masked(key, padding):
    text = key.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    places = [
        encoded(text, padding),
        b"\x12\x03\x0a\x01v\x0a" + varint(len(text.encode()), padding) + text.encode() + b"J",
        b'{"' + text.encode() + b'": 1}',
        b'{\\"' + text.encode() + b'\\": 1}',
    ]
    for rules, engine in product((RULES, ALL, CONFIGURED), ENGINES):
        rule = rules.rule(text)
        if rule is not None and rule.masks:
            for place in places:
                assert scanner(rules, engine).hits([place]).get(0) == KEY, (engine, place)


def test_engines_hit_the_same_attributes_of_the_conventions():
    pieces = [encoded(name) for name in registry()]
    hits = [scanner(RULES, engine).hits(pieces) for engine in ENGINES]
    assert hits[0] == hits[1] == hits[2]


def test_the_scan_hardly_hits_what_is_not_masked():
    names = [name for name, rule in registry().items() if not rule.masks]
    hit = scanner(RULES, "re2").hits([encoded(name) for name in names])
    assert len(hit) < len(names) / 50


@pytest.mark.parametrize(
    "text",
    [
        "GET /api/projects answered in 12 ms, latency fine, zip of the template mapped",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15",
        "connection pool has 3 idle of 5 connections, platform linux, pinned",
    ],
)
def test_the_scan_leaves_ordinary_lines_alone(text):
    assert not scanner(RULES, "re2").hits([b"\x0a" + varint(len(text), 0) + text.encode()])


@pytest.mark.parametrize(
    "unit", ["password.", "aB", "api", "api_", "user_id.", "phone 1 ", "é", "A", "tax_id_"]
)
def test_the_time_is_linear_in_the_key(unit):
    def seconds(size: int) -> float:
        key = unit * (size // len(unit)) + "!count"
        best = float("inf")
        for _ in range(3):
            start = time.thread_time()
            RULES.rule(key)
            best = min(best, time.thread_time() - start)
        return best

    assert seconds(1 << 16) < 9 * max(seconds(1 << 14), 1e-3)
