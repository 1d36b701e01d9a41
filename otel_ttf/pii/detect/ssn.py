"""Social security numbers of the USA."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from otel_ttf.pii.detect.around import listed, stands_alone, thing_of, words_before
from otel_ttf.pii.detect.base import Detector, Span

# What else has numbers in groups of three, two and four.
PARTS = frozenset(listed("part sku model serial lot batch item catalog isbn order product"))


class UsSsn(Detector):
    """With dashes and an area that is given out; written in other ways, only after its name."""

    name: ClassVar[str] = "us_ssn"
    secret: ClassVar[bool] = False
    label: ClassVar[str] = "SSN"
    shaped: ClassVar[bool] = True
    supersets: ClassVar[tuple[str, ...]] = (
        r"[0-9]{3}-[0-9]{2}-[0-9]{4}",
        r"(?:ssn|social[ _\-]?security)[ -/:-~]{0,20}[0-9]{3}[ \-]?[0-9]{2}[ \-]?[0-9]{4}",
    )
    # What stands before is asked last: the search is quick for what begins with a digit.
    _form = re.compile(r"[0-9](?<![0-9][0-9])[0-9]{2}([ -]?)[0-9]{2}\1[0-9]{4}(?![0-9])")
    _context = re.compile(
        r"(?:ssn|social[ _-]?security)(?:[ _.-]?(?:number|num|no|nr|id))?[ .:=\"'#\\>_-]{0,8}$",
        re.IGNORECASE | re.ASCII,
    )

    def find(self, text: str) -> Iterator[Span]:
        for match in self._form.finditer(text):
            start, end = match.span()
            if not (self._valid(self.canonical(match[0])) and stands_alone(text, start, end)):
                continue
            named = self._context.search(text, max(0, start - 40), start) is not None
            if named or (match[1] == "-" and thing_of(words_before(text, start)) not in PARTS):
                yield start, end

    def canonical(self, found: str) -> str:
        return "".join(filter(str.isdigit, found))

    def _valid(self, digits: str) -> bool:
        """No area 000, 666 or 9xx, no group 00, no serial 0000."""
        area, group, serial = digits[:3], digits[3:5], digits[5:]
        return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"
