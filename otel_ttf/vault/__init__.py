"""A random key per subject, wrapped by a master key: what is sealed ends when the subject's key does."""

from otel_ttf.vault.file import VaultRefused
from otel_ttf.vault.opening import open_vault
from otel_ttf.vault.vault import Vault

__all__ = ["Vault", "VaultRefused", "open_vault"]
