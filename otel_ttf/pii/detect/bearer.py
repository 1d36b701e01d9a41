"""What follows the name of an HTTP authentication scheme: Bearer, Basic, Digest and others."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import ClassVar

from otel_ttf.pii.detect.base import Detector, Span
from otel_ttf.pii.detect.value import any_of, is_prose, is_vacant

_SCHEMES = ("bearer", "basic", "negotiate", "ntlm")
_PROVEN = ("digest", "aws4-hmac-sha256", "hawk")
_TOKEN = re.compile(
    rf"\b({'|'.join(_SCHEMES)})((?:[ \t\r\n]|\\[rnt]){{1,8}}[\"']?)([A-Za-z0-9._~+/-]{{8,}}=*)",
    re.IGNORECASE | re.ASCII,
)
# Behind this, no sentence follows.
_HEADER = re.compile(
    r"authori[sz]ation\\{0,3}[\"']?\]?[ \t]{0,4}[:=]>?[ \t]{0,4}\\{0,3}[\"'\[]?$", re.IGNORECASE
)
_LONGEST_HEADER = 40
_LONGEST_WORD = 30
_LEAST_MESSAGE = 16
# Parameters that prove it (RFC 7616; AWS Signature Version 4; Hawk).
_NAME = r"[A-Za-z-]{1,24}="
_GIVEN = r"(?:\"[^\"\r\n]{0,512}\"|\\\"[^\"\r\n]{0,512}\\\"|[^\s,\"]{1,512})"
_PARAMETERS = re.compile(
    rf"\b({'|'.join(_PROVEN)})[ \t]{{1,8}}"
    rf"((?:{_NAME}{_GIVEN}(?:,[ \t]{{0,4}}|[ \t]{{1,4}}(?={_NAME}))?){{2,20}}+)",
    re.IGNORECASE | re.ASCII,
)
_PROOF = re.compile(r"(?:response|signature|mac)=", re.IGNORECASE | re.ASCII)
# curl -u name:password
_CURL = re.compile(
    r"(?<=[ \t])(?:-u|--user|--proxy-user)[ \t=]{0,4}\\{0,3}[\"']?([^\s\"':\\]{1,64}:[^\s\"'\\]{1,128})"
)
_CURLS = re.compile(r"curl[ \t]", re.IGNORECASE | re.ASCII)


class Bearer(Detector):
    """The scheme stays, what it carries goes."""

    name: ClassVar[str] = "bearer"
    secret: ClassVar[bool] = True
    label: ClassVar[str] = "TOKEN"
    supersets: ClassVar[tuple[str, ...]] = (
        r"(?:bearer|basic|negotiate|ntlm)(?:[ \t\r\n]|\\{1,4}[rnt]){1,8}[\x22']?[A-Za-z0-9._~+/\-]{8}",
        r"(?:digest|aws4-hmac-sha256|hawk)[ \t]{1,8}[A-Za-z\-]{1,24}=",
        r"curl[ \t]",
    )

    def find(self, text: str) -> Iterator[Span]:
        # To look for a word takes a tenth of the time that an expression takes to find that there is none.
        low = text.lower()
        found: list[Span] = []
        if any_of(low, _SCHEMES):
            found += [match.span(3) for match in _TOKEN.finditer(text) if _is_token(text, match)]
        if any_of(low, _PROVEN):
            found += [match.span(2) for match in _PARAMETERS.finditer(text) if _PROOF.search(match[2])]
        if "curl" in low and _CURLS.search(text) is not None:
            logins = _CURL.finditer(text)
            found += [match.span(1) for match in logins if not is_vacant(match[1].partition(":")[2])]
        end = 0
        for span in sorted(found):
            if span[0] >= end:
                yield span
                end = span[1]


def _is_token(text: str, match: re.Match[str]) -> bool:
    scheme, token = match[1].lower(), match[3]
    if scheme == "basic":
        return _is_basic(token)
    if is_vacant(token):
        return False
    if scheme != "bearer":
        return len(token) >= _LEAST_MESSAGE and not is_prose(token)
    before = text[max(0, match.start() - _LONGEST_HEADER) : match.start()]
    return len(token) > _LONGEST_WORD or not is_prose(token) or _HEADER.search(before) is not None


def _is_basic(token: str) -> bool:
    """Whether it is base64 of a name, a colon and a password, in any alphabet (RFC 7617)."""
    bare = token.rstrip("=.").translate(_URL_SAFE)
    try:
        told = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error:
        return False
    return b":" in told and min(told) >= 32


_URL_SAFE = str.maketrans("-_", "+/")
