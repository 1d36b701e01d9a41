"""Secrets that are planted: of every kind that is looked for, in every spelling, each of them once."""

from __future__ import annotations

import base64
import html
import json
import random
import string
import struct
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from urllib.parse import quote

ALNUM = string.ascii_letters + string.digits
# How they begin, so that no text of ours holds one by chance.
MARK = "zq"


def word(rng: random.Random, size: int = 12, letters: str = string.ascii_lowercase) -> str:
    return MARK + "".join(rng.choices(letters, k=size))


def _digits(rng: random.Random, size: int) -> str:
    return "".join(rng.choices("123456789", k=size))


def card(digits: str) -> str:
    """A card number with its check digit (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 - place % 2)
        total += doubled - 9 if doubled > 9 else doubled
    return digits + str(-total % 10)


def iban(account: str) -> str:
    """A German IBAN with its check digits (ISO 7064, MOD 97-10)."""
    return f"DE{98 - int(account + '131400') % 97:02}{account}"


def _private_key(rng: random.Random) -> tuple[str, str]:
    body = word(rng, 62, ALNUM)
    return f"-----BEGIN PRIVATE KEY-----\nMIIE{body}\n-----END PRIVATE KEY-----", body


def _url(rng: random.Random) -> tuple[str, str]:
    password = word(rng, 14, ALNUM)
    return f"postgres://app:{password}@db.example.com/shop", password


def _jwt(rng: random.Random) -> tuple[str, str]:
    payload = base64.urlsafe_b64encode(json.dumps({"sub": word(rng)}).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{payload}.c2lnbmF0dXJl", payload


def _alone(
    make: Callable[[random.Random], str], before: str = ""
) -> Callable[[random.Random], tuple[str, str]]:
    def made(rng: random.Random) -> tuple[str, str]:
        secret = make(rng)
        return before + secret, secret

    return made


def _email(rng: random.Random) -> tuple[str, str]:
    who = word(rng)
    return f"{who}@example.com", who


def _user_path(rng: random.Random) -> tuple[str, str]:
    who = word(rng)
    return f"File /home/{who}/app/main.py", who


# Detector -> (text, what must not be left of it), anew for each generator. Every detector that looks by default.
MAKERS: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "private_key": _private_key,
    "url": _url,
    "aws": _alone(lambda rng: "AKIA" + "".join(rng.choices(string.ascii_uppercase + "234567", k=16))),
    "token": _alone(lambda rng: "ghp_" + "".join(rng.choices(ALNUM, k=36))),
    "jwt": _jwt,
    "bearer": _alone(lambda rng: word(rng, 22, ALNUM), "Authorization: Bearer "),
    "pair": _alone(lambda rng: word(rng, 12, ALNUM), "password="),
    "email": _email,
    "iban": _alone(lambda rng: iban(_digits(rng, 18))),
    "card": _alone(lambda rng: card("4539" + _digits(rng, 11))),
    "us_ssn": _alone(lambda rng: f"{rng.randrange(100, 600)}-{_digits(rng, 2)}-{_digits(rng, 4)}", "ssn "),
    "ip": _alone(
        lambda rng: f"81.{rng.randrange(100, 250)}.{rng.randrange(100, 250)}.{rng.randrange(100, 250)}"
    ),
    "phone": _alone(lambda rng: "+49151" + _digits(rng, 8), "call "),
    "user_path": _user_path,
}


def _wide(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if c in "@." or c.isdecimal() else c for c in text)


def _with_nothing(text: str) -> str:
    return "\u200b".join(text)


def _as_it_is(text: str) -> str:
    return text


def _in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _escaped(text: str) -> str:
    return "".join(f"\\u{ord(c):04x}" for c in text)


def _percent(text: str) -> str:
    return quote(text, safe="")


def _entities(text: str) -> str:
    return "".join(c if c.isalpha() or c == " " else f"&#{ord(c)};" for c in text)


# Spelling -> how a text, and each part of it, is written; what stands around it.
SPELLINGS: dict[str, tuple[Callable[[str], str], str]] = {
    "as it is": (_as_it_is, "%s"),
    "percent-encoded": (_percent, "%s"),
    "in HTML": (_entities, "%s"),
    "full-width": (_wide, "%s"),
    "zero-width": (_with_nothing, "%s"),
    "JSON": (_in_json, '{"note": "%s", "deep": [{"er": 1}]}'),
    "JSON escapes": (_escaped, '{"note": "%s"}'),
    "JSON in JSON": (lambda text: _in_json(_in_json(text)), '{"note": "[\\"%s\\"]"}'),
    "key=value": (_as_it_is, 'ok=true note="%s" more=1'),
    "query": (_percent, "https://example.com/x?plan=pro&note=%s#top"),
}


def told(secret: str) -> Iterator[bytes]:
    """All bytes that give a secret away."""
    for text in {secret, _in_json(secret), _percent(secret), html.escape(secret)}:
        yield text.encode()
    yield secret.encode().hex().encode()
    # Whatever precedes it, some of its base64 is the same.
    for shift in range(3):
        coded = base64.b64encode(bytes(shift) + secret.encode())
        if len(part := coded[4 * (shift > 0) : -4]) >= 8:
            yield part


class Planted:
    """What was planted where, and where it was found."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = random.Random(seed)
        self._places: dict[bytes, str] = {}
        self._search: Callable[[bytes], Iterable[bytes]] | None = None
        self.count = 0

    def secret(self, secret: str, place: str, spelling: str = "as it is") -> None:
        """It was planted there, and must be nowhere."""
        self._search = None
        self.count += 1
        for text in {secret, SPELLINGS[spelling][0](secret)}:
            self._places.update(dict.fromkeys(told(text), place))

    def of(self, detector: str, place: str, spelling: str = "as it is") -> str:
        """A text with a new secret of a kind, in that spelling."""
        text, secret = MAKERS[detector](self._rng)
        self.secret(secret, f"{place}: {detector}, {spelling}", spelling)
        write, around = SPELLINGS[spelling]
        return around % write(text)

    def word(self, place: str) -> str:
        """A new word that nothing is known of: only its key, or whose it is, gives it away."""
        secret = word(self._rng, 16)
        self.secret(secret, place)
        return secret

    def degrees(self, place: str) -> float:
        """A new coordinate, as exact as nobody may know it."""
        degrees = round(self._rng.uniform(10, 80), 9)
        self.secret(str(degrees), place)
        self._places[struct.pack("<d", degrees)] = place
        return degrees

    def found_in(self, pieces: Iterable[tuple[str, bytes]]) -> dict[str, set[str]]:
        """Piece -> where what is in there had been planted."""
        if self._search is None:
            self._search = _search(list(self._places))
        found: dict[str, set[str]] = {}
        for name, data in pieces:
            for secret in self._search(data):
                found.setdefault(name, set()).add(f"{self._places[secret]} ({secret!r})")
        return found


def _search(texts: list[bytes]) -> Callable[[bytes], Iterable[bytes]]:
    """Which of many texts are in some bytes: in one pass where Hyperscan is installed."""
    try:
        hyperscan = import_module("hyperscan")
    except ImportError:
        return lambda data: [text for text in texts if text in data]
    # Its literals end at the first NUL.
    whole = [text for text in texts if b"\0" not in text]
    others = [text for text in texts if b"\0" in text]
    database = hyperscan.Database()
    flags = [hyperscan.HS_FLAG_SINGLEMATCH] * len(whole)
    database.compile(
        expressions=whole, ids=list(range(len(whole))), elements=len(whole), flags=flags, literal=True
    )

    def search(data: bytes) -> Iterable[bytes]:
        found = [text for text in others if text in data]
        database.scan(data, lambda number, *_: found.append(whole[number]))
        return found

    return search
