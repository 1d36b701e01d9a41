"""Certificates of listeners, read again when their files change: new connections get the new one, others go on."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.access.watch import Unusable, Watched
from otel_ttf.units import MINUTE, SECOND, Duration

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class GrpcTlsConfig(BaseModel):
    """A listener that speaks TLS, and nothing else, under the Collector's names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cert_file: str = Field(
        description="Its certificate in PEM, with those that lead up to the authority behind it."
    )
    key_file: str = Field(description="The certificate's key in PEM, without a password.")
    client_ca_file: str | None = Field(
        default=None,
        description="Who must have signed a client's certificate, in PEM: nobody comes in without one.",
    )
    min_version: Literal["1.2"] = Field(default="1.2", description="gRPC for Python takes 1.2 and 1.3.")
    reload_interval: Duration = Field(
        default=MINUTE, ge=SECOND, description="How often it is looked whether the files have changed."
    )


class TlsConfig(GrpcTlsConfig):
    """A listener that speaks TLS, and nothing else, under the Collector's names."""

    min_version: Literal["1.2", "1.3"] = Field(  # type: ignore[assignment]
        default="1.2", description="The oldest version of TLS that is spoken."
    )


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was read. ends: unix seconds."""

    chain: bytes
    key: bytes
    clients: bytes | None
    ends: float
    context: ssl.SSLContext


def read(config: GrpcTlsConfig, chain: bytes, key: bytes, clients: bytes | None = None) -> Certificate:
    """Of the files' contents. Raises Unusable."""
    try:
        first = x509.load_pem_x509_certificates(chain)[0]
    except ValueError:
        raise Unusable(f"{config.cert_file}: expected a certificate in PEM, found something else") from None
    try:
        private = load_pem_private_key(key, None)
    except TypeError:
        raise Unusable(f"{config.key_file}: expected a key without a password, found one with") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Unusable(f"{config.key_file}: expected a key in PEM, found something else") from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    try:
        same = private.public_key().public_bytes(*form) == first.public_key().public_bytes(*form)
    except (ValueError, UnsupportedAlgorithm):
        raise Unusable(f"{config.cert_file}: expected the certificate of an RSA or EC key") from None
    if not same:
        raise Unusable(
            f"{config.key_file}: expected the key of {config.cert_file}, found that of another certificate"
        )
    if first.not_valid_after_utc < datetime.now(UTC):
        raise Unusable(
            f"{config.cert_file}: the certificate has ended at {first.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        )
    return Certificate(chain, key, clients, first.not_valid_after_utc.timestamp(), _context(config, clients))


def _context(config: GrpcTlsConfig, clients: bytes | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[config.min_version]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(config.cert_file, config.key_file, password=lambda: b"")
        if clients is not None:
            # Around certificates there may be names in any language.
            context.load_verify_locations(cadata=clients.decode("ascii", "ignore"))
            context.verify_mode = ssl.CERT_REQUIRED
            # Else a client that was let in once would be for hours, whatever is signed or not meanwhile.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
    except (ssl.SSLError, ValueError):  # the latter: nothing at all
        file = config.client_ca_file if clients is not None else config.cert_file
        raise Unusable(f"{file}: expected certificates in PEM that OpenSSL takes") from None
    except OSError as error:
        raise Unusable(f"{error.filename or config.cert_file}: cannot be read") from None
    return context


def watched(
    name: str,
    config: GrpcTlsConfig,
    told: Callable[[bool], object],
    ends: Callable[[float], object],
) -> Watched[Certificate]:
    """The certificate of a listener. ends: is told until when it is good. Raises Unusable."""

    def taken(*contents: bytes) -> Certificate:
        certificate = read(config, *contents)
        ends(certificate.ends)
        return certificate

    files = [config.cert_file, config.key_file, *([config.client_ca_file] if config.client_ca_file else [])]
    return Watched(f"TLS of {name}", [Path(file) for file in files], taken, told=told)


def of_grpc(certificate: Watched[Certificate]) -> grpc.ServerCredentials:
    """Credentials that always are those of the last certificate."""
    shown = certificate.value

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        if certificate.value is shown:
            return None
        shown = certificate.value
        return _configuration(shown)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(shown),
        fetch,  # type: ignore[arg-type]  # None: as before
        shown.clients is not None,
    )


def _configuration(certificate: Certificate) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(certificate.key, certificate.chain)], certificate.clients
    )
