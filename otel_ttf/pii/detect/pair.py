"""Secrets in text by the name in front of them: key=value, key: value, "key": "value", headers, flags, XML, SQL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from otel_ttf.pii.detect.base import Detector, Span
from otel_ttf.pii.detect.value import (
    SCHEMES,
    any_of,
    is_masked,
    is_prose,
    is_random,
    is_vacant,
    masked_at,
    without_list,
)
from otel_ttf.pii.detect.vendor import is_varied
from otel_ttf.pii.keyrules import SECRET_EXPRESSIONS, secret

# Of a longer key, so many characters at its end are looked at.
LONGEST_KEY = 64
LONGEST_VALUE = 8192
# A key begins where a run of its characters begins: a long run is looked at once.
_KEY = r"(?<![A-Za-z0-9_.\-À-ÖØ-öø-ÿ])([A-Za-z0-9_.\-À-ÖØ-öø-ÿ]++)"
_QUOTE = r"(\\{0,4}[\"'`])"
_PAIR = re.compile(
    rf"{_KEY}\]?(?:{_QUOTE})?\]?[ \t]{{0,8}}(=>|:=|=|:)(?!=)[ \t]{{0,8}}(?=[^\s=&,;])(?:Some\()?(?:{_QUOTE})?"
    rf"|(?<![A-Za-z0-9_.\-])--([A-Za-z0-9_.\-]++)[ \t]{{1,4}}(?=[^\s\-|&;<>])(?:{_QUOTE})?"
)
_TAG = re.compile(
    r"<(?:[A-Za-z0-9_]{1,32}:)?([A-Za-z][A-Za-z0-9_.\-]{0,63})(?:\s[^<>]{0,200})?>\s{0,8}"
    rf"([^<>\s][^<>]{{0,{LONGEST_VALUE}}}+)<"
)
_SQL = re.compile(
    r"\b(?:password|passwd|identified by)[ \t]{1,4}(?:'((?:[^'\r\n]|''){1,256}+)'|\"([^\"\r\n]{1,256}+)\")",
    re.IGNORECASE | re.ASCII,
)
# One of these is in what the next expression finds.
_NAMES = ("token", "key", "secret", "passw", "requirepass", "bearer")
# A secret that a sentence names: `API key is X`, `login jane password X`. Letters of both cases and digits make it one.
_NAMED = re.compile(
    r"(?<![A-Za-z0-9])(?:token|(?:api|access|secret|private|signing)[ _-]?key|secret|password|passwd"
    r"|requirepass|bearer)(?: is| was| provided| used)?:?[ ][\"'`]?"
    r"(?=[^0-9\s]{0,256}[0-9])"
    r"([A-Za-z0-9_+/=\-]{16,256})(?=$|[\s\"'`,;)\]}<>|\\]|[.!?:](?:\s|$))",
    re.IGNORECASE | re.ASCII,
)
# What commands take as a password.
_COMMAND = re.compile(
    r"\b(?:sshpass[ \t]{1,4}-p|(?:docker|podman)[ \t]login(?:[ \t]{1,4}[^\s|;]{1,64}){0,4}?[ \t]{1,4}-p[ \t]"
    r"|redis-cli(?:[ \t]{1,4}[^\s|;]{1,64}){0,4}?[ \t]{1,4}-a[ \t]"
    r"|mysql(?:dump|admin)?[ \t]{1,4}(?:-[^\s|;]{1,64}[ \t]{1,4}(?:[^\s|;-][^\s|;]{0,64}[ \t]{1,4})?){0,4}?-p(?=[^\s]))"
    r"[ \t]{0,4}[\"']?([^\s\"'|;]{1,128})",
    re.ASCII,
)
# Up to white space, a quote, or a mark behind which another pair, white space or nothing comes.
_VALUE = re.compile(
    r"(?:[^\s\"'`<>,;&)\]}\\]++|\\(?![nrt\"'`])"
    r"|[,;&)\]}](?![\s,;:&)\]}\"'`\\]|$|[A-Za-z_][A-Za-z0-9_.\-]{0,40}(?:\\?[\"'])?[:=]))++"
)
_CLOSED = {'"': re.compile(r'(?:[^"\\\r\n]|\\.){0,8192}+'), "'": re.compile(r"(?:[^'\\\r\n]|\\.){0,8192}+")}
_LINE = re.compile(r"(?:[^\r\n\\]|\\(?![rn])){0,8192}+")
_NEXT_WORD = re.compile(
    r"[ \t]{1,4}\(?[A-Za-z][A-Za-z'-]*+(?![A-Za-z0-9_\-]|\.[A-Za-z0-9]|[ \t]{0,4}[:=]|[\"']\s*:)"
)
_WORDS_BEFORE = re.compile(r"(?:[A-Za-z]{1,24} ){1,2}$")
_LOOK_BACK = 50
# Behind a secret name, these speak of it still: `secret key`, `password is`.
_GOES_ON = ("is", "number", "key", "token", "code")
_STRUCTURE = re.compile(r"https?://|[{\[](?:\s|\\{0,4}[\"']|[{\[]|$)|\(|$")
_CALL = re.compile(r"[A-Za-z_][\w.]{0,60}(?:\(|\[[\"'])")
_TYPES = frozenset(
    [
        "any",
        "array",
        "bool",
        "boolean",
        "bytes",
        "char",
        "int",
        "integer",
        "null",
        "number",
        "object",
        "optional",
        "str",
        "string",
        "text",
        "uuid",
        "varchar",
    ]
)
_CODE = ("self.", "this.", "Optional[", "typing.", "os.", "process.env", "list[", "dict[")

# arn:aws:secretsmanager:eu-west-1:123456789012:secret:name
_RESOURCE = re.compile(r"arn:[A-Za-z0-9:/_.\-]{0,100}:$")
_LONGEST_RESOURCE = 105
# signing key: kid=7
_OWN_NAME = re.compile(r"[a-z][a-z_]{1,15}=[^=]")

# `Authorization`: the scheme stays. Behind those of the second list, parameters follow up to the end of the line.
_SCHEME = re.compile(r"\[?([A-Za-z][A-Za-z0-9-]{1,24})[ \t]{1,4}(?=[^\s])")
_LISTS = frozenset(["digest", "aws4-hmac-sha256", "hawk", "oauth"])

# `Cookie` and `Set-Cookie`: names and attributes stay.
_COOKIE = re.compile(
    r"([^\s=;,\"'\\]{1,128})=([^;\s\"'\\]{1,4096})(?:;[ \t]{0,4}|$|(?=[\s\"'\\]))|[A-Za-z]{2,16}(?:;[ \t]{0,4}|$)"
)
_ATTRIBUTES = frozenset(
    ["path", "domain", "expires", "max-age", "samesite", "version", "comment", "priority"]
)

# Names of many things: secret only before what looks made by chance.
_MAYBE = re.compile(
    r"(?:^|[^A-Za-z]|(?<=[a-z])(?=[A-Z]))(?i:token|pass|passcode|(?<![0-9])pw"
    r"|(?:account|shared[_.\- ]?access|signing|encryption|auth|subscription|app|master|storage|license)[_.\- ]?key)$"
)
# DB_PASS, smtp.pass
_PASS = re.compile(
    r"(?:^|[^a-z])(?:db|database|sql|mysql|pg|postgres|mongo|redis|rabbitmq|amqp|mqtt|ldap|smtp|imap|mail|ftp|sftp|ssh"
    r"|proxy|http|user|admin|root|login|auth)[_.\-]?pass$",
    re.IGNORECASE | re.ASCII,
)
_PAGING = re.compile(
    r"(?i:page|next|continuation|continue|sync|cursor|start|skip|prev|previous|unexpected|public[_.\- ]?key)"
    r"[_.\- ]?(?i:token)$"
)
_MAYBE_VALUE = re.compile(r"[A-Za-z0-9_~+/=%.\-!@#$*^]{8,512}+")
_MIXED = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_~+/=%.\-!@#$*^]{8,}")

# Names of secrets are scanned for as in keys, so they cost nothing here.
_SUPERSETS = (
    *SECRET_EXPRESSIONS,
    r"(?:token|pass|passcode|pw|key)[\]\x22'`\\ \t]{0,16}[:=]",
    r"--[A-Za-z]",
    r"identified by[ \t]",
    r"(?:token|key|secret|passw(?:or)?d|requirepass|bearer)(?: is| was| provided| used)?:?[ ]"
    r"[\x22'`]?[A-Za-z0-9_+/=\-]{16}",
    r"sshpass[ \t]{1,4}-p",
    r"(?:docker|podman)[ \t]login",
    r"redis-cli[ \t]",
    r"mysql(?:dump|admin)?[ \t]{1,4}-",
)


_PLACEHOLDERS = frozenset(["TOKEN", "PRIVATE_KEY", "REDACTED", "CARD", "SSN", "IBAN", "EMAIL"])


class Pair(Detector):
    """Values of secret names; what says that there is none, and sentences, are left alone."""

    name: ClassVar[str] = "pair"
    secret: ClassVar[bool] = True
    label: ClassVar[str] = "REDACTED"
    supersets: ClassVar[tuple[str, ...]] = _SUPERSETS

    def find(self, text: str) -> Iterator[Span]:
        found = list(self._pairs(text))
        if "</" in text:
            for tag in _TAG.finditer(text):
                if secret(tag[1]) and not is_vacant(tag[2].strip()):
                    found.append((tag.start(2), tag.start(2) + len(tag[2].rstrip())))
        if "'" in text or '"' in text:
            for match in _SQL.finditer(text):
                span = match.span(match.lastindex or 0)
                if not is_vacant(text[span[0] : span[1]]):
                    found.append(span)
        found += _told(text)
        end = 0
        # Of two that begin in one place, the longer.
        for span in sorted(found, key=lambda span: (span[0], -span[1])):
            if span[0] >= end:
                yield span
                end = span[1]

    def _pairs(self, text: str) -> Iterator[Span]:
        floor = 0
        for match in _PAIR.finditer(text):
            if match.start() < floor:
                continue
            is_flag = match[1] is None
            key = (match[5] if is_flag else match[1])[-LONGEST_KEY:]
            key = key.removeprefix("-D")
            sign = " " if is_flag else match[3]
            quote = match[6] if is_flag else match[4]
            if key in _PLACEHOLDERS and text[match.start(1) - 1 : match.end(1) + 1] == f"[{key}]":
                continue  # something was masked there; the label is no name
            kind = self._kind(text, key, match.start(1))
            if kind is None:
                continue
            # What parts the pair from what stands before it, parts it from what follows.
            apart = text[match.start() - 1 : match.start()] if match.start() else ""
            for span in _values(text, match.end(), quote, key, sign, kind, apart if apart in ",;|" else ""):
                yield span
                floor = span[1]

    def _kind(self, text: str, key: str, start: int) -> str | None:
        """How the value is to be read: `cookie`, `authorization`, `secret`, `maybe`; None: not at all."""
        if (
            start
            and text[start - 1] == ":"
            and _RESOURCE.search(text, max(0, start - _LONGEST_RESOURCE), start)
        ):
            return None
        if secret(key):
            last = key.lower()
            if last.endswith(("cookie", "cookies")):
                return "cookie"
            return "authorization" if last.endswith("authorization") else "secret"
        if start > 1 and text[start - 1] == " ":
            before = _WORDS_BEFORE.search(text, max(0, start - _LOOK_BACK), start)
            if before is not None:
                words = before[0].split()
                # "api key: x" and "password is: x", but not "cookie consent: given"
                if any(
                    secret(" ".join([*words[first:], key]))
                    and (key.lower() in _GOES_ON or not secret(" ".join(words[first:])))
                    for first in range(len(words))
                ):
                    return "secret"
                if _PAGING.search(f"{words[-1]} {key}"):
                    return None
        if _PASS.search(key):
            return "secret"
        return "maybe" if _MAYBE.search(key) and not _PAGING.search(key) else None


def _told(text: str) -> Iterator[Span]:
    """Secrets that sentences name, and those that commands are given."""
    named = _NAMED.finditer(text) if any_of(text.lower(), _NAMES) else ()
    for match in named:
        if (
            _is_mixed(match[1])
            and is_varied(match[1])
            and not _PAGING.search(text[max(0, match.start() - _LOOK_BACK) : match.start(1)].rstrip(" :\"'`"))
        ):
            yield match.span(1)
    for match in _COMMAND.finditer(text) if "-p" in text or "-a" in text else ():
        if not is_vacant(match[1]):
            yield match.span(1)


def _is_mixed(value: str) -> bool:
    return value != value.lower() and value != value.upper()


def _values(
    text: str, start: int, quote: str | None, key: str, sign: str, kind: str, apart: str
) -> Iterator[Span]:
    if quote is None and kind == "maybe":
        made = _MAYBE_VALUE.match(text, start)
        if made is not None and _looks(made[0], sign) and made[0].lower() != key.lower():
            yield made.span()
        return
    if quote is None and (_STRUCTURE.match(text, start) or (sign != ":" and _CALL.match(text, start))):
        return
    end = _end(text, start, quote, apart)
    if kind == "cookie":
        first = _COOKIE.match(text, start)
        if first is not None and first[1]:
            yield from _cookies(text, start, end if quote else len(text), apart)
            return
        value = text[start:end]
        # A header has a name in it; what else follows a colon tells about cookies, unless it is made by chance.
        if sign == ":" and quote is None and (_NEXT_WORD.match(text, end) or not _looks(value, "=")):
            return
    if kind == "authorization":
        span = _authorization(text, start, end, quote, apart)
        if span is not None:
            yield span
        return
    if (
        end > start
        and _is_value(text, start, end, quote, key, sign)
        and (kind != "maybe" or _looks(text[start:end], sign))
    ):
        yield start, end


def _end(text: str, start: int, quote: str | None, apart: str) -> int:
    """Where a value ends; one whose quote is not closed, at the end of the line.

    apart  a mark that is no part of a value without quotes; may be empty
    """
    if quote is None:
        masked = masked_at(text, start)
        value = _VALUE.match(text, masked or start)
        if value is None:
            return masked or start
        told = without_list(value[0])
        return value.start() + len(told.partition(apart)[0] if apart else told)
    if len(quote) == 1 and quote in _CLOSED:
        closed = _CLOSED[quote].match(text, start)
        return closed.end() if closed is not None else start
    end = text.find(quote, start, start + LONGEST_VALUE)
    if end >= 0:
        return end
    line = _LINE.match(text, start)
    return line.end() if line is not None else start


def _is_value(text: str, start: int, end: int, quote: str | None, key: str, sign: str) -> bool:
    value = text[start:end]
    if is_vacant(value) or is_masked(value):
        return False
    # PWD is where a shell is.
    if key.lower().endswith("pwd") and value.startswith(("/", "~/")):
        return False
    if quote is not None:
        return True
    bare = value.strip(".,;:_").lower()
    name = key.lower().rpartition(".")[2].strip("_")
    # password_field: password
    if sign == ":" and not name.endswith(bare) and bare in re.split(r"[_.\-]", name):
        return False
    if bare in _TYPES or bare == name or bare.endswith("." + name) or value.startswith(_CODE):
        return False
    short = value.isdigit() and len(value) < 5
    if short and key.lower().endswith("s"):
        return False
    if sign in ": ":
        if name in _GOES_ON and _OWN_NAME.match(value):
            return False
        # "password: must be" and "random_password.db: Creating...", but "password: hunter user: jane"
        if short or is_prose(value):
            return not value.endswith(("...", "…")) and _NEXT_WORD.match(text, end) is None
    return True


def _looks(value: str, sign: str) -> bool:
    return is_random(value) or (sign != ":" and _MIXED.fullmatch(value) is not None)


def _authorization(text: str, start: int, end: int, quote: str | None, apart: str) -> Span | None:
    scheme = _SCHEME.match(text, start)
    name = scheme[1].lower() if scheme is not None else ""
    if scheme is None or (quote is not None and scheme.end() >= end):
        return (
            (start, end) if end > start and _is_value(text, start, end, quote, "authorization", ":") else None
        )
    start = scheme.end()
    if name in _LISTS:
        line = _LINE.match(text, start)
        end = end if quote is not None or line is None else line.end()
    elif quote is None:
        end = _end(text, start, None, apart)
    value = text[start:end]
    if end <= start or is_vacant(value):
        return None
    if name not in SCHEMES and name not in _LISTS and is_prose(value):
        return None
    if is_prose(value) and _NEXT_WORD.match(text, end):
        return None
    return start, end


def _cookies(text: str, start: int, end: int, apart: str) -> Iterator[Span]:
    while start < end and (cookie := _COOKIE.match(text, start, end)) is not None:
        if cookie[1] and cookie[1].lower() not in _ATTRIBUTES:
            value = without_list(cookie[2])
            value = value.partition(apart)[0] if apart else value
            if value and not is_vacant(value):
                yield cookie.start(2), cookie.start(2) + len(value)
        if cookie.end() == start or text[cookie.end() - 1] not in "; \t":
            return
        start = cookie.end()
