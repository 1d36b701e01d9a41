"""Vaults on a directory of the test's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))

from otel_ttf.vault import Vault, open_vault

Opener = Callable[[], Vault]


def token(number: int) -> str:
    """A subject token that belongs to nobody."""
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    return "u1_test_" + "".join(letters[number >> shift & 31] for shift in range(155, -1, -5))


JANE, JOHN = token(1), token(2)


@pytest.fixture
def open_it(tmp_path: Path) -> Iterator[Opener]:
    """Opens the directory's vault, as often as asked: each is like a process of its own."""
    opened: list[Vault] = []

    def opener() -> Vault:
        opened.append(open_vault(None, tmp_path))
        return opened[-1]

    yield opener
    for vault in opened:
        vault.close()


@pytest.fixture
def vault(open_it: Opener) -> Vault:
    return open_it()
