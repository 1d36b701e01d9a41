"""The keys that a configuration names: read from files and environment, or made at the first start."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import structlog

from otel_ttf.config import CannotStart, Config
from otel_ttf.files import LOG_FILE, barred, write_secret
from otel_ttf.pii.keys import KeyFileError, Keys, decode, new, parse

log = structlog.get_logger()


def keys_of_start(config: Config, data_dir: Path) -> Keys:
    """The configured keys, or those of the data directory, made at the first start. Raises CannotStart."""
    own = data_dir / "keys"
    # Keys of one's own making bind to one embedded store; subject keys from elsewhere still need an event key.
    if config.privacy.key_file is None and not own.exists():
        written = [file for file in (config.storage.file(data_dir), data_dir / LOG_FILE) if file.exists()]
        if written:
            # New keys here could overwrite the right ones in a backup.
            raise CannotStart(
                f"{own} is gone, and {written[0]} was written with it: put it back from your copy, name its place "
                "by privacy.key_file, or start with another data directory",
                2,
            )
        write_secret(own, new())
        log.warning(
            "made keys for pseudonyms: keep a copy, without them nobody can be found again", file=str(own)
        )
    return read_keys(config, data_dir)


def read_keys(config: Config, data_dir: Path) -> Keys:
    """The configured keys, or those of the data directory. Raises CannotStart: they cannot be read."""
    privacy = config.privacy
    source_file = Path(privacy.key_file) if privacy.key_file is not None else data_dir / "keys"
    try:
        keys = parse(source_file.read_text())
        if not privacy.subject_keys:
            return keys
        subjects = [
            os.environ[source.env] if source.env is not None else Path(source.file or "").read_text()
            for source in privacy.subject_keys
        ]
        return replace(keys, subjects=tuple(decode(subject) for subject in subjects))
    except OSError as error:
        why = (error.strerror or "").lower()
        mend = "put it back from your copy"
        if isinstance(error, PermissionError):
            mend = barred(Path(error.filename), write=False) or "let this user read it"
        raise CannotStart(
            f"privacy: the key file {error.filename} cannot be read: {why}: {mend}", 2
        ) from None
    except KeyError as missing:
        raise CannotStart(f"privacy.subject_keys: environment variable {missing} is not set", 2) from None
    except KeyFileError as error:
        raise CannotStart(f"privacy: {source_file}: {error}", 2) from None
