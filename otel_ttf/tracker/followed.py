"""A journey that is followed."""

from __future__ import annotations

from dataclasses import dataclass, field

from otel_ttf.journey.definition import Journey
from otel_ttf.journey.transitions import carry_told
from otel_ttf.store.sqlite_rows import Definition, Rebuild, subject_hash
from otel_ttf.tracker.patterns import Pattern, patterns


@dataclass(slots=True)
class Followed:
    """A configured journey with its stored definition and the versions that are joined into it.

    segments  attributes
    patterns  by milestone, what it brings alone
    """

    journey: Journey
    definition: Definition
    segments: tuple[str, ...]
    patterns: list[Pattern | None] = field(init=False)
    # Other versions: their definition, and per milestone of ours the index of theirs.
    others: list[tuple[Definition, tuple[int | None, ...]]] = field(default_factory=list)
    # Those with another `only`: their states count nothing here, but what they told is not told again.
    strangers: list[Definition] = field(default_factory=list)
    # Under way, and the same journey over the rows that are made beside.
    rebuild: Rebuild | None = None
    beside: Followed | None = None
    # Subjects of whom events are left out: what was told of them may have been taken back.
    retold: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.patterns = patterns(self.journey)

    @property
    def keyed(self) -> bool:
        """Whether a subject may have several rows, see keyed.py."""
        return len(self.journey.key) > 1

    @property
    def settled(self) -> bool:
        """Whether a subject without a row is one of whom nothing is known, and a new row counts at once."""
        definition = self.definition
        unsettled = definition.carrying is not None or definition.recounting is not None
        return not (unsettled or self.strangers or self.keyed or self.rebuild)

    def walked(self, subject: str) -> bool:
        """Whether what is known of a subject stands beside, too."""
        return (
            self.beside is not None
            and self.rebuild is not None
            and subject_hash(subject) <= self.rebuild.place
        )

    def places(self) -> dict[tuple[str, str], int]:
        """(version, its milestone's name) -> the milestone of ours with the same match."""
        found = {
            (self.definition.version, milestone.name): place
            for place, milestone in enumerate(self.journey.milestones)
        }
        for other, indices in self.others:
            names = _names(other)
            found |= {(other.version, names[i]): place for place, i in enumerate(indices) if i is not None}
        return found

    def carry_told(self, other: Definition, told: int) -> int:
        """What another version has told, as this one's."""
        return carry_told(_names(other), told, self.journey)


def _names(definition: Definition) -> list[str]:
    return [str(milestone["name"]) for milestone in definition.canonical["milestones"]]  # type: ignore[attr-defined]
