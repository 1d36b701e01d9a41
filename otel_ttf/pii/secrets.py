"""Secrets in texts: private keys, tokens of vendors, and what URLs carry."""

from __future__ import annotations

import re
from collections.abc import Iterator

Span = tuple[int, int]
REDACTED = "[REDACTED]"

# Private keys in PEM, also those that a limit has cut.

PRIVATE_KEY_PATTERNS = (r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY",)
_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_END = re.compile(r"-----END [A-Z0-9 ]{0,60}-----")
_BREAK = r"(?:\s|\\{1,2}[nrt])"
# Headers, then lines; the last one may be short. A sentence that names the header only has none.
_BODY = re.compile(
    rf"(?:{_BREAK}*[A-Za-z][A-Za-z-]{{2,30}}: [^\r\n\\]{{1,200}}){{0,8}}+"
    rf"(?:{_BREAK}*+[A-Za-z0-9+/=]{{16,}}+)++(?:(?:[\r\n]|\\{{1,2}}[nr])++[A-Za-z0-9+/=]++)?"
)


def private_keys(text: str) -> Iterator[Span]:
    """From BEGIN to END; without END as far as the lines of base64 go."""
    floor = 0
    end = _END.search(text) if "-----BEGIN " in text else None
    for begin in _BEGIN.finditer(text):
        if begin.start() < floor:
            continue
        while end is not None and end.start() < begin.end():
            end = _END.search(text, end.end())
        other = text.find("-----BEGIN ", begin.end())
        if end is not None and (other < 0 or end.start() < other):
            floor = end.end()
        else:
            body = _BODY.match(text, begin.end())
            if body is None:
                continue
            floor = body.end()
        yield begin.start(), floor


# Tokens that begin with what their vendor has chosen.

_TOKENS = (
    r"gh[pousr]_[A-Za-z0-9]{20,255}",
    r"github_pat_[A-Za-z0-9_]{22,255}",
    r"gl(?:pat|ptt|dt|rt|cbt|soat)-[A-Za-z0-9_\-]{20,255}",
    r"xox[abeoprs]-[A-Za-z0-9\-]{10,255}",
    r"xapp-[0-9]-[A-Za-z0-9\-]{20,255}",
    r"(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{10,255}",
    r"whsec_[A-Za-z0-9+/]{24,255}",
    r"sk-(?:ant|proj|or|svcacct)-[A-Za-z0-9_\-]{20,255}",
    r"AIza[A-Za-z0-9_\-]{35}",
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-[A-Za-z0-9_\-]{50,255}",
    r"SG\.[A-Za-z0-9_\-]{16,32}\.[A-Za-z0-9_\-]{16,64}",
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}",
    r"dop_v1_[a-f0-9]{64}",
    r"shp(?:at|ss|ca|pa)_[a-fA-F0-9]{32}",
    r"hvs\.[A-Za-z0-9_\-]{24,255}",
    r"dckr_pat_[A-Za-z0-9_\-]{20,255}",
)
TOKEN_PATTERNS = tuple(expression.replace(",255}", "}").replace(",64}", "}") for expression in _TOKENS)
_TOKEN = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(_TOKENS)})[A-Za-z0-9_\-]*")
_AWS = re.compile(r"A[KSBC][IC]A[A-Z2-7]{16}[A-Za-z0-9_\-]")
# xxxxxxxx in a manual is no token.
_VARIETY = 6


def tokens(text: str) -> Iterator[Span]:
    """Tokens of vendors with a prefix of their own."""
    for match in _TOKEN.finditer(text):
        if _AWS.match(text, match.start()) is None and len(set(match[0].lower())) >= _VARIETY + 2:
            yield match.span()


# User, password and secret parameters in URLs.

URL_PATTERNS = (
    r"://[^\x00-\x20/?#@\x22<>\\]*@",
    r"[?&;#][A-Za-z0-9_.\-]{0,30}(?:token|key|keyid|accessid|secret|sig|signature|hmac|password|passwd|pwd"
    r"|passphrase|jwt|auth|authorization|credential|credentials|code|verifier|assertion|session|sessionid|sid|otp)=",
)
_AUTHORITY = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]{0,30})?://([^\s/?#\"'<>\\\x00-\x20]+)")
_PARAMETER = re.compile(r"[?&;#]([A-Za-z0-9_.\-]{1,48})=([^&#\s\"'<>\\\x00-\x20]+)")
# Parameter names without -, _ and dots: what any value is secret of, and how long a value has to be.
_SECRET = {
    **dict.fromkeys(("password", "passwd", "pwd", "passphrase", "clientsecret", "secretkey", "otp"), 1),
    **dict.fromkeys(
        [
            "token",
            "accesstoken",
            "authtoken",
            "apitoken",
            "bearertoken",
            "idtoken",
            "refreshtoken",
            "sessiontoken",
            "csrftoken",
            "xsrftoken",
            "resettoken",
            "securitytoken",
            "privatetoken",
            "jobtoken",
            "oauthtoken",
            "invitetoken",
            "secret",
            "apisecret",
            "appsecret",
            "apikey",
            "xapikey",
            "appkey",
            "accesskey",
            "privatekey",
            "authkey",
            "subscriptionkey",
            "jwt",
            "signature",
            "sig",
            "hmac",
            "credential",
            "credentials",
            "authorization",
            "assertion",
            "codeverifier",
            "xamzsignature",
            "xamzsecuritytoken",
            "xamzcredential",
            "xgoogsignature",
            "xgoogcredential",
            "awsaccesskeyid",
            "googleaccessid",
            "sessionid",
        ],
        6,
    ),
}
# Names of many things: secret only what looks made by chance.
_MAYBE = frozenset(["key", "code", "auth", "session", "sid", "secretid"])
_RANDOM = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_~+/=%\-]{16,}")
_WORDS = frozenset(["true", "false", "null", "none", "undefined", "invalid", "expired", "missing"])
_PLACEHOLDER = re.compile(r"\[(?:REDACTED|TOKEN|PRIVATE_KEY|EMAIL|CARD|IBAN|SSN|PHONE)\]")


def urls(text: str) -> Iterator[Span]:
    """User-info, and the values of secret parameters; names and hosts stay."""
    found = []
    if "://" in text and "@" in text:
        for match in _AUTHORITY.finditer(text):
            scheme = (match[1] or "").lower()
            user, at, host = match[2].rpartition("@")
            # git@ of ssh is everybody's.
            if at and user and host and user != REDACTED and (":" in user or scheme in ("http", "https")):
                found.append((match.start(2), match.start(2) + len(user)))
    if "=" in text:
        found += [match.span(2) for match in _PARAMETER.finditer(text) if _secret(match[1], match[2])]
    end = 0
    for span in sorted(found):
        if span[0] >= end:
            yield span
            end = span[1]


def _secret(name: str, value: str) -> bool:
    bare = name.lower().replace("-", "").replace("_", "").replace(".", "")
    if _PLACEHOLDER.fullmatch(value) or value.lower() in _WORDS:
        return False
    if bare in _MAYBE:
        return _RANDOM.fullmatch(value) is not None
    least = _SECRET.get(bare)
    return least is not None and len(value) >= least
