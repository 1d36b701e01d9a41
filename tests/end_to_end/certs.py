"""Authorities, and certificates that they have signed."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


@dataclass(frozen=True)
class Pair:
    """PEM of a certificate and its key."""

    cert: bytes
    key: bytes
    serial: int

    def put(self, folder: Path, name: str) -> tuple[str, str]:
        """Writes both; their paths."""
        cert, key = folder / f"{name}.crt", folder / f"{name}.key"
        cert.write_bytes(self.cert)
        key.write_bytes(self.key)
        return str(cert), str(key)


class Authority:
    """Signs certificates for localhost and 127.0.0.1."""

    def __init__(self, name: str = "an authority") -> None:
        self._name = _named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        made = self._begun(self._name, self._key.public_key(), 10).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.pem = made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _begun(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: float
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=days))
        )

    def sign(self, name: str = "somebody", *, days: float = 5, password: bytes | None = None) -> Pair:
        """A certificate that is good for so many days."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        )
        made = self._begun(_named(name), key.public_key(), days).add_extension(names, critical=False)
        signed = made.sign(self._key, hashes.SHA256())
        locked = BestAvailableEncryption(password) if password else NoEncryption()
        return Pair(
            signed.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked),
            signed.serial_number,
        )

    def trusting(self, folder: Path, own: Pair | None = None) -> ssl.SSLContext:
        """A client that trusts it. own: what the client shows."""
        context = ssl.create_default_context(cadata=self.pem.decode())
        if own is not None:
            context.load_cert_chain(*own.put(folder, f"client-{own.serial}"))
        return context


def serial_of(context: ssl.SSLContext, port: int) -> int:
    """The number of the certificate that is shown at a port."""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number
