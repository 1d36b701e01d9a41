"""E-mail addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from string import ascii_lowercase, digits
from typing import ClassVar

from otel_ttf.pii.detect.around import listed
from otel_ttf.pii.detect.base import Detector, Span
from otel_ttf.pii.detect.value import any_of

_LOCAL = frozenset(".%+-_'\ufffd")  # U+FFFD: a letter that was no UTF-8
# Labels, then a name that ends them: letters, or punycode.
_DOMAIN = re.compile(
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,12}(xn--[a-zA-Z0-9-]{2,59}|[^\W\d_]{2,24})(?![^\W_])"
)
_WITHIN = re.compile(
    r"(?=[A-Za-z])(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,12}?(com|org|net|edu|gov|info|biz|io)(?![a-z-])",
    re.IGNORECASE | re.ASCII,
)
# img@2x.png, left-pad@1.3.0-beta.rc
_NO_DOMAIN = re.compile(r"\d+(?:\.\d+)?x\.|v?\d+\.\d")
# As in fooBar: a member of something, in source code.
_CAMEL = re.compile(r"[a-z][A-Z]")
# No names of domains, but of files, units of systemd and networks that no mail comes to.
_NO_TOP = frozenset(
    listed("""
    png jpg jpeg gif svg webp ico avif bmp css scss less map woff ttf eot mp3 mp4 webm wav pdf js mjs cjs jsx ts
    tsx json jsonl xml yaml yml toml ini cfg conf csv tsv txt log lock html htm php java class jar exe dll so
    dylib gz tgz tar bz2 xz deb rpm apk whl service socket timer mount slice scope target path device swap
    internal localhost localdomain svc arpa invalid
    """)
)
_INSIDE = ".cluster.local"
# Whom version control logs in as: no person.
_ROBOTS = frozenset(["git", "hg", "svn"])
# user@host that a shell connects to: the scheme or the command before it, the path after it.
_REACH = 32
_CONNECT = ("://", "ssh", "scp", "sftp", "rsync")
_REMOTE = re.compile(
    r"(?:(?<![\w.@+-])(?:git|ssh|svn|hg|sftp|scp|rsync|bzr)(?:\+[a-z]+)?://"
    r"|(?<![^\W_])(?:ssh|scp|sftp|rsync)(?:[ ]-[A-Za-z]{1,2}(?:[ ]\d{1,5})?)*[ ])$"
)
_PATH = re.compile(r":(?:[~/](?!/)|[\w.-]{1,64}/[\w.-]{0,64}|[\w.-]{1,64}\.git)")
_ESCAPE = re.compile(r"u00[0-9a-fA-F]{2}|[bfnrt]")
_PERCENT = re.compile(r"(?:%[2-7][0-9A-F])+")


class Email(Detector):
    """Local part and domain, in any script; not what else has an `@` in it."""

    name: ClassVar[str] = "email"
    secret: ClassVar[bool] = False
    label: ClassVar[str] = "EMAIL"
    # One for each character behind the sign: with two letters to look for, they cost a tenth of what one for all costs.
    supersets: ClassVar[tuple[str, ...]] = tuple(
        rf"[A-Za-z0-9_.%+'\-\x80-\xff]@{first}[A-Za-z0-9_.\-\x80-\xff]*\.[A-Za-z\x80-\xff]{{2}}"
        for first in (*ascii_lowercase, *digits, *(rf"\x{byte:02x}" for byte in range(0x80, 0x100)))
    )

    def find(self, text: str) -> Iterator[Span]:
        floor = 0
        at = text.find("@")
        while at >= 0:
            domain = _DOMAIN.match(text, at + 1)
            if domain is not None and not _is_domain(domain):
                # jane@example.com2024.csv: the name of a file, an address in it
                domain = _WITHIN.match(text, at + 1)
            if domain is not None:
                start = _local_from(text, floor, at)
                if start < at and not _is_remote(text, start, at, domain.end()):
                    yield start, domain.end()
                    floor = domain.end()
            at = text.find("@", max(at + 1, floor))

    def canonical(self, found: str) -> str:
        return found.casefold()


def _is_domain(match: re.Match[str]) -> bool:
    top = match[1]
    if top.lower() in _NO_TOP or _CAMEL.search(top) or _NO_DOMAIN.match(match[0]):
        return False
    return not match[0].lower().endswith(_INSIDE)


def _local_from(text: str, floor: int, at: int) -> int:
    """Where the local part begins that ends before `at`; `at`: there is none."""
    start = at
    while start > floor and (text[start - 1].isalnum() or text[start - 1] in _LOCAL):
        start -= 1
    if start > floor and text[start - 1] == "\\":
        escape = _ESCAPE.match(text, start, at)
        start = escape.end() if escape is not None else start
    percent = _PERCENT.match(text, start, at)
    if percent is not None:
        start = percent.end()
    # %s@example.com is what an address is made from.
    elif text[start] == "%" and at - start == 2:
        return at
    while start < at and not text[start].isalnum() and text[start] != "_":
        start += 1
    return start


def _is_remote(text: str, start: int, at: int, end: int) -> bool:
    """Whether it is where a shell or version control logs in."""
    return (
        text[start:at].lower() in _ROBOTS
        or _PATH.match(text, end) is not None
        or (
            start > 0
            and text[start - 1] in "/ "
            and text[end : end + 1] != "@"
            # Where nothing is found, an expression that ends here was tried from each place before it.
            and any_of(text[max(0, start - _REACH) : start], _CONNECT)
            and _REMOTE.search(text, max(0, start - _REACH), start) is not None
        )
    )
