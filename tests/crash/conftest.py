from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# The server's process, the load and the checks are the end-to-end tests'.
sys.path[:0] = [str(HERE), str(HERE.parent / "end_to_end")]
if "books" not in sys.modules:  # the other folder's conftest may have been first
    pytest.register_assert_rewrite("books", "ledger")
