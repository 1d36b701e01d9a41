from __future__ import annotations

import sys
from pathlib import Path

# So that the tests here share `tables`.
sys.path.insert(0, str(Path(__file__).parent))
