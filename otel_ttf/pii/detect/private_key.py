"""Private keys: PEM, OpenPGP, SSH2 and PuTTY files, also those that a limit has cut, and members of a JWK."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from otel_ttf.pii.detect.base import Detector, Span

_BEGIN = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|---- BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY ----"
    r"|Private-Lines: [0-9]{1,3}(?=\s|\\)"
)
_END = re.compile(r"-----END [A-Z0-9 ]{0,60}-----|---- END [A-Z0-9 ]{0,60} ----|Private-MAC: [0-9a-f]{40,64}")
_OTHER = re.compile(r"---- ?BEGIN |Private-Lines: ")
_BREAK = r"(?:\s|\\{1,4}[nrt])"
# Headers, then lines; the last one may be short. A sentence that names the header only has none.
_BODY = re.compile(
    rf"(?:{_BREAK}*[A-Za-z][A-Za-z-]{{2,30}}: [^\r\n\\]{{1,200}}){{0,8}}+"
    rf"(?:{_BREAK}*+[A-Za-z0-9+/=]{{16,}}+)++(?:(?:[\r\n]|\\{{1,4}}[nr])++[A-Za-z0-9+/=]++)?"
)
# Of RFC 7518, section 6: the private members of EC, RSA and symmetric keys.
_KTY = re.compile(r'"kty\\{0,3}"')
_JWK = re.compile(r'\\{0,3}"(?:d|p|q|dp|dq|qi|k)\\{0,3}"\s{0,4}:\s{0,4}\\{0,3}"([A-Za-z0-9_-]{16,8192}+)')


class PrivateKey(Detector):
    """From BEGIN to END; without END as far as the lines of base64 go."""

    name: ClassVar[str] = "private_key"
    secret: ClassVar[bool] = True
    label: ClassVar[str] = "PRIVATE_KEY"
    supersets: ClassVar[tuple[str, ...]] = (
        r"BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY",
        r"Private-Lines: [0-9]",
        r"\x22kty\\{0,3}\x22",
    )

    def find(self, text: str) -> Iterator[Span]:
        found = [*_files(text), *_members(text)]
        end = 0
        for span in sorted(found):
            if span[0] >= end:
                yield span
                end = span[1]


def _files(text: str) -> Iterator[Span]:
    floor = 0
    end: re.Match[str] | None = None
    ended = False
    for begin in _BEGIN.finditer(text):
        if begin.start() < floor:
            continue
        while not ended and (end is None or end.start() < begin.end()):
            end = _END.search(text, begin.end() if end is None else end.end())
            ended = end is None
        other = _OTHER.search(text, begin.end(), end.start() if end is not None else len(text))
        if end is not None and other is None:
            floor = end.end()
        else:
            body = _BODY.match(text, begin.end())
            if body is None:
                continue
            floor = body.end()
        yield begin.start(), floor


def _members(text: str) -> Iterator[Span]:
    if _KTY.search(text) is not None:
        for match in _JWK.finditer(text):
            yield match.span(1)
