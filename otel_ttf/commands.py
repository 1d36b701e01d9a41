"""Commands of otel-ttf in what an operator reads, with the options of the command that says it: they can be pasted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Settings that only a server needs.
_OF_THE_SERVER = ("api.", "receivers.", "log.", "service.")
# Settings of which nothing is shown, since /ready says them to whoever asks: by their name, or by what stands in a URL.
_SECRET = re.compile(
    r"^[^=]*(?:password|passwd|secret|token=|api_?key|credential|authorization|headers)|://[^/]*@", re.I
)


@dataclass(frozen=True, slots=True)
class Given:
    """Options that name a data directory and its configuration, as `run` and the commands beside it have them.

    files, settings, preset  of --config, --set and --preset
    """

    data_dir: Path | None = None
    files: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    preset: str | None = None

    def command(self, words: str) -> str:
        """`otel-ttf WORDS` with those of these options that it needs, wherever it is typed. words: as they are typed"""
        of_all = words.split()[0] == "run"
        settings = [one for one in self.settings if of_all or not one.startswith(_OF_THE_SERVER)]
        return " ".join(["otel-ttf", words, *map(shlex.quote, self._options(settings))])

    def _options(self, settings: Sequence[str]) -> Iterator[str]:
        if self.preset is not None:
            yield from ("--preset", self.preset)
        for file in self.files:
            yield from ("--config", str(Path(file).absolute()))
        for setting in settings:
            yield from ("--set", f"{setting.partition('=')[0]}=..." if _SECRET.search(setting) else setting)
        if self.data_dir is not None:
            yield from ("--data-dir", str(self.data_dir.absolute()))


NOTHING_GIVEN = Given()
