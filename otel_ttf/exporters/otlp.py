"""What OTLP over gRPC and over HTTP have in common: settings, certificates, and what their answers mean."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, Self

from google.protobuf.message import DecodeError
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from otel_ttf import __version__
from otel_ttf.exporters.base import DONE, Outcome, Piece, later, never
from otel_ttf.exporters.config import CannotExport, ExporterConfig
from otel_ttf.log.base import Row
from otel_ttf.otlp.identity import with_ids
from otel_ttf.otlp.wire import SHAPES, Signal
from otel_ttf.units import SECOND, Duration

USER_AGENT = f"otel_ttf/{__version__}"
ANSWER_BYTES = 4 << 20  # no answer is longer
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[!-~]+( +[!-~]+)*")


class TlsConfig(BaseModel):
    """Encryption on the way. Without `insecure` the destination has to have a certificate that is trusted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    insecure: bool = Field(False, description="true: no encryption at all.")
    ca_file: str | None = Field(
        None, description="Certificates in PEM that are trusted, instead of the machine's."
    )
    cert_file: str | None = Field(
        None, description="Our certificate in PEM, where the destination asks for one."
    )
    key_file: str | None = Field(None, description="The key of cert_file, in PEM.")
    server_name_override: str | None = Field(
        None, min_length=1, description="The name that has to be in the destination's certificate."
    )
    insecure_skip_verify: bool = Field(
        False, description="true: any certificate will do. Not for gRPC, which has no such way."
    )

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("expected cert_file and key_file together")
        return self


class OtlpConfig(ExporterConfig):
    """Settings of both."""

    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Sent with each request, such as `authorization`; never shown."
    )
    compression: Literal["gzip", "none"] = Field("gzip", description="How requests are compressed.")
    timeout: Duration = Field(10 * SECOND, gt=0, description="What one request may take.")
    tls: TlsConfig = Field(TlsConfig(), description="Encryption on the way.")
    event_ids: bool = Field(
        False,
        description="true: each event carries its id as `ttf.event.id`, for another otel_ttf that takes it over "
        "(receivers.otlp.trusted_tokens there).",
    )

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        """What cannot be sent would be refused with each request, as if the records were to blame."""
        for name, value in headers.items():
            if not _NAME.fullmatch(name) or name.lower().endswith("-bin"):
                raise ValueError("expected names of headers such as x-team")
            if not _VALUE.fullmatch(value.get_secret_value()):
                raise ValueError(
                    f"expected printable ASCII in {name}, without spaces or line ends around it: a file with a token "
                    "often ends with one"
                )
        return headers

    def prepare(self, row: Row) -> Row:
        if self.event_ids and row.ids:
            return replace(row, payload=with_ids(row.signal, row.payload, row.ids))
        return row


def answered(signal: Signal, batch: Sequence[Piece], body: bytes) -> Outcome:
    """What a response in protobuf says that came with OK."""
    try:
        told = SHAPES[signal].response.FromString(body)
    except DecodeError:
        return DONE  # it has taken it, whatever it says about it
    return partial(signal, batch, getattr(told.partial_success, SHAPES[signal].rejected))


def partial(signal: Signal, batch: Sequence[Piece], rejected: int) -> Outcome:
    """What it is that so many records of a batch were not taken."""
    records = sum(piece.row.records for piece in batch)
    if rejected <= 0:
        return DONE
    if rejected >= records:
        return Outcome(rejected=dict.fromkeys(range(len(batch)), _ALL), fault="all", why=_ALL)
    return Outcome(unnamed=rejected)


_ALL = "partial success, none of it was taken"


def plain(headers: Mapping[str, SecretStr]) -> dict[str, str]:
    """As they are sent."""
    return {name.lower(): value.get_secret_value() for name, value in headers.items()}


Kind = Literal["later", "barred", "size", "data"]


def outcome_of(batch: Sequence[Piece], kind: Kind, why: str, after: float | None = None) -> Outcome:
    """What became of a batch that was answered with a status of this kind."""
    if kind in ("later", "barred"):
        return later(batch, why, after, barred=kind == "barred")
    return never(batch, why, "size" if kind == "size" else "data")


def certificates(tls: TlsConfig, name: str) -> ssl.SSLContext:
    """What the settings of an exporter say. Raises CannotExport: a file cannot be read, or is no certificate or key."""
    setting = "ca_file"
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.cert_file is not None:
            setting = "cert_file"
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        raise CannotExport(
            f"exporters.{name}.tls.{setting}: {getattr(tls, setting)} cannot be used: "
            f"{error.strerror or type(error).__name__}: expected a file in PEM that this user may read"
            + (", and its key in key_file" if setting == "cert_file" else "")
        ) from None
    return context
