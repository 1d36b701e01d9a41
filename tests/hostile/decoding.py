"""Rows 16 to 30: what is hard to read, or no text, or too much, or at no time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from disk import contents
from doors import CANARY, Call, Http
from row import (
    BAD,
    CARD,
    EMAIL,
    FORMS,
    JSON,
    MENDED,
    OTLP,
    SECRET,
    Effect,
    Event,
    Events,
    Row,
    Seen,
    by,
)

from otel_ttf.otlp.events import (
    FLAG_NO_SUBJECT,
    FLAG_TIME_AHEAD,
    FLAG_TIME_IMPLAUSIBLE,
    FLAG_TIME_MISSING,
)
from otel_ttf.otlp.mend import REPAIRED, TOO_DEEP
from otel_ttf.otlp.wire import delimited, written

SECOND = 10**9
DAY = 86_400 * SECOND
MANY = 1000
TOO_MANY = 1 << 20
DEEP = 200_000


# What an effect can be.


def is_stored(seen: Seen) -> None:
    """One event."""
    assert seen.event.name == CANARY


def nothing_stays(seen: Seen) -> None:
    """No personal data in any file; what is harmless is there."""
    files = list(contents(seen.server.data_dir))
    assert [name for name, data in files if SECRET.encode() in data or CARD.encode() in data] == []
    assert [name for name, data in files if CANARY.encode() in data]


def stays(**attributes: object) -> Effect:
    """No personal data, and the event has these texts."""

    def effect(seen: Seen) -> None:
        nothing_stays(seen)
        have = seen.event.attributes
        assert {key: have[key].string_value for key in attributes} == attributes

    return effect


def flagged(flag: int) -> Effect:
    """The event has this flag and no other but that it has no user; it happened when it came."""

    def effect(seen: Seen) -> None:
        assert seen.event.flags & ~FLAG_NO_SUBJECT == flag
        assert seen.event.at == seen.event.arrival

    return effect


def too_old(seen: Seen) -> None:
    """It is counted as such, and not kept beyond the time that events are kept for."""
    assert seen.events == []
    assert seen.server.metrics().total("otel_ttf_events_flagged_total", flag="too_old") > 0


# 16-20: nested.

# What stands around a value, from the inside: what comes before it, and its tag.
HEADS = {"l": ((b"", 0x0A), (b"", 0x2A)), "m": ((b"\x0a\x01k", 0x12), (b"", 0x0A), (b"", 0x32))}


def nested(kinds: str, levels: int) -> Iterator[bytes]:
    """An AnyValue so many levels deep, from its end to its beginning. kinds: l or m, by turns."""
    parts = [delimited(1, CANARY.encode())]
    size = len(parts[0])
    for level in range(levels):
        for before, tag in HEADS[kinds[level % len(kinds)]]:
            head = before + bytes([tag]) + written(size)
            parts.append(head)
            size += len(head)
    yield from reversed(parts)


def deep(kinds: str, levels: int) -> bytes:
    """A request with an event that has such a value."""
    attribute = delimited(1, b"deep") + delimited(2, b"".join(nested(kinds, levels)))
    log = delimited(12, CANARY.encode()) + delimited(6, attribute)
    return delimited(1, delimited(2, delimited(2, log)))


OPEN = {
    "l": ('{"arrayValue":{"values":[', "]}}"),
    "m": ('{"kvlistValue":{"values":[{"key":"k","value":', "}]}}"),
}
PLAIN = {"l": ("[", "]"), "m": ('{"k":', "}")}


def _brackets(of: dict[str, tuple[str, str]], kinds: str, levels: int, inner: str) -> str:
    turns = [of[kinds[level % len(kinds)]] for level in range(levels)]
    return "".join(begin for begin, _ in turns) + inner + "".join(end for _, end in reversed(turns))


def deep_json(kinds: str, levels: int) -> bytes:
    """The same in OTLP/JSON."""
    value = _brackets(OPEN, kinds, levels, f'{{"stringValue":"{CANARY}"}}')
    record = f'{{"eventName":"{CANARY}","attributes":[{{"key":"deep","value":{value}}}]}}'
    return f'{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{record}]}}]}}]}}'.encode()


def deep_rest(kinds: str, levels: int) -> bytes:
    """The same by REST."""
    value = _brackets(PLAIN, kinds, levels, f'"{CANARY}"')
    return f'{{"events":[{{"event_name":"{CANARY}","event_type":"x","properties":{{"deep":{value}}}}}]}}'.encode()


def is_cut(seen: Seen) -> None:
    """Once."""
    assert seen.event.encoded.count(TOO_DEEP.encode()) == 1
    assert CANARY.encode() not in seen.event.encoded


def _nested() -> Iterator[Row]:
    for number, kinds, what in ((16, "l", "lists"), (17, "m", "maps"), (18, "lm", "lists and maps")):
        for levels in (33, DEEP):
            made = partial(deep, kinds, levels)
            cut = {"stored": 1, "says": "nested more than 32 deep: 1, cut", "effect": is_cut, "seconds": 1.0}
            yield Row(number, f"{what} of {levels} levels", "grpc", Call(made), "OK", **cut)
            yield Row(number, f"{what} of {levels} levels", "http", Http(made), 200, **cut)
        cut["number"] = 19
        for levels, mib, seconds in ((33, 32, 1), (150, 32, 1), (400, 32, 1), (1100, 32, 1), (DEEP, 256, 5)):
            sent = Http(partial(deep_json, kinds, levels), JSON)
            more = {**cut, "mib": mib, "seconds": seconds}
            yield Row(name=f"{what} of {levels} levels in JSON", door="http", sent=sent, answer=200, **more)
            sent = Http(partial(deep_rest, kinds, levels))
            yield Row(name=f"{what} of {levels} levels", door="rest", sent=sent, answer=200, **more)
    brackets = b"[" * 1_000_000
    yield Row(20, "a million brackets", "http", Http(brackets, JSON), 400, mib=256, seconds=1)
    yield Row(20, "a million brackets", "rest", Http(brackets), 400, mib=256, seconds=1)


# 21, 22: texts.

ODD = "x\0\ufeff\u202e\u200b\U0001f600\ue000\u0301x"


def one_of_many(where: str) -> Events:
    """A thousand events, of which one is no UTF-8 there."""

    def made() -> list[Event]:
        events = [Event([("n", number)]) for number in range(MANY)]
        spoilt = {
            "value": Event([("n", BAD)]),
            "key": Event([(BAD, "n")]),
            "name": Event(name=BAD),
        }
        events[MANY // 2] = spoilt[where]
        return events

    return Events(made)


def one_is_mended(seen: Seen) -> None:
    """The others are there as they came."""
    mended = [one for one in seen.events if REPAIRED in one.attributes]
    assert len(seen.events) == MANY
    assert len(mended) == 1
    (one,) = mended
    told = {one.name, *one.attributes, *(value.string_value for value in one.attributes.values())}
    assert MENDED in told


def odd_texts_stay(seen: Seen) -> None:
    """In the store, in the list of names, and as a user id."""
    signup, odd = sorted(seen.events, key=lambda one: one.name == ODD)
    assert odd.attributes[ODD].string_value == ODD
    names = seen.server.get("/api/v1/events/names?limit=10000")
    assert ODD in [name["name"] for name in names.json["names"]]
    user = "".join(f"%{byte:02x}" for byte in ODD.encode())
    assert seen.server.get(f"/api/v1/ttf/{user}").json["subject"] == signup.subject


def a_half_is_mended(seen: Seen) -> None:
    """U+FFFD in its place."""
    (value,) = [pair.value.string_value for pair in seen.event.pairs if pair.key == "half"]
    assert "\ufffd" in value
    assert seen.event.attributes[REPAIRED].bool_value


def _texts() -> Iterator[Row]:
    for where in ("value", "key", "name"):
        yield from by(
            FORMS,
            21,
            f"no UTF-8 in one {where} of a thousand records",
            one_of_many(where),
            stored=MANY,
            says="texts that are no UTF-8: 1, mended",
            effect=one_is_mended,
        )
    odd = Events(lambda: [Event([(ODD, ODD)], name=ODD), Event(name="signup", user=ODD)])
    yield from by(FORMS, 22, "NUL, BOM, bidi and the like", odd, stored=2, effect=odd_texts_stay)
    half = Events.one(("half", BAD))
    for forms, wrong in ((("grpc", "http"), b"B\xed\xa0\x80TEXT"), (("json", "rest"), b"\\ud800")):
        yield from by(
            forms,
            22,
            "half a surrogate pair",
            Events(half.of, wrong),
            says="no UTF-8",
            effect=a_half_is_mended,
        )


# 23: many.


def _repeated(part: bytes, times: int = TOO_MANY) -> Callable[[], bytes]:
    return lambda: delimited(1, part * times)


def _many_attributes() -> bytes:
    log = delimited(12, CANARY.encode()) + delimited(6, b"\x0a\x01k\x12\x02\x18\x01") * TOO_MANY
    return delimited(1, delimited(2, delimited(2, log)))


def _records(count: int) -> Callable[[], bytes]:
    log = delimited(2, delimited(6, b"\x0a\x01k\x12\x02\x18\x01"))
    return lambda: delimited(1, delimited(2, log * count))


def is_cut_to_1024(seen: Seen) -> None:
    """Attributes."""
    assert len(seen.event.pairs) == 1024


def _many() -> Iterator[Row]:
    for door, send, ok, refused in (("grpc", Call, "OK", "INVALID_ARGUMENT"), ("http", Http, 200, 400)):
        scopes = send(_repeated(b"\x12\x00"))
        yield Row(23, "a million empty scopes", door, scopes, refused, mib=64, says="10000")
        yield Row(23, "200,001 records", door, send(_records(200_001)), refused, mib=128, says="200000")
        records = send(_records(100_000))
        yield Row(23, "100,000 records of an attribute", door, records, ok, stored=100_000, mib=256)
        yield Row(
            23,
            "a record with a million attributes",
            door,
            send(_many_attributes),
            ok,
            stored=1,
            mib=640,
            seconds=20,
            says="attributes beyond 1024",
            effect=is_cut_to_1024,
        )
    event = b'{"event_name":"%b","event_type":"x"}' % CANARY.encode()
    events = b'{"events":[' + b",".join([event] * 100_001) + b"]}"
    yield Row(23, "100,001 events", "rest", Http(events), 413, mib=256)
    properties = Events.one(*((f"k{n}", n) for n in range(20_000)))
    yield from by(
        ["rest"],
        23,
        "a record with 20,000 attributes",
        properties,
        mib=256,
        says="attributes beyond 1024",
        effect=is_cut_to_1024,
    )
    objects = Http(b'{"events":[' + b"{}," * TOO_MANY + b"{}]}")
    yield Row(23, "a million empty events", "rest", objects, 413, mib=64)


# 24: the wire.

GOOD = delimited(12, CANARY.encode())


def request(log: bytes, more: bytes = b"") -> bytes:
    """With one record, and something beside its resource."""
    return delimited(1, delimited(2, delimited(2, log))) + more


ADDRESS = delimited(1, EMAIL.encode())
TWO_KEYS = delimited(1, b"a") + delimited(1, b"user.id") + delimited(2, ADDRESS)
MAP = delimited(6, delimited(1, delimited(1, b"a") + delimited(2, ADDRESS)))
LONG_PAIR = b"\x0a\x81\x80\x00k\x92\x00" + delimited(2, ADDRESS)[1:]
LONG = b"\xb2\x00" + bytes([0x80 | len(LONG_PAIR), 0x80, 0]) + LONG_PAIR
RESOURCES = delimited(1, delimited(1, delimited(1, TWO_KEYS)) * 2)


def _wire() -> Iterator[Row]:
    secret = EMAIL.encode()
    oneof = delimited(6, delimited(1, b"a") + delimited(2, delimited(1, secret) + b"\x10\x01"))
    for name, body, refused, effect in (
        ("a varint of eleven bytes", b"\x08" + b"\xff" * 10 + b"\x01", True, None),
        ("a length beyond the end", b"\x0a\xff\xff\xff\xff\x07" + CANARY.encode(), True, None),
        ("a length of 2^63", b"\x0a" + b"\xff" * 9 + b"\x7f", True, None),
        ("a field of number 0", request(GOOD, b"\x02\x00"), True, None),
        ("the end of a group that has not begun", request(GOOD, b"\x0c"), True, None),
        ("a wire type that there is not", request(GOOD, b"\x0f\x00"), True, None),
        ("a group", request(GOOD, b"\x7b" + delimited(1, secret) + b"\x7c"), False, stays()),
        ("an unknown field of a request", request(GOOD, delimited(15, secret)), False, stays()),
        ("an unknown field of a record", request(GOOD + delimited(15, secret)), False, stays()),
        ("a value twice", request(GOOD + oneof), False, stays(a="")),
        ("a name twice", request(delimited(12, secret) + GOOD), False, stays()),
        ("a length of -1", b"\x0a" + b"\xff" * 9 + b"\x01" + CANARY.encode(), True, None),
        ("groups of 100,000 levels", request(GOOD, b"\x7b" * 100_000 + b"\x7c" * 100_000), True, None),
        ("a key twice in a pair", request(GOOD + delimited(6, TWO_KEYS)), False, stays()),
        ("a body in two parts", request(GOOD + delimited(5, MAP) * 2), False, stays()),
        ("a tag and a length longer than they need be", request(GOOD + LONG), False, stays()),
        ("a number in the place of a text", request(GOOD + b"\x60\x07"), False, is_stored),
        ("a text in the place of a number", request(GOOD + delimited(2, secret)), False, stays()),
        ("a severity below 0", request(GOOD + b"\x10" + b"\xff" * 9 + b"\x01"), False, is_stored),
        ("a resource twice", RESOURCES + request(GOOD), False, stays()),
    ):
        stored = int(not refused)
        more = {"stored": stored, "effect": effect, "says": "expected" if refused else ""}
        yield Row(24, name, "grpc", Call(body), "INVALID_ARGUMENT" if refused else "OK", **more)
        yield Row(24, name, "http", Http(body), 400 if refused else 200, **more)


def two_are_there(seen: Seen) -> None:
    """Of three."""
    nothing_stays(seen)
    assert [one.name for one in seen.events] == [CANARY] * 2


def _rejected() -> Iterator[Row]:
    """One of three, with its place and why."""
    broken = delimited(2, EMAIL.encode())
    three = delimited(
        1, delimited(2, b"".join([delimited(2, GOOD), broken, delimited(2, GOOD + b"\x08\x01")]))
    )
    told = {"stored": 2, "says": "log_records[1]: expected a LogRecord", "effect": two_are_there}
    yield Row(24, "a record that is none between two", "grpc", Call(three), "OK", **told)
    yield Row(24, "a record that is none between two", "http", Http(three), 200, **told)
    user = Events(lambda: [Event(), Event(user=SECRET * 57), Event([("n", 3)])])
    for form in FORMS:
        says = '"index": 1' if form == "rest" else "log_records[1]: user.id: expected at most 512 bytes"
        yield from by([form], 26, "a user id of 513 bytes", user, stored=2, says=says, effect=two_are_there)


# 25, 26: keys.


def both_are_masked(seen: Seen) -> None:
    """Of two with one key."""
    nothing_stays(seen)
    told = [pair.value.string_value for pair in seen.event.pairs if pair.key == "note"]
    assert told
    assert set(told) == {"[EMAIL]"}


def the_key_is_short(seen: Seen) -> None:
    """At most as long as a value may be."""
    assert max(map(len, seen.event.attributes)) <= 256 << 10


ODD_KEYS = ("__proto__", "a\"b'c;--", "$.a[*]", "%_%")


def odd_keys_stay(seen: Seen) -> None:
    """As they came."""
    assert {key: seen.event.attributes[key].string_value for key in ODD_KEYS} == dict.fromkeys(ODD_KEYS, "x")


def the_key_is_masked(seen: Seen) -> None:
    """What stands in it."""
    nothing_stays(seen)
    assert "[EMAIL]" in "".join(seen.event.attributes)


def _keys() -> Iterator[Row]:
    twice = Events.one(("note", EMAIL), ("note", f"{SECRET}2@example.com"))
    yield from by(OTLP, 25, "a key twice", twice, effect=both_are_masked)
    yield from by(["rest"], 25, "a key twice", twice, answer=400, stored=0, says="note: expected once")
    yield from by(OTLP, 26, "an empty key", Events.one(("", "x")), effect=is_stored)
    empty = Events.one(("", "x"))
    yield from by(["rest"], 26, "an empty key", empty, answer=400, stored=0, says="names that are not empty")
    long = Events.one(("k" * (1 << 20), "x"))
    yield from by(FORMS, 26, "a key of 1 MB", long, effect=the_key_is_short, says="values of more than")
    yield from by(
        FORMS,
        26,
        "keys for other languages",
        Events.one(*((key, "x") for key in ODD_KEYS)),
        effect=odd_keys_stay,
    )
    yield from by(
        FORMS, 26, "an address in a key", Events.one((f"to {EMAIL}", "x")), effect=the_key_is_masked
    )


# 27: JSON.


def log(inner: str, name: str = f'"eventName":"{CANARY}"') -> bytes:
    """An OTLP/JSON request with such a record."""
    return f'{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{name},{inner}}}]}}]}}]}}'.encode()


def value(of: str) -> str:
    """A record's attribute."""
    return f'"attributes":[{{"key":"a","value":{{{of}}}}}]'


def event(inner: str) -> bytes:
    """A REST request with such an event."""
    return f'{{"events":[{{"event_name":"{CANARY}","event_type":"x",{inner}}}]}}'.encode()


def is_int(expected: int) -> Effect:
    """The attribute."""

    def effect(seen: Seen) -> None:
        assert seen.event.attributes["a"].int_value == expected

    return effect


def _json() -> Iterator[Row]:
    for name, inner, good, effect in (
        ("a key twice", f'"severityText":"{EMAIL}","severityText":"x"', False, None),
        ("a key twice that nobody knows", f'"later":"{EMAIL}","later":"x"', True, stays()),
        ("NaN", value('"doubleValue":NaN'), False, None),
        ('"NaN"', value('"doubleValue":"NaN"'), True, is_stored),
        ("1e400", value('"doubleValue":1e400'), False, None),
        ("an integer of 5,000 digits", value('"intValue":' + "9" * 5000), False, None),
        ("a text of 5,000 digits", value('"intValue":"' + "9" * 5000 + '"'), False, None),
        ("an integer as a number", value('"intValue":7'), True, is_int(7)),
        ("an integer as a text", value('"intValue":"7"'), True, is_int(7)),
        ("an integer as a double", value('"intValue":7.0'), True, is_int(7)),
        ("half an integer", value('"intValue":7.5'), False, None),
        ("an enum's name", '"severityNumber":"SEVERITY_NUMBER_INFO"', False, None),
        ("snake case", f'"severity_text":"{EMAIL}"', True, stays()),
        ("an id in base64", '"traceId":"AAAAAAAAAAAAAAAAAAAAAA=="', False, None),
        ("an id of odd length", '"traceId":"abc"', False, None),
        ("a list in the place of an object", '"body":[]', False, None),
        ("two values in one", value(f'"stringValue":"{EMAIL}","intValue":"7"'), True, is_int(7)),
        ("an integer with an exponent", value('"intValue":7e0'), True, is_int(7)),
        ("an integer with a huge exponent", value('"intValue":1e1000000000'), False, None),
        ("an exponent of 100,000 digits", value('"doubleValue":1e' + "9" * 100_000), False, None),
        ("an exponent far below 0", value('"doubleValue":1e-1000000000'), True, is_stored),
        ("a text that is too large a number", value('"doubleValue":"1e400"'), False, None),
        ("-0", value('"doubleValue":-0.0'), True, is_stored),
        ("a name with half a pair that nobody knows", f'"\\ud800":"{EMAIL}"', True, stays()),
        ("a key that is a list's place", '"attributes":{"0":{"key":"a"}}', False, None),
    ):
        more = {"stored": int(good), "effect": effect, "says": "" if good else "log_records[0]: "}
        yield Row(27, name, "http", Http(log(inner), JSON), 200, **more)
    for name, sent in (
        ("UTF-16", log(value("")).decode().encode("utf-16")),
        ("UTF-32", log(value("")).decode().encode("utf-32")),
        ("a comma too many", log(value('"intValue":7,'))),
        ("a comment", log(value('"intValue":/* */7'))),
        ("quotes of Python", b"{'resourceLogs':[]}"),
        ("two documents", log(value("")) * 2),
        ("rubbish behind it", log(value("")) + CANARY.encode()),
        ("NUL behind it", log(value("")) + b"\0"),
        ("a list", b"[" + log(value("")) + b"]"),
        ("a number", b"1e1000000"),
        ("a list twice", b'{"resourceLogs":[],"resourceLogs":[]}'),
        ("nothing", b""),
    ):
        yield Row(27, f"{name} as a document", "http", Http(sent, JSON), 400, says="expected")
    marked = b"\xef\xbb\xbf" + log(value('"intValue":7'))
    yield Row(27, "a mark of bytes before it", "http", Http(marked, JSON), 200, stored=1, effect=is_int(7))
    for name, inner, good, effect in (
        ("a key twice", f'"properties":{{"a":"{EMAIL}","a":"x"}}', False, None),
        (
            "a time with a huge exponent",
            '"timestamp":1e308,"user_id":"late"',
            True,
            flagged(FLAG_TIME_IMPLAUSIBLE),
        ),
        ("a time that is infinite", '"timestamp":1e400', False, None),
        ("a time below any", '"timestamp":5e-324,"user_id":"early"', True, flagged(FLAG_TIME_MISSING)),
        ("a double as user", '"user_id":1e3', False, None),
        ("a user of 5,000 digits", '"user_id":' + "9" * 5000, False, None),
        ("NUL in an id", '"event_id":"a\\u0000b"', True, is_stored),
        ("half a pair in an id", '"event_id":"\\ud800"', False, None),
        ("an id of blanks", '"event_id":" "', True, is_stored),
        ("NaN", '"properties":{"a":NaN}', False, None),
        ("1e400", '"properties":{"a":1e400}', False, None),
        ("an integer of 5,000 digits", '"properties":{"a":' + "9" * 5000 + "}", False, None),
        ("an integer of 64 bits", '"properties":{"a":9223372036854775807}', True, is_int(2**63 - 1)),
        ("an integer of 65 bits", '"properties":{"a":9223372036854775808}', False, None),
        ("a time of 5,000 digits", '"timestamp":' + "9" * 5000, True, flagged(FLAG_TIME_IMPLAUSIBLE)),
        ("a list as user", '"user_id":["a"]', False, None),
        ("a field that there is not", f'"{CANARY}":1', False, None),
    ):
        says = "" if good else "unknown field" if "field" in name else "expected"
        more = {"stored": int(good), "effect": effect, "says": says}
        yield Row(27, name, "rest", Http(event(inner)), 200 if good else 400, **more)
    plain = f'{{"event_name":"{CANARY}","event_type":"x"'
    two = f'{plain},"properties":{{"a":NaN}}}},{plain}}}'
    sent = Http(f'{{"events":[{two}]}}'.encode())
    yield Row(27, "NaN in one of two", "rest", sent, 200, stored=1, says='"index": 0', effect=is_stored)


# 28-30: ids, times, bodies.


def _ids() -> Iterator[Row]:
    for name, trace_id in (
        ("short", b"abc"),
        ("zero", bytes(16)),
        ("long", b"x" * 32),
        ("a name", EMAIL.encode()),
    ):
        yield from by(OTLP, 28, f"a trace id that is {name}", Events.one(trace_id=trace_id), effect=stays())
    upper = Http(log('"traceId":"5B8EFFF798038103D269B633813FC60C"'), JSON)
    yield Row(28, "a trace id in capitals", "http", upper, 200, stored=1, effect=is_stored)


def no_day_of_its_own(seen: Seen) -> None:
    """Those beyond the age that counts are in no figure."""
    with seen.server.store() as store:
        (days,) = store.execute("SELECT count(DISTINCT day) FROM rollup").fetchone()
    assert days <= 402


def _days() -> list[Event]:
    now = time.time_ns()
    return [Event(name="signup", user=f"day {n}", time=now - n * DAY) for n in range(10_000)]


def _times() -> Iterator[Row]:
    for name, at, effect, forms in (
        ("0", 0, flagged(FLAG_TIME_MISSING), OTLP),
        ("1 ns", 1, flagged(FLAG_TIME_IMPLAUSIBLE), OTLP),
        ("1970", DAY, flagged(FLAG_TIME_IMPLAUSIBLE), OTLP),
        ("2262", 2**63 - 1, flagged(FLAG_TIME_AHEAD), FORMS),
        ("2^64 - 1", 2**64 - 1, flagged(FLAG_TIME_IMPLAUSIBLE), FORMS),
        ("ten years ahead", 2_200_000_000 * SECOND, flagged(FLAG_TIME_AHEAD), FORMS),
        ("2016", 1_460_000_000 * SECOND, too_old, FORMS),
    ):
        # What is the same is one event, whichever door it comes through.
        for form in forms:
            one = Events.one(("by", form), time=at)
            yield from by([form], 29, f"a time of {name}", one, effect=effect)
    observed = log('"timeUnixNano":"1","observedTimeUnixNano":"1460000000000000000"')
    yield Row(29, "observed long before now", "http", Http(observed, JSON), 200, stored=1, effect=too_old)
    negative = Http(log('"timeUnixNano":"-5"'), JSON)
    yield Row(29, "a time before 1970", "http", negative, 200, says="expected")
    for name, text, good in (
        ("0", "0", FLAG_TIME_MISSING),
        ("before 1970", "-5", 0),
        ("without zone", '"2026-01-01T00:00:00"', 0),
        ("year 9999", '"9999-12-31T23:59:60Z"', FLAG_TIME_IMPLAUSIBLE),
        ("1970", "86400", FLAG_TIME_IMPLAUSIBLE),
    ):
        more = {"stored": 1, "effect": flagged(good)} if good else {"says": "timestamp: expected"}
        yield Row(
            29,
            f"a time of {name}",
            "rest",
            Http(event(f'"timestamp":{text},"user_id":"{name}"')),
            200 if good else 400,
            **more,
        )
    yield from by(
        ["grpc", "http", "rest"],
        29,
        "signups of 10,000 days",
        Events(_days),
        stored=10_000,
        mib=96,
        effect=no_day_of_its_own,
    )


def _bodies() -> Iterator[Row]:
    for name, body, says in (
        ("bytes with a card", b"\xff\xfe " + CARD.encode() + b" \xff", ""),
        ("NaN", float("nan"), ""),
        ("infinite", float("-inf"), ""),
        (
            "a map of 10,000",
            {f"{n}": EMAIL for n in range(10_000)},
            "elements beyond 1024 of a list or map: 8976",
        ),
        ("an empty list", [], ""),
    ):
        yield from by(
            OTLP, 30, f"a body that is {name}", Events.one(body=body), effect=stays(), says=says, mib=96
        )
    yield Row(
        30,
        "a body without a value",
        "grpc",
        Call(request(GOOD + b"\x2a\x00")),
        "OK",
        stored=1,
        effect=is_stored,
    )
    yield Row(
        30,
        "a body without a value",
        "http",
        Http(request(GOOD + b"\x2a\x00")),
        200,
        stored=1,
        effect=is_stored,
    )
    yield Row(
        30,
        "a body without a value, in JSON",
        "http",
        Http(log('"body":{}'), JSON),
        200,
        stored=1,
        effect=is_stored,
    )
    for name, number in (("NaN", float("nan")), ("infinite", float("inf"))):
        yield from by(OTLP, 30, f"an attribute that is {name}", Events.one(("a", number)), effect=is_stored)


DECODING: list[Row] = [
    *_nested(),
    *_texts(),
    *_many(),
    *_wire(),
    *_rejected(),
    *_keys(),
    *_json(),
    *_ids(),
    *_times(),
    *_bodies(),
]
