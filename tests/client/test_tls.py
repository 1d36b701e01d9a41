"""Over TLS: a certificate that is not believed, one that is, and the client's own."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from answering import Answering, FakeServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from server_process import wait_for

from otel_ttf.client import TelemetryClient, TelemetryError

ClientOf = Callable[..., TelemetryClient]


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


@contextmanager
def serving(folder: Path, believed: Path | None = None) -> Iterator[tuple[FakeServer, Path]]:
    """A server and its certificate. believed: it wants such a certificate of its clients."""
    certificate, key = self_signed(folder, "server")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    if believed is not None:
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.load_verify_locations(believed)
    with FakeServer(tls) as server:
        yield server, certificate


def test_a_certificate_that_is_believed_is_good_for_events_and_questions(
    tmp_path: Path, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(self_signed(tmp_path, "other")[0]))
    with serving(tmp_path) as (server, certificate):
        client = client_of(server.url, ca_file=certificate, api_key="k")
        client.track_event("e")
        assert client.flush_events()
        server.always = Answering(body=b"[]")
        assert client.check_ttf_alerts("ada") == []
        assert {came.headers["authorization"] for came in server.came} == {"Bearer k"}


def test_an_answer_that_comes_byte_by_byte_is_not_waited_for_any_longer(
    tmp_path: Path, client_of: ClientOf
) -> None:
    with serving(tmp_path) as (server, certificate):
        server.always = Answering(dripped=b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n[")
        client = client_of(server.url, ca_file=certificate, timeout=0.5)
        with pytest.raises(TelemetryError, match=r"no answer within 0\.5 s"):
            client.check_ttf_alerts("ada")


def test_to_one_that_is_not_nothing_goes(
    tmp_path: Path, client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path) as (server, _):
        client = client_of(server.url)
        client.track_event("e")
        wait_for(lambda: "no TLS connection" in caplog.text, "the warning")
        with pytest.raises(TelemetryError, match="no TLS connection"):
            client.check_ttf_alerts("ada")
        assert server.came == []
        assert client.counts.waiting == 1
        client.close(0)  # before its server: see below


def test_a_server_that_wants_one_of_its_clients_gets_it(tmp_path: Path, client_of: ClientOf) -> None:
    ours, key = self_signed(tmp_path, "ours")
    with serving(tmp_path, believed=ours) as (server, certificate):
        client = client_of(server.url, ca_file=certificate, client_cert=ours, client_key=key)
        client.track_event("e")
        assert client.flush_events()
        stranger = client_of(server.url, ca_file=certificate)
        stranger.track_event("e")
        assert not stranger.flush_events(0.5)
        assert len(server.came) == 1
        stranger.close(0)  # SSLSocket of Python 3.11 leaves one open whose peer ends between two of its steps
