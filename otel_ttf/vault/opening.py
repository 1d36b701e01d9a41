"""Opens the vault of a data directory with its configured master key, or with one of its own."""

from __future__ import annotations

from pathlib import Path

import structlog

from otel_ttf.files import write_secret
from otel_ttf.vault.config import MasterKeyConfig, master_of
from otel_ttf.vault.file import VaultFile, VaultRefused
from otel_ttf.vault.local import COMMENT, LocalMaster, new_line
from otel_ttf.vault.master import MasterKey, MasterRefused
from otel_ttf.vault.vault import Vault

FILE, OWN_MASTER = "vault.db", "master_key"

log = structlog.get_logger()


def open_vault(config: MasterKeyConfig | None, data_dir: Path) -> Vault:
    """The vault, made at first need, its own master key, too, where none is configured.

    Raises VaultRefused: file or master key cannot be used, or a master key that wraps data keys is missing.
    """
    path = data_dir / FILE
    if config is None and not (data_dir / OWN_MASTER).exists() and not path.exists():
        _make_own(data_dir / OWN_MASTER)
    master = open_master(config, data_dir)
    try:
        file = VaultFile(path)
    except VaultRefused:
        master.close()
        raise
    unknown = [name for name in file.masters_in_use() if not master.knows(name)]
    if unknown:
        file.close()
        master.close()
        raise VaultRefused(
            f"{path}: master key {unknown[0]} wraps keys in it and is not among the configured ones: "
            "put it back (privacy.master_key), behind newer ones"
        )
    return Vault(file, master)


def open_master(config: MasterKeyConfig | None, data_dir: Path) -> MasterKey:
    """The configured master key, or the one in the data directory. Raises VaultRefused."""
    own = data_dir / OWN_MASTER
    if config is None and not own.exists():
        raise VaultRefused(
            f"{own} is gone, and {data_dir / FILE} needs it: put it back from your copy, or name its place by "
            "privacy.master_key"
        )
    try:
        return LocalMaster(file=own) if config is None else master_of(config)
    except MasterRefused as error:
        raise VaultRefused(error.reason) from None


def _make_own(path: Path) -> None:
    try:
        write_secret(path, COMMENT + new_line())
    except OSError as error:
        why = (error.strerror or "it failed").lower()
        raise VaultRefused(f"no master key can be made at {path}: {why}") from None
    log.warning(
        "made a master key: keep a copy, without it nothing that was encrypted can be read", file=str(path)
    )
