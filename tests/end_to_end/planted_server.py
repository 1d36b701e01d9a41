"""The server with a defect: while $PLANTED is a file, events with its pattern in their attributes cannot be followed.

They fail in the tracker, after everything was written, with an error whose message holds what was sent.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from otel_ttf.__main__ import main
from otel_ttf.otlp.events import Extract
from otel_ttf.tracker.follow import Follower


def plant(flag: Path) -> None:
    sound = Follower.take

    def take(self: Follower, extracts: Iterable[tuple[int, Extract]], now: int) -> Counter[str]:
        extracts = list(extracts)
        missing = sound(self, extracts, now)
        if flag.exists():
            bad = re.compile(flag.read_bytes()).search
            for _, found in extracts:
                for event in found.events:
                    if bad(event.attributes_bytes):
                        raise KeyError(event.attributes_bytes)
        return missing

    Follower.take = take  # type: ignore[method-assign]


if __name__ == "__main__":
    plant(Path(os.environ["PLANTED"]))
    main()
