"""What a batch of events says of the subjects in them, journey by journey."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from otel_ttf.journey.dispatch import Dispatch
from otel_ttf.journey.keys import key_of
from otel_ttf.journey.state import UNSET, segment_text
from otel_ttf.otlp.events import Event
from otel_ttf.otlp.values import pair
from otel_ttf.store.sqlite_rows import pack_key
from otel_ttf.tracker.followed import Followed

# The values of segments are few, and so are the attributes that hold them.
_REMEMBERED = 4096
_LONGEST = 256


@dataclass(slots=True)
class Touch:
    """What a batch of events says of one journey of one subject."""

    reached: list[int]
    segments: list[tuple[int, str] | None]


class Texts:
    """Reads segments from events. What short attributes say is remembered."""

    def __init__(self, names: Iterable[str]) -> None:
        """names: the attributes that are segments."""
        # A pattern each: an alternation takes five times as long. `in` is no faster than a search, since it asks
        # first whether bytes are a number.
        self._searches = [re.compile(re.escape(name.encode())).search for name in dict.fromkeys(names)]
        self._known: dict[bytes, tuple[str, str | None]] = {}

    def of(self, event: Event) -> Mapping[str, str | None] | None:
        """Its attributes with the name of a segment in their bytes: key -> text; None, too, for none.

        Of a key that comes twice the last one counts.
        """
        encoded = event.attributes_bytes
        texts: dict[str, str | None] | None = None
        for search in self._searches:
            # Searching the bytes is far cheaper than decoding the attributes of every event.
            if search(encoded):
                found = dict([self._read(data) for data in event.pairs if search(data)])
                texts = found if texts is None else texts | found
        return texts

    def _read(self, data: bytes) -> tuple[str, str | None]:
        found = self._known.get(data)
        if found is None:
            key, value = pair(data)
            found = key, segment_text(value)
            if len(data) <= _LONGEST:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[data] = found
        return found


class Touches:
    """Gathers a batch.

    subjects  per journey, what came of each subject; with keys beyond the subject, of each of its keys: Kept.whose
    unkeyed   names of milestones that were matched without the whole key, which they need
    """

    def __init__(self, followed: Sequence[Followed], dispatch: Dispatch, texts: Texts) -> None:
        self.subjects: list[dict[str, Touch]] = [{} for _ in followed]
        self.unkeyed: list[str] = []
        self._names = [followed.journey.key[1:] for followed in followed]
        self._shared = [pack_key(("",) * len(names)) for names in self._names]
        self._followed = followed
        self._admits = dispatch.admits
        self._texts = texts

    def add(self, event: Event, subject: str, hits: Sequence[tuple[int, int]]) -> None:
        """An event of that subject, and what it reaches: (journey, milestone) indexes."""
        at = event.at
        for j, m in hits:
            whose = subject
            if self._names[j]:
                keyed = self.whose(event, subject, j, m)
                if keyed is None:
                    self.unkeyed.append(self._followed[j].journey.milestones[m].name)
                    continue
                whose = keyed
            reached = (self.subjects[j].get(whose) or self._untouched(j, whose)).reached
            if at < reached[m]:
                reached[m] = at
        values = self._texts.of(event)
        if values:
            for j in self._admits(event):
                whose = subject + self._shared[j]
                for s, name in enumerate(self._followed[j].segments):
                    value = values.get(name)
                    if value is not None:
                        segments = (self.subjects[j].get(whose) or self._untouched(j, whose)).segments
                        first = segments[s]
                        # Code points are in the order of their UTF-8 bytes, as in State.join.
                        if first is None or (at, value) < first:
                            segments[s] = (at, value)

    def whose(self, event: Event, subject: str, j: int, m: int) -> str | None:
        """Which row of a subject the event moves at this milestone; None: its key is not whole."""
        names = self._names[j]
        if not names:
            return subject
        key = key_of(names, event.attributes, event.resource)
        if "" in key and not self._followed[j].journey.milestones[m].shared:
            return None
        return subject + pack_key(key)

    def _untouched(self, j: int, whose: str) -> Touch:
        """The entry of a row of which nothing has come yet."""
        followed = self._followed[j]
        touch = Touch([UNSET] * len(followed.journey.milestones), [None] * len(followed.segments))
        self.subjects[j][whose] = touch
        return touch
