"""Where the master key is, and which class is made of that."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from otel_ttf.vault.aws_kms import AwsKms, AwsKmsConfig
from otel_ttf.vault.local import LocalMaster
from otel_ttf.vault.master import MasterKey
from otel_ttf.vault.transit import Transit, TransitConfig

KINDS = ("file", "env", "aws_kms", "vault")


class MasterKeyConfig(BaseModel):
    """Where the master key is: one of these."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str | None = Field(None, description="Path of a file: base64 of 32 bytes a line, newest first.")
    env: str | None = Field(
        None,
        pattern="^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of an environment variable that holds what the file would.",
    )
    aws_kms: AwsKmsConfig | None = Field(None, description="AWS KMS; needs the extra `aws`.")
    vault: TransitConfig | None = Field(None, description="The transit engine of HashiCorp Vault or OpenBao.")

    @model_validator(mode="after")
    def _exactly_one(self) -> MasterKeyConfig:
        if sum(getattr(self, kind) is not None for kind in KINDS) != 1:
            raise ValueError("expected exactly one of file, env, aws_kms and vault")
        return self


def master_of(config: MasterKeyConfig) -> MasterKey:
    """Raises MasterRefused."""
    if config.aws_kms is not None:
        return AwsKms(config.aws_kms)
    if config.vault is not None:
        return Transit(config.vault)
    return LocalMaster(file=Path(config.file) if config.file is not None else None, env=config.env)
