from __future__ import annotations

import sys
from pathlib import Path

tests = Path(__file__).parents[1]
for folder in (Path(__file__).parent, tests / "end_to_end", tests / "log"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
