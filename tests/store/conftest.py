from __future__ import annotations

import sys
from pathlib import Path

# A store over real files, and what is done to files.
sys.path.insert(0, str(Path(__file__).parents[1] / "tracker"))
sys.path.insert(0, str(Path(__file__).parents[1] / "log"))
