"""What stands in a listener's files: what can be used, and what is said of the rest."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from certs import Authority

from otel_ttf.access.tls import TlsConfig, read
from otel_ttf.access.watch import Unusable

CA = Authority()
EC_KEY, NO_KEY = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0207")


@pytest.fixture
def listener(tmp_path):
    cert, key = CA.sign().put(tmp_path, "listener")
    return TlsConfig(cert_file=cert, key_file=key, client_ca_file=str(tmp_path / "clients.crt"))


def contents(listener):
    return Path(listener.cert_file).read_bytes(), Path(listener.key_file).read_bytes()


def test_names_in_any_language_may_stand_around_certificates_of_clients(listener):
    assert read(listener, *contents(listener), "# Ämter\n".encode() + CA.pem).clients


@pytest.mark.parametrize(
    "clients",
    [
        pytest.param(b"", id="nothing, as while it is written"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(CA.pem[:100], id="half a one"),
        pytest.param(b"# none\n", id="a remark"),
    ],
)
def test_without_certificates_of_clients_it_cannot_be_used(listener, clients):
    with pytest.raises(Unusable, match=r"clients\.crt: expected certificates in PEM"):
        read(listener, *contents(listener), clients)


def test_a_certificate_of_a_key_that_is_not_known_is_named(listener):
    chain, key = contents(listener)
    der = ssl.PEM_cert_to_DER_cert(chain.decode())
    assert EC_KEY in der
    strange = ssl.DER_cert_to_PEM_cert(der.replace(EC_KEY, NO_KEY)).encode()
    with pytest.raises(Unusable, match=r"listener\.crt: expected the certificate of an RSA or EC key"):
        read(listener, strange, key)
