"""Rows 31 to 51: texts that are slow, users that are somebody else, very many, again and again, and questions."""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import quote

from doors import CANARY, TOKEN, VICTIM, Again, Answer, Call, Http, Raw, record
from row import FORMS, OTLP, Effect, Event, Events, Form, Row, Seen, by, get

from otel_ttf.pii.pseudonym import is_token

KIB = 1 << 10
SIGNUP = "signup"

# 31: slow texts, 64 KiB each.
SLOW = {
    "halves of addresses": "a.",
    "labels and dashes": "a@a-",
    "labels": "x@" + "a" * 61 + ".",
    "digits": "4",
    "digits and blanks": "4 ",
    "pairs of digits": "45 ",
    "digits and dashes": "1-",
    "beginnings of keys": "-----BEGIN PRIVATE KEY-----\n",
    "beginnings of tokens": "eyJ",
    "colons": ":",
    "dots of addresses": "1.",
    "percent signs": "%40",
    "references": "&#64;",
    "passwords": "password=",
    "URLs": "https://a:",
    "brackets": '{"a":[',
    "quotes": '\\"',
    "paths": "/home/",
    "words of credentials": "bearer basic ",
    "account numbers": "DE89 ",
}


def slow(unit: str) -> Callable[[], Sequence[Event]]:
    """An event with such a text, and its name."""
    text = (unit * (64 * KIB // len(unit.encode()) + 1))[: 64 * KIB]
    return lambda: [Event([("text", text)])]


def all_slow() -> list[Event]:
    """One of each."""
    return [event for unit in SLOW.values() for event in slow(unit)()]


def _slow() -> Iterator[Row]:
    for name, unit in SLOW.items():
        yield from by(["http"], 31, f"64 KiB of {name}", Events(slow(unit)), seconds=0.5)
    yield from by(
        FORMS, 31, "64 KiB of everything slow", Events(all_slow), stored=len(SLOW), seconds=4, mib=160
    )


# 35: somebody else.


def another_user(seen: Seen) -> None:
    """The victim's journey is where it was, and the event is somebody's, by a token."""
    victim = seen.server.get(f"/api/v1/ttf/{VICTIM}").json
    assert [stage["reached_at"] for stage in victim["stages"]] == [None] * 4
    (event,) = [one for one in seen.events if one.name == "project_created"]
    assert event.subject is not None
    assert is_token(event.subject)
    assert event.subject != victim["subject"]
    names = {key: value.string_value for key, value in event.attributes.items() if key.endswith("user.id")}
    assert names
    assert all(is_token(name) and name != victim["subject"] for name in names.values())


def _forged() -> Iterator[Row]:
    for name, user in (
        ("a token", TOKEN.decode()),
        ("a token with blanks", f" {TOKEN.decode()}\n"),
        ("an address's placeholder", "[EMAIL]"),
        ("another's placeholder", "<email:ab2c>"),
        ("a keyed placeholder", "[EMAIL:ab2c_aaaaaaaaaaaaaaaa]"),
    ):
        yield from by(
            FORMS,
            35,
            f"{name} as a user id",
            Events(lambda user=user: [Event(name="project_created", user=user)]),
            effect=another_user,
        )
    other = Events.one(("enduser.id", TOKEN.decode()), name="project_created")
    yield from by(FORMS, 35, "a token as another attribute", other, effect=another_user)


# 37: very many.

USERS = 10_000
# After the first of them there is no room for another name.
NAMES: dict[Form, int] = {"grpc": 12_000, "http": 2000, "rest": 2000}
MOST_NAMES = 10_001
MOST_SAMPLES = 2500


def few_samples(seen: Seen) -> None:
    """/metrics does not grow with what is sent, nor does the list of names."""
    lines = seen.server.get("/metrics").body.decode().splitlines()
    assert len([line for line in lines if line[:1] != "#"]) < MOST_SAMPLES
    with seen.server.store() as store:
        (names,) = store.execute("SELECT count(*) FROM seen").fetchone()
        (values,) = store.execute("SELECT count(*) FROM label").fetchone()
    assert names <= MOST_NAMES
    assert values <= 2 * 201


def users(form: Form) -> Callable[[], Sequence[Event]]:
    return lambda: [
        Event([("plan", f"plan {n % 1000}")], name=SIGNUP, user=f"{form} {n}") for n in range(USERS)
    ]


def names(form: Form) -> Callable[[], Sequence[Event]]:
    return lambda: [Event(name=f"{CANARY} {form} {n}") for n in range(NAMES[form])]


def _very_many() -> Iterator[Row]:
    for form, count in NAMES.items():
        many = Events(users(form))
        yield from by(
            [form], 37, f"{USERS} users", many, stored=USERS, mib=256, seconds=20, effect=few_samples
        )
        many = Events(names(form))
        yield from by(
            [form], 37, f"{count} names", many, stored=count, mib=128, seconds=8, effect=few_samples
        )


# 38: again.

TIMES = 100
BATCH = 10


def counted_once(form: Form) -> Effect:
    """Of so many that were accepted."""

    def effect(seen: Seen) -> None:
        assert len(seen.events) == BATCH
        assert len({one.subject for one in seen.events}) == BATCH
        with seen.server.store() as store:
            for event in seen.events:
                told = store.execute("SELECT kind FROM transition WHERE subject = ?", (event.subject,))
                assert told.fetchall() == [("started",)], form

    return effect


def _again() -> Iterator[Row]:
    at = time.time_ns()
    for form in FORMS:
        batch = Events(
            lambda form=form: [
                Event([("plan", "again")], name=SIGNUP, user=f"again {form} {n}", time=at + n)
                for n in range(BATCH)
            ]
        )
        for row in by([form], 38, f"a batch {TIMES} times", batch):
            assert isinstance(row.sent, Call | Http)
            yield Row(
                row.number,
                row.name,
                row.door,
                Again(row.sent, TIMES),
                row.answer,
                stored=BATCH * TIMES,
                effect=counted_once(form),
                seconds=8,
            )
    twice = [Event(name=SIGNUP, user=f"named {n}", event_id=f"order-{n}") for n in range(BATCH)]
    (row,) = by(["rest"], 38, "", Events(lambda: twice))
    assert isinstance(row.sent, Http)
    yield Row(
        38,
        f"a batch without times, with ids, {TIMES} times",
        "rest",
        Again(row.sent, TIMES),
        200,
        stored=BATCH * TIMES,
        effect=counted_once("rest"),
        seconds=8,
    )


# 43: injections. No text is refused as an error of ours, nor heard.

INJECTIONS = {
    "SQL": "x' OR '1'='1\"; DROP TABLE event; --",
    "wild cards": "%_$.a[*]?(@.b)",
    "NUL": "x\0y",
    "no UTF-8": b"x\xff\xed\xa0\x80",
    "CRLF": f"x\r\nset-cookie: {CANARY}=1\r\n\r\n",
}
# What is asked, and what is answered.
QUESTIONS: tuple[tuple[str, Answer | tuple[Answer, ...]], ...] = (
    ("/api/v1/ttf?journey={}", 404),
    ("/api/v1/ttf?from={}", 400),
    ("/api/v1/ttf?to={}", 400),
    ("/api/v1/ttf?segment.plan={}", 200),
    ("/api/v1/ttf?segment.{}=x", 400),
    ("/api/v1/ttf?{}=x", 400),
    ("/api/v1/ttf/{}", (400, 404)),
    ("/api/v1/ttf/victim?version={}", 404),
    ("/api/v1/ttf/{}/alerts", (200, 400)),
    ("/api/v1/subjects/{}", 400),
    ("/api/v1/stuck?stage={}", 400),
    ("/api/v1/stuck?over={}", 400),
    ("/api/v1/stuck?limit={}", 400),
    ("/api/v1/stuck?cursor={}", 400),
    ("/api/v1/stuck?order={}", 400),
    ("/api/v1/events/names?limit={}", 400),
    ("/api/v1/events/names?sort={}", 400),
    ("/{}", 404),
)


def tables_are_there(seen: Seen) -> None:
    """Nothing was dropped, and nothing of ours is told."""
    with seen.server.store() as store:
        (events,) = store.execute("SELECT count(*) FROM event").fetchone()
    assert events > 0
    for told in (b"sqlite", b"SELECT", b"otel_ttf/", b"Traceback"):
        assert told not in seen.reply.body


def as_it_came(text: str) -> Effect:
    """The name, the attribute and its key."""

    def effect(seen: Seen) -> None:
        assert seen.event.name == text
        assert seen.event.attributes[text].string_value == text
        assert seen.server.get("/api/v1/events/names").status == 200

    return effect


def _injections() -> Iterator[Row]:
    for name, text in INJECTIONS.items():
        for question, answer in QUESTIONS:
            path = question.format(quote(text, safe=""))
            yield get(43, f"{name} in {question}", path, answer, seconds=0.5, effect=tables_are_there)
    for name in ("SQL", "wild cards"):
        text = str(INJECTIONS[name])
        sent = Events.one((text, text), name=text)
        yield from by(FORMS, 43, f"{name} in an event", sent, effect=as_it_came(text))


# 47, 48: our log and our metrics.

LINE = f"{CANARY}\r\n2026-01-01T00:00:00Z [error    ] forged\x1b[2J\x1b]0;forged\x07"
LABEL = 'x"y\nz\\w{a="b"} 1\n# TYPE forged counter\nforged 1'


def no_line_of_theirs(seen: Seen) -> None:
    """In our log."""
    assert "forged" not in seen.server.printed()
    assert "\x1b" not in seen.server.printed()


def no_metric_of_theirs(seen: Seen) -> None:
    """/metrics is read as it was meant; the metrics are ours."""
    assert seen.server.metrics().total("forged") == 0
    assert b"\nforged" not in seen.server.get("/metrics").body


def the_label_is_one(seen: Seen) -> None:
    """The same, and the label's value came whole."""
    assert seen.server.metrics().total("ttf_started_total", plan=LABEL) > 0
    no_metric_of_theirs(seen)


def _forgeries() -> Iterator[Row]:
    sent = Events.one((LINE, LINE), name=LINE, user=LINE)
    yield from by(FORMS, 47, "lines of a log in an event", sent, effect=no_line_of_theirs)
    wrong = Events.one(("ttf.x", "x"), (LINE, float("nan")), name=LINE)
    yield from by(OTLP, 47, "lines of a log beside a wrong value", wrong, effect=no_line_of_theirs)
    rejected = Events.one(("ttf." + LINE, "x"))
    yield from by(
        ["rest"],
        47,
        "lines of a log in a reserved name",
        rejected,
        answer=400,
        stored=0,
        effect=no_line_of_theirs,
    )
    encoded = quote(LINE, safe="").encode()
    for door, path, answer in (("http", b"/v1/", 404), ("rest", b"/api/v1/ttf/", 404)):
        head = b"GET %b%b HTTP/1.1\r\nhost: x\r\nuser-agent: forged\x1b[2J\r\n\r\n" % (path, encoded)
        yield Row(
            47, "lines of a log in a path", door, Raw(head), (answer, 400, 405), effect=no_line_of_theirs
        )
        head = b"GET /\x1b[2Jforged HTTP/1.1\r\nhost: x\r\n\r\n"
        yield Row(47, "a path that is none", door, Raw(head), (400, 404), effect=no_line_of_theirs)
    call = Call(record, metadata=(("x", "forged"),), method=f"/{CANARY}%0d%0aforged/x")
    yield Row(47, "lines of a log in a method", "grpc", call, "UNIMPLEMENTED", effect=no_line_of_theirs)
    named = Events.one(name=LABEL)
    for form in FORMS:
        label = Events.one(("plan", LABEL), name=SIGNUP, user=f"label {form}")
        yield from by([form], 48, "a label of several lines", label, effect=the_label_is_one)
    yield from by(FORMS, 48, "a name of several lines", named, effect=no_metric_of_theirs)


# 51: questions that are large.


def _cursor(opened: int, place: int) -> str:
    return base64.urlsafe_b64encode(struct.pack(">qq", opened, place)).decode().rstrip("=")


def _large() -> Iterator[Row]:
    for name, path, answer in (
        ("a limit of 10^9", "/api/v1/stuck?limit=1000000000", 400),
        ("a limit of 4,000 digits", "/api/v1/stuck?limit=" + "9" * 4000, 400),
        ("a limit below 0", "/api/v1/stuck?limit=-1", 400),
        ("a limit of 10^9 names", "/api/v1/events/names?limit=1000000000", 400),
        ("all names", "/api/v1/events/names?limit=10000", 200),
        ("the last page", f"/api/v1/stuck?limit=1000&cursor={_cursor(2**63 - 1, 2**63 - 1)}", 200),
        ("before the first page", f"/api/v1/stuck?limit=1000&cursor={_cursor(-(2**63), -(2**63))}", 200),
        ("everybody", "/api/v1/stuck?limit=1000&over=0s", 200),
        ("who waits for 40,000 days", "/api/v1/stuck?over=40000d", 200),
        ("who waits for ever", "/api/v1/stuck?over=99999999999999999999d", 400),
        ("ten thousand years", "/api/v1/ttf?from=0001-01-01&to=9999-12-31", 200),
        ("ten years", "/api/v1/ttf?from=2016-01-01&to=2026-01-01", 200),
        ("the year 10000", "/api/v1/ttf?to=10000-01-01", 400),
        ("the end before the beginning", "/api/v1/ttf?from=9999-12-31&to=0001-01-01", 400),
        ("a grouping", "/api/v1/ttf?group_by=user_id", 400),
        ("a segment's value of 30 kB", "/api/v1/ttf?segment.plan=" + "x" * 30_000, 200),
        ("a user id of 30 kB", "/api/v1/ttf/" + "x" * 30_000, 400),
        ("a thousand parameters", "/api/v1/ttf?" + "&".join(f"segment.x{n}=x" for n in range(1000)), 400),
    ):
        yield get(51, name, path, answer, seconds=1.0)


MEANING: list[Row] = [
    *_slow(),
    *_forged(),
    *_again(),
    *_injections(),
    *_forgeries(),
    *_very_many(),
    *_large(),  # on a store that is no longer small
]
