"""What a detector is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from otel_ttf.pii.action import Action

Span = tuple[int, int]


class Detector:
    """Finds one kind of secret or personal data in a text, in time linear in the text.

    name       in the configuration and in metrics, lower_case
    secret     a secret; else personal data
    label      its placeholder is `[LABEL]`; upper case, and nothing finds it
    supersets  expressions of the one scan (scanner.Pattern): they match the UTF-8 bytes of every text in which
               `find` finds something, whatever stands around it
    default    what is done with a finding unless the configuration says otherwise; `keep`: it is off
    pack       name of the opt-in pack it belongs to, e.g. a country
    shaped     known by the shape of its digits alone: not looked for in a value that is nothing but digits where
               the key says that it is an id, a time, a count
    dotted     looks like a version: not looked for where a convention says that the value is technical
    """

    name: ClassVar[str]
    secret: ClassVar[bool]
    label: ClassVar[str]
    supersets: ClassVar[tuple[str, ...]]
    default: ClassVar[Action] = "redact"
    pack: ClassVar[str | None] = None
    shaped: ClassVar[bool] = False
    dotted: ClassVar[bool] = False

    def find(self, text: str) -> Iterator[Span]:
        """(start, end) of the findings, in order, without overlaps."""
        raise NotImplementedError

    def canonical(self, found: str) -> str:
        """A finding as it is hashed: two spellings of one value give the same text.

        It is asked for values that only their key tells of, too: it takes any text.
        """
        return found

    def truncated(self, found: str) -> str | None:
        """What is left of a finding for `truncate`; truncating it again changes nothing. None: it knows no such
        way, or the text is no finding.
        """
        return None
