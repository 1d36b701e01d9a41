"""Configurations for a purpose, to be laid under one's own: `--preset NAME` is NAME.yaml of this folder."""

from __future__ import annotations

from importlib import resources

_FOLDER = resources.files(__name__)


def names() -> list[str]:
    """Those that there are."""
    return sorted(
        file.name.removesuffix(".yaml") for file in _FOLDER.iterdir() if file.name.endswith(".yaml")
    )


def text(name: str) -> str:
    """The YAML of one of them."""
    return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
