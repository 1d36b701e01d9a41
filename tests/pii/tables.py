"""The cases that stand in files, read once, and by the parser in C where there is one: it takes a tenth of the time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_HERE = Path(__file__).parent
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _read(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader=_LOADER)


# A file a detector: {found: [{text, spans: [texts that are found]}], left_alone: [{text, why}]}
TABLES = {path.stem: _read(path) for path in sorted((_HERE / "cases").glob("*.yaml"))}
# What becomes of texts by all detectors together: [{text, masked}]
TEXTS = _read(_HERE / "texts.yaml")
