"""Secrets to plant in texts, in the formats that their makers document."""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives import serialization as formats
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pii_planted import Planted, Source

_B62 = string.ascii_letters + string.digits
_B64URL = _B62 + "-_"
_HEX = "0123456789abcdef"


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _jwt_text(source: Source) -> str:
    r = source.random
    header = {"alg": r.choice(("HS256", "RS256", "ES256")), "typ": "JWT"}
    if r.random() < 0.5:
        header["kid"] = source.chars(_HEX, 16)
    claims = {
        "sub": source.digits(8),
        "iat": r.randint(1_600_000_000, 1_900_000_000),
        "iss": "https://id.example.com",
    }
    parts = [_b64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims)]
    return ".".join([*parts, _b64url(r.randbytes(r.choice((32, 64, 256))))])


def _jwt(source: Source) -> Planted:
    return Planted(_jwt_text(source), source.random.choice(("", "token=", "jwt: ", "Authorization: Bearer ")))


def _vendor(source: Source) -> Planted:
    r, c = source.random, source.chars
    return Planted(
        r.choice(
            (
                lambda: r.choice(("ghp_", "gho_", "ghu_", "ghs_")) + c(_B62, 36),
                lambda: f"github_pat_{c(_B62, 22)}_{c(_B62, 59)}",
                lambda: "glpat-" + c(_B64URL, 20),
                lambda: f"xoxb-{source.digits(12)}-{source.digits(13)}-{c(_B62, 24)}",
                lambda: r.choice(("sk_live_", "rk_live_")) + c(_B62, 24),
                lambda: f"SG.{c(_B64URL, 22)}.{c(_B64URL, 43)}",
                lambda: "npm_" + c(_B62, 36),
                lambda: "pypi-AgEIcHlwaS5vcmc" + c(_B64URL, 120),
                lambda: f"sk-ant-api03-{c(_B64URL, 93)}AA",
                lambda: "AIza" + c(_B64URL, 35),
            )
        )(),
        r.choice(("", "token ", "token=", "key: ")),
    )


def _aws(source: Source) -> Planted:
    r = source.random
    if r.random() < 0.6:
        return Planted(r.choice(("AKIA", "ASIA")) + source.chars(string.ascii_uppercase + "234567", 16))
    return Planted(
        source.chars(_B62 + "/+", 40), r.choice(("aws_secret_access_key=", "AWS_SECRET_ACCESS_KEY: "))
    )


def _private_key(source: Source) -> Planted:
    kind = source.random.choice(("ec", "ed25519", "rsa"))
    key: Any = (
        ec.generate_private_key(ec.SECP256R1())
        if kind == "ec"
        else ed25519.Ed25519PrivateKey.generate()
        if kind == "ed25519"
        else rsa.generate_private_key(65537, 1024)
    )
    shapes = [formats.PrivateFormat.PKCS8, formats.PrivateFormat.OpenSSH]
    shape = source.random.choice(
        shapes if kind == "ed25519" else [*shapes, formats.PrivateFormat.TraditionalOpenSSL]
    )
    pem = key.private_bytes(formats.Encoding.PEM, shape, formats.NoEncryption()).decode().strip()
    return Planted(pem, "key: ")


def _authorization(source: Source) -> Planted:
    r = source.random
    if r.random() < 0.5:
        return Planted(
            source.chars(_B64URL, r.randint(20, 60)),
            r.choice(("Authorization: Bearer ", "authorization=Bearer ")),
        )
    pair = f"{source.faker('en_US').user_name()}:{source.chars(_B62, r.randint(6, 16))}"
    return Planted(base64.b64encode(pair.encode()).decode(), "Authorization: Basic ")


def _url_login(source: Source) -> Planted:
    r = source.random
    scheme = r.choice(("https", "postgres", "amqp", "redis", "mongodb+srv", "mysql"))
    password = source.chars(_B62 + "-_.~!", r.randint(6, 20))
    return Planted(password, f"{scheme}://{source.faker('en_US').user_name()}:", "@db.example.com:5432/app")


def _url_query(source: Source) -> Planted:
    r = source.random
    name = r.choice(
        [
            "access_token",
            "token",
            "api_key",
            "apikey",
            "sig",
            "signature",
            "password",
            "client_secret",
            "X-Amz-Signature",
        ]
    )
    return Planted(
        source.chars(_HEX if "ig" in name else _B62, r.randint(24, 64)),
        f"https://api.example.com/v1/x?page=2&{name}=",
        r.choice(("", "&state=ok")),
    )


def _pair(source: Source) -> Planted:
    r = source.random
    name = r.choice(
        ["password", "passwd", "pwd", "secret", "client_secret", "api_key", "apiKey", "db_password"]
    )
    return Planted(
        source.chars(_B62 + "!$%^*", r.randint(8, 24)),
        *r.choice(((f"{name}=", " "), (f"{name}: ", " "), (f'"{name}": "', '"'), (f"{name}='", "'"))),
    )


# Corpus -> what makes its values.
SECRET: Mapping[str, Callable[[Source], Planted]] = {
    "jwt": _jwt,
    "vendor token": _vendor,
    "aws key": _aws,
    "private key": _private_key,
    "authorization": _authorization,
    "URL login": _url_login,
    "URL query": _url_query,
    "password pair": _pair,
}
