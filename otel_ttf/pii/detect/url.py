"""What URLs log in with: user-info, secret parameters, and the paths of webhooks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from otel_ttf.pii.detect.base import Detector, Span
from otel_ttf.pii.detect.value import SCHEMES, is_masked, is_random, is_vacant, without_list

_AUTHORITY = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]{0,30})?://([^\s/?#\"'<>\\\x00-\x20]+)")
# A password with a slash or a question mark in it: what follows the colon is no port.
_UNQUOTED = re.compile(
    r"://([^\s/?#@:\[\"'<>\\\x00-\x20]{0,64}:[^\s0-9@\"'<>\\\x00-\x20][^\s@\"'<>\\\x00-\x20]{0,128})@"
)
_DELIMITERS = frozenset("/?#")
# user:password@tcp(host:3306)/db
_DSN = re.compile(r"(?<![^\s\"'=<>(\[])([^\s\"'<>@:/=(]{1,64}:[^\s\"'<>@]{1,128})@(?:tcp|unix)\(")
_PARAMETER = re.compile(r"[?&;#]([A-Za-z0-9_.\-\[\]]{1,48})=([^&#?\s\"'<>\\\x00-\x20]+)")
# How secret parameters end, with marks where two words meet: `session_id`, `user[pass][word]`.
_MARKS = r"[_.\-\[\]]"
_JOINT = _MARKS + "{0,4}"
_ENDS = (
    rf"(?:token|key(?:{_JOINT}id)?|(?:access|sess){_JOINT}id|secret(?:{_JOINT}id)?|sig|signature|hmac|pwd"
    rf"|pass(?:{_JOINT}(?:word|wd|phrase))?|jwt|auth|authorization|credentials?|code|verifier|assertion"
    rf"|session(?:{_JOINT}id)?|sid|otp|saml{_JOINT}(?:response|request)|ticket|pin){_MARKS}{{0,48}}"
)
_ENDS_SO = re.compile(rf"{_ENDS}$", re.IGNORECASE | re.ASCII)

# What a name without -, _ and dots ends with: how long its value has to be to be one.
_SECRET = {
    **dict.fromkeys(("password", "passwd", "pwd", "passphrase", "secret", "secretkey", "otp", "totp"), 1),
    **dict.fromkeys(("authorization", "credential", "credentials", "signature", "hmac", "jwt"), 6),
    **dict.fromkeys(
        ("jsessionid", "phpsessid", "sessionid", "aspsessionid", "samlresponse", "samlrequest"), 6
    ),
    **dict.fromkeys(("codeverifier", "assertion", "awsaccesskeyid", "googleaccessid", "oauthverifier"), 6),
    **dict.fromkeys(
        [
            f"{kind}key"
            for kind in [
                "api",
                "app",
                "access",
                "private",
                "auth",
                "subscription",
                "account",
                "encryption",
                "signing",
                "master",
                "storage",
                "license",
                "sharedaccess",
                "hapi",
                "client",
            ]
        ],
        6,
    ),
    **dict.fromkeys(
        [
            f"{kind}code"
            for kind in [
                "auth",
                "authorization",
                "device",
                "verification",
                "reset",
                "backup",
                "mfa",
                "security",
                "sms",
            ]
        ],
        4,
    ),
}
_LONGEST = max(map(len, _SECRET))
# A token that tells where to go on reading opens nothing.
_PAGING = (
    "page",
    "next",
    "nextpage",
    "continuation",
    "continue",
    "sync",
    "cursor",
    "start",
    "skip",
    "prev",
    "previous",
)
# Names of many things: secret only what looks made by chance.
_MAYBE = frozenset(["key", "code", "auth", "session", "sid", "secretid", "ticket", "pass", "pin", "sig"])


class Url(Detector):
    """User-info, and the values of secret parameters; names and hosts stay."""

    name: ClassVar[str] = "url"
    secret: ClassVar[bool] = True
    label: ClassVar[str] = "REDACTED"
    supersets: ClassVar[tuple[str, ...]] = (
        r"://[^\x00-\x20/?#@\x22<>\\]*@",
        r"://[^\x00-\x20/?#@:\x22<>\\]{0,256}:[^\x00-\x20@0-9\x22<>\\][^\x00-\x20@\x22<>\\]{0,512}@",
        r"@(?:tcp|unix)\(",
        rf"[?&;#][A-Za-z0-9_.\-\[\]]{{0,48}}{_ENDS}=",
    )

    def find(self, text: str) -> Iterator[Span]:
        found: list[Span] = []
        if "@" in text:
            found += _logins(text)
        if "=" in text:
            found += _secrets(text)
        end = 0
        for span in sorted(found):
            if span[0] >= end:
                yield span
                end = span[1]


def _logins(text: str) -> Iterator[Span]:
    for match in _AUTHORITY.finditer(text):
        scheme = (match[1] or "").lower()
        user, at, host = match[2].rpartition("@")
        # git@ of ssh is everybody's.
        if at and user and host and not _is_masked(user) and (":" in user or scheme in ("http", "https")):
            yield match.start(2), match.start(2) + len(user)
    for expression in (_UNQUOTED, _DSN):
        for match in expression.finditer(text):
            if not is_masked(match[1]) and (expression is _DSN or not _DELIMITERS.isdisjoint(match[1])):
                yield match.span(1)


def _secrets(text: str) -> Iterator[Span]:
    for match in _PARAMETER.finditer(text):
        # What ends with a colon or a comma stood in a sentence.
        value = without_list(match[2].rstrip(":,;"))
        if text[match.start()] == ";":
            value = value.partition(";")[0]
        if value and is_secret(match[1], value):
            yield match.start(2), match.start(2) + len(value)


def _is_masked(user: str) -> bool:
    # REDACTED:REDACTED is what the conventions of url.full ask of senders.
    return is_masked(user) or set(user.split(":")) == {"REDACTED"}


def is_secret(name: str, value: str) -> bool:
    """Whether a parameter's value opens something."""
    if _ENDS_SO.search(name) is None or is_vacant(value) or value.lower() in SCHEMES:
        return False
    bare = name.lower().translate(_SEPARATORS)
    if bare in _MAYBE:
        return is_random(value)
    for size in range(min(len(bare), _LONGEST), 1, -1):
        least = _SECRET.get(bare[-size:])
        if least is not None:
            return len(value) >= least
    return bare.endswith("token") and not bare[:-5].endswith(_PAGING) and len(value) >= 6


_SEPARATORS = dict.fromkeys(map(ord, "-_.[]"))
