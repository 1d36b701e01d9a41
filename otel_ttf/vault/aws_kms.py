"""Master key in AWS KMS: Encrypt and Decrypt with an encryption context. Needs the extra `aws` (boto3)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.pii.sealed import Tampered, UnknownKey
from otel_ttf.vault.master import MasterRefused, MasterUnavailable, Wrapped

PREFIX = "aws_kms:"
CONNECT_SECONDS, READ_SECONDS, TRIES = 2.0, 5.0, 3
# Error codes of KMS -> what they mean to us. Any other one: it may work later.
CHANGED = {"InvalidCiphertextException"}
UNKNOWN = {"NotFoundException", "IncorrectKeyException"}
REFUSED = {
    "AccessDeniedException",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "ExpiredTokenException",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "MissingAuthenticationToken",
    "OptInRequired",
    "ValidationException",
    "DisabledException",
    "InvalidKeyUsageException",
    "InvalidGrantTokenException",
}


class AwsKmsConfig(BaseModel):
    """A symmetric key of AWS KMS. Credentials come from where AWS's own tools look for them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key_id: str = Field(min_length=1, description="Key id, ARN or alias of a symmetric encryption key.")
    region: str | None = Field(None, description="AWS region; by default the one of the environment.")
    endpoint: str | None = Field(None, description="Another URL than AWS's, for private endpoints.")


class AwsKms:
    """Each wrap and unwrap is a call to KMS. CloudTrail sees the subject's token as encryption context."""

    remote = True

    def __init__(self, config: AwsKmsConfig) -> None:
        """Raises MasterRefused: boto3 is missing, or no region is named anywhere."""
        try:
            import boto3
            from botocore import exceptions
            from botocore.config import Config
        except ImportError:
            raise MasterRefused(
                "privacy.master_key.aws_kms needs boto3: install the extra, pip install 'otel-ttf[aws]'"
            ) from None
        self._errors = exceptions
        self._key = config.key_id
        try:
            self._client: Any = boto3.session.Session().client(
                "kms",
                region_name=config.region,
                endpoint_url=config.endpoint,
                config=Config(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=READ_SECONDS,
                    retries={"mode": "standard", "total_max_attempts": TRIES},
                    max_pool_connections=32,
                ),
            )
        except (exceptions.BotoCoreError, ValueError) as error:
            raise MasterRefused(f"privacy.master_key.aws_kms: {type(error).__name__}") from None

    def wrap(self, data_key: bytes, context: str) -> Wrapped:
        answer = self._call(
            "encrypt", KeyId=self._key, Plaintext=data_key, EncryptionContext={"otel_ttf:subject": context}
        )
        return Wrapped(PREFIX + answer["KeyId"], answer["CiphertextBlob"])

    def unwrap(self, wrapped: Wrapped, context: str) -> bytes:
        if not self.knows(wrapped.key_id):
            raise UnknownKey(f"master key {wrapped.key_id} is not in AWS KMS")
        answer = self._call(
            "decrypt",
            KeyId=wrapped.key_id.removeprefix(PREFIX),
            CiphertextBlob=wrapped.data,
            EncryptionContext={"otel_ttf:subject": context},
        )
        return bytes(answer["Plaintext"])

    def _call(self, name: str, **arguments: object) -> Any:
        try:
            return getattr(self._client, name)(**arguments)
        except self._errors.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            if code in CHANGED:
                raise Tampered("a wrapped data key was changed, or belongs to another subject") from None
            if code in UNKNOWN and name == "decrypt":
                raise UnknownKey(f"AWS KMS has no such master key: {code}") from None
            if code in REFUSED or code in UNKNOWN:
                raise MasterRefused(f"AWS KMS refuses to {name}: {code}") from None
            raise MasterUnavailable(f"AWS KMS cannot {name} now: {code}") from None
        except self._errors.NoCredentialsError:
            raise MasterRefused("AWS KMS: no credentials were found") from None
        except self._errors.BotoCoreError as error:
            raise MasterUnavailable(f"AWS KMS cannot be reached: {type(error).__name__}") from None

    def knows(self, key_id: str) -> bool:
        return key_id.startswith(PREFIX)

    def newest(self) -> str | None:
        return None

    def close(self) -> None:
        self._client.close()
