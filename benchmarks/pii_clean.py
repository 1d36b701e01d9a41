"""What telemetry is full of and nobody's: values that detectors must leave alone, made from a seed."""

from __future__ import annotations

import base64
import random
import string
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

_HEX = "0123456789abcdef"
_WORDS = (
    "cart",
    "checkout",
    "payment",
    "user",
    "session",
    "api",
    "gateway",
    "worker",
    "cache",
    "queue",
    "index",
    "search",
    "auth",
    "order",
    "billing",
    "mail",
)
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def _hex(r: random.Random, size: int) -> str:
    return "".join(r.choices(_HEX, k=size))


def _digits(r: random.Random, size: int) -> str:
    return r.choice("123456789") + "".join(r.choices(string.digits, k=size - 1))


def _word(r: random.Random) -> str:
    return r.choice(_WORDS)


def _when(r: random.Random) -> datetime:
    return datetime.fromtimestamp(r.uniform(1_500_000_000, 1_950_000_000), UTC)


def _version(r: random.Random, parts: int) -> str:
    return ".".join(str(r.randint(0, 40)) for _ in range(parts))


def _uuid(r: random.Random) -> str:
    return str(uuid.UUID(int=r.getrandbits(128), version=r.choice((1, 4, 5))))


def _private(r: random.Random) -> str:
    tail = ".".join(str(r.randint(0, 255)) for _ in range(2))
    return r.choice(
        (f"10.{r.randint(0, 255)}.{tail}", f"192.168.{tail}", f"172.{r.randint(16, 31)}.{tail}", "127.0.0.1")
    )


def _agent(r: random.Random) -> str:
    major = r.randint(60, 160)
    return r.choice(
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
            f"Chrome/{major}.0.0.0 Safari/537.36",
            f"Mozilla/5.0 (X11; Linux x86_64; rv:{major}.0) Gecko/20100101 Firefox/{major}.0",
            f"Mozilla/5.0 (Linux; Android 14) Chrome/{major}.0.{r.randint(1000, 7000)}.{r.randint(10, 250)} "
            f"Mobile Edg/{major}.0.{r.randint(10, 250)}.{r.randint(10, 250)}",
            f"okhttp/{_version(r, 3)}",
            f"python-requests/{_version(r, 3)} curl/{_version(r, 3)}",
        )
    )


def _product(r: random.Random) -> str:
    name = r.choice(
        ("Chrome", "Firefox", "postgres", "numpy", "nginx", "kernel", "firmware", "driver", "agent", "sdk")
    )
    octets = ".".join(str(r.randint(0, 255)) for _ in range(4))
    return r.choice(
        (
            f"{name} {octets}",
            f"{name}-{octets}",
            f"{name}/{octets}",
            f"version {octets}",
            f"v{octets}",
            f"{octets}-rc1",
        )
    )


def _identified(r: random.Random) -> str:
    """A random number with the word before it that says what it is of."""
    word = r.choice(
        (
            "order",
            "invoice",
            "tracking number",
            "request id",
            "trace id",
            "session",
            "order #",
            "ticket no.",
            "build",
            "batch",
        )
    )
    return f"{word}{r.choice((' ', ': ', '='))}{_digits(r, r.choice((8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19)))}"


def _dump(r: random.Random) -> str:
    groups = [_hex(r, 4) for _ in range(8)]
    return f"{r.randrange(0, 1 << 20, 16):08x}: {' '.join(groups)}  ................"


def _code(r: random.Random) -> str:
    a, b = (
        r.choice(("std", "abc", "face", "dead", "Ada", "tokio")),
        r.choice(("vector", "beef", "cafe", "decade", "sync")),
    )
    return r.choice(
        (
            f"{a}::{b}",
            f"{a}::{b}::{_hex(r, 3)}",
            f"{a}->{b}({r.randint(0, 99)})",
            f"@{a}.{b}",
            f"$this->{b}[{a}]",
        )
    )


def _stack(r: random.Random) -> str:
    return r.choice(
        (
            f"java.base@{_version(r, 3)}/java.lang.Thread.run(Thread.java:{r.randint(1, 2000)})",
            f"at Object.<anonymous> (/usr/src/app/dist/{_word(r)}.js:{r.randint(1, 999)}:{r.randint(1, 99)})",
            f'File "/opt/venv/lib/python3.12/site-packages/{_word(r)}/x.py", line {r.randint(1, 900)}, in {_word(r)}',
            f"{_word(r)}@https://app.example.com/static/main.{_hex(r, 8)}.js:{r.randint(1, 99)}:{r.randint(1, 9999)}",
            f"#{r.randint(0, 30)} 0x{_hex(r, 16)} in {_word(r)}::run () from /lib/x86_64-linux-gnu/libc.so.6",
        )
    )


def _package(r: random.Random) -> str:
    return r.choice(
        (
            f"{_word(r)}-{_word(r)}@{_version(r, 3)}",
            f"@{_word(r)}/{_word(r)}@{_version(r, 3)}-beta.{r.randint(1, 9)}",
            f"registry.example.com/{_word(r)}@sha256:{_hex(r, 64)}",
            f"/assets/{_word(r)}@{r.randint(2, 3)}x.png",
            f"git@github.com:{_word(r)}/{_word(r)}.git",
            f"ssh://git@git.example.com:7999/{_word(r)}/{_word(r)}.git",
            "EMAIL_RE = /^[a-z0-9._%+-]+@[a-z0-9.-]+\\.[a-z]{2,}$/",
            f"{_version(r, 3)}+{r.choice(('build', 'sha', 'exp'))}.{_hex(r, 7)}",
            f"{_version(r, 3)}+{_digits(r, 14)}",
        )
    )


def _cluster(r: random.Random) -> str:
    pod = f"{_word(r)}-{_word(r)}-{_hex(r, 10)}-{''.join(r.choices('bcdfghjklmnpqrstvwxz2456789', k=5))}"
    return r.choice(
        (
            pod,
            f"{_word(r)}.{_word(r)}.svc.cluster.local:{r.randint(1024, 65535)}",
            f"ip-10-{r.randint(0, 255)}-{r.randint(0, 255)}-{r.randint(0, 255)}.ec2.internal",
            f"arn:aws:iam::{_digits(r, 12)}:role/{_word(r)}",
            f"arn:aws:sqs:eu-west-1:{_digits(r, 12)}:{_word(r)}",
            f"i-0{_hex(r, 16)}",
            f"projects/{_word(r)}-{_digits(r, 6)}/locations/europe-west1",
        )
    )


def _network(r: random.Random) -> str:
    return r.choice(
        (
            f"{_private(r)}:{r.randint(1, 65535)}",
            f"{r.randint(11, 200)}.{r.randint(0, 255)}.{r.randint(0, 255)}.0/24",
            "0.0.0.0/0",
            f"255.255.{r.choice((0, 128, 255))}.0",
            "fe80::1%eth0",
            f"fd00:{_hex(r, 4)}::/48",
            "[::1]:8080",
            f"oid 1.3.6.1.4.1.{r.randint(1, 60000)}.{r.randint(1, 99)}",
            f"2.5.29.{r.randint(1, 60)}",
        )
    )


def _time(r: random.Random) -> str:
    when = _when(r)
    return when.strftime(
        r.choice(
            (
                "%Y-%m-%dT%H:%M:%S.%fZ",
                "%Y-%m-%d %H:%M:%S,%f",
                "%d/%b/%Y:%H:%M:%S +0200",
                "%a, %d %b %Y %H:%M:%S GMT",
                "%Y%m%dT%H%M%SZ",
                "%Y%m%d%H%M%S",
                "%Y-%m-%d",
                "%Y%m%d-%f",
                "%H:%M:%S",
                "%Y-%m-%dT%H:%M:%S+05:30",
            )
        )
    )


def _epoch(r: random.Random) -> str:
    nanoseconds = r.randint(1_500_000_000, 1_950_000_000) * 10**9 + r.randrange(10**9)
    return str(nanoseconds // r.choice((1, 10**3, 10**6, 10**9)))


def _list(r: random.Random) -> str:
    gap = r.choice((" ", ", ", ",", "/"))
    return gap.join(str(r.randint(0, 10 ** r.randint(1, 7))) for _ in range(r.randint(5, 12)))


# Kind -> what makes a value of it.
KINDS: Mapping[str, Callable[[random.Random], str]] = {
    "uuid": _uuid,
    "trace id": lambda r: _hex(r, 32),
    "span id": lambda r: _hex(r, 16),
    "git hash": lambda r: _hex(r, r.choice((7, 12, 40))),
    "sha256": lambda r: r.choice(("", "sha256:")) + _hex(r, 64),
    "upper hex": lambda r: _hex(r, r.choice((16, 24, 32))).upper(),
    "hex with colons": lambda r: ":".join(_hex(r, 2) for _ in range(r.choice((8, 16, 20)))),
    "hex dump": _dump,
    "epoch": _epoch,
    "time": _time,
    "version": lambda r: r.choice(("", "v")) + _version(r, r.choice((2, 3, 4))),
    "product": _product,
    "user agent": _agent,
    "package": _package,
    "number of a thing": _identified,
    "path with ids": lambda r: (
        f"/api/v{r.randint(1, 3)}/{_word(r)}s/{_digits(r, r.randint(1, 11))}/{_word(r)}"
    ),
    "integer": lambda r: str(r.randrange(10 ** r.randint(1, 10))),
    "decimal": lambda r: f"{r.uniform(-180, 180):.{r.randint(1, 15)}f}",
    "coordinates": lambda r: f"{r.uniform(-90, 90):.6f},{r.uniform(-180, 180):.6f}",
    "price": lambda r: (
        f"{r.choice(('EUR', 'USD', '$'))} {r.randint(1, 999)},{r.randint(0, 999):03}.{r.randint(0, 99):02}"
    ),
    "numbers": _list,
    "base64": lambda r: base64.b64encode(r.randbytes(r.randint(12, 60))).decode(),
    "ulid": lambda r: "01" + "".join(r.choices("0123456789ABCDEFGHJKMNPQRSTVWXYZ", k=24)),
    "code": _code,
    "stack": _stack,
    "cluster": _cluster,
    "network": _network,
    "order name": lambda r: (
        f"{r.choice(('ORD', 'INV', 'PO', 'TKT', 'RMA'))}-{_digits(r, r.choice((6, 8, 10, 12, 16)))}"
    ),
    "request": lambda r: (
        f"{r.choice(_METHODS)} /home/{_word(r)}?page={r.randint(1, 99)} HTTP/1.1 {r.choice((200, 404, 500))}"
    ),
    "convention": lambda r: r.choice(
        (
            "http.response.status_code",
            "GET",
            "https",
            "TLSv1.3",
            "en-US,en;q=0.9",
            "application/json; charset=utf-8",
            "1.1",
        )
    ),
    "sentence": lambda r: (
        f"{_word(r)} {_word(r)} took {r.randint(1, 99999)} ms, {r.randint(1, 99)}% of {r.randint(1, 999)} calls"
    ),
}


def clean_value(r: random.Random) -> tuple[str, str]:
    """(kind, value)"""
    kind = r.choice(list(KINDS))
    return kind, KINDS[kind](r)
