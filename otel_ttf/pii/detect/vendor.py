"""Tokens that vendors mark with a prefix of their own, or that an address of theirs marks.

Prefixes and lengths are what is widely known of the vendors' tokens, not checked with each of them: they change. Where
lengths vary or grow, only the least counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from otel_ttf.pii.detect.base import Detector, Span

# What stands before a token: no letter and no digit, but those of an escape.
BOUNDARY = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=%[0-9A-Fa-f][0-9A-Fa-f]))"

_ALNUM = "A-Za-z0-9"
_WORD = r"A-Za-z0-9_\-"
_HEX = "a-f0-9"
# Vendor, how it begins (literally, before anything else), characters that follow, how many at least.
_TOKENS = (
    ("1Password", "ops_ey", _WORD, 100),
    ("Adafruit", "aio_", _ALNUM, 28),
    ("Anthropic, OpenAI, OpenRouter", "sk-(?:ant|proj|or|svcacct|admin|lf)-", _WORD, 20),
    ("Atlassian", "AT(?:ATT|CTT)3", r"A-Za-z0-9_\-=", 60),
    ("Bitbucket", "ATBB", _ALNUM, 28),
    ("Braintree", r"access_token\$(?:production|sandbox)\$[0-9a-z]{16}\$", _HEX, 32),
    ("Brevo", "xkeysib-", _HEX, 64),
    ("Buildkite", "bkua_", _HEX, 40),
    ("CircleCI", "CCIPAT_", _WORD, 40),
    ("Clojars", "CLOJARS_", _ALNUM, 60),
    ("Contentful", "CFPAT-", _WORD, 43),
    ("DigitalOcean", "do[por]_v1_", _HEX, 64),
    ("Docker", "dckr_[po]at_", _WORD, 20),
    ("Doppler", r"dp\.(?:pt|st|ct|sa|scim|audit)\.(?:[a-z0-9_\-]{2,35}\.)?", _ALNUM, 40),
    ("Duffel", "duffel_(?:test|live)_", _WORD, 43),
    ("Dynatrace", r"dt0[a-z][0-9]{2}\.[A-Z0-9]{24}\.", "A-Z0-9", 64),
    ("Figma", "fig[dou]_", _WORD, 36),
    ("Fly.io", "Fly(?:V1 fm[12]_|V1 fo1_)", r"A-Za-z0-9_\-+/=,", 40),
    ("Fly.io", "fo1_", _WORD, 43),
    ("GitHub", "gh[pousr]_", _ALNUM, 20),
    ("GitHub", "github_pat_", r"A-Za-z0-9_", 22),
    ("GitLab", "gl(?:pat|ptt|dt|rt|cbt|soat|ft|imt|agent|ffct|oas|rtr|wt)-", r"A-Za-z0-9_\-.", 20),
    ("Google", "AIza", _WORD, 35),
    ("Google", "GOCSPX-", _WORD, 24),
    ("Google", r"ya29\.", r"A-Za-z0-9_\-.", 20),
    ("Google", "1//0", _WORD, 40),
    ("Grafana", "glsa_", r"A-Za-z0-9_", 41),
    ("Grafana", "glc_eyJ", r"A-Za-z0-9+/=", 40),
    ("Groq", "gsk_", _ALNUM, 48),
    ("Heroku", "HRKU-", _WORD, 36),
    ("HubSpot", "pat-(?:na|eu|ap)[0-9]-", r"a-f0-9\-", 36),
    ("Hugging Face", "hf_", _ALNUM, 30),
    ("Hugging Face", "api_org_", _ALNUM, 30),
    ("LangSmith", "lsv2_(?:pt|sk)_", r"a-f0-9_", 40),
    ("Linear", "lin_(?:api|oauth)_", _ALNUM, 32),
    ("Netlify", "nfp_", _ALNUM, 36),
    ("New Relic", "NR(?:AK|JS|II|RA|BR|SP|IQ)-", r"A-Za-z0-9_\-", 20),
    ("Notion", "ntn_", _ALNUM, 40),
    ("Notion", "secret_", _ALNUM, 43),
    ("npm", "npm_", _ALNUM, 36),
    ("OpenAI, DeepSeek", "sk-", _ALNUM, 32),
    ("Perplexity", "pplx-", _ALNUM, 40),
    ("Plaid", "access-(?:sandbox|development|production)-", r"a-f0-9\-", 36),
    ("PlanetScale", "pscale_(?:tkn|pw|oauth)_", _WORD, 32),
    ("PostHog", "ph[xs]_", _ALNUM, 32),
    ("Postman", "PMAK-[a-f0-9]{24}-", _HEX, 34),
    ("Prefect", "pn[ub]_", _ALNUM, 36),
    ("PyPI", "pypi-", _WORD, 50),
    ("Render", "rnd_", _ALNUM, 28),
    ("Replicate", "r8_", _ALNUM, 37),
    ("Resend", f"re_[{_ALNUM}]{{8}}_", _ALNUM, 24),
    ("RubyGems", "rubygems_", _HEX, 48),
    ("SendGrid", r"SG\.[A-Za-z0-9_\-]{16,32}\.", _WORD, 16),
    ("Sentry", "sntry[us]_", r"A-Za-z0-9_+/=", 40),
    ("Shippo", "shippo_(?:live|test)_", _HEX, 40),
    ("Shopify", "shp(?:at|ss|ca|pa)_", "a-fA-F0-9", 32),
    ("Slack", "xox[abceoprs](?:-[0-9])?-", r"A-Za-z0-9\-", 10),
    ("Slack", "xoxe[.-]xox[bp]-", r"A-Za-z0-9\-", 10),
    ("Slack", "xapp-[0-9]-", r"A-Za-z0-9\-", 20),
    ("Sourcegraph", "sgp_", r"A-Za-z0-9_", 40),
    ("Square", "sq0(?:atp|csp|idp)-", _WORD, 22),
    ("Stripe", "sk_(?:live|test|prod)_", _ALNUM, 10),
    ("Stripe", "rk_(?:live|test|prod)_", _ALNUM, 10),
    ("Stripe", "whsec_", r"A-Za-z0-9+/", 24),
    ("Supabase", "sbp_", _HEX, 40),
    ("Supabase", "sb_secret_", _WORD, 22),
    ("Tailscale", "tskey-[a-z]{2,10}-", _WORD, 16),
    ("Typeform", "tfp_", r"A-Za-z0-9_\-.", 40),
    ("Vault", r"hv[sbr]\.", _WORD, 24),
    ("xAI", "xai-", _ALNUM, 60),
    ("otel_ttf", "ttfk_[a-z2-7]{8}_", "a-z2-7", 52),
    ("PASETO", r"v[1-4]\.(?:local|public)\.", r"A-Za-z0-9_\-.", 40),
)
# The same with the number there is of them: with more, it is something else.
_EXACT = (
    ("Age", "AGE-SECRET-KEY-1", "A-Z0-9", "58"),
    ("Airtable", rf"pat[{_ALNUM}]{{14}}\.", _HEX, "64"),
    ("Alibaba", "LTAI", _ALNUM, "12,20"),
    ("Crates", "cio", _ALNUM, "32"),
    ("Databricks", "dapi", _HEX, "32"),
    ("EasyPost", "EZ[AT]K", _ALNUM, "54"),
    ("JFrog", "AKCp", _ALNUM, "65,80"),
    ("NuGet", "oy2", "a-z0-9", "43"),
    ("Pulumi", "pul-", _HEX, "40"),
    ("Twilio", "SK", _HEX, "32"),
)
# Vendor, what a text has to hold in lower case, superset, expression; the token is the group, or else the whole.
_OTHERS = (
    (
        "Telegram",
        ":aa",
        r":AA[A-Za-z0-9_\-]{33}",
        r"(?<![0-9])[0-9]{8,10}:AA[A-Za-z0-9_\-]{33}(?![A-Za-z0-9_\-])",
    ),
    ("New Relic", "nral", r"[a-f0-9]{36}NRAL", rf"{BOUNDARY}[a-f0-9]{{36}}NRAL(?![A-Za-z0-9])"),
    (
        "Terraform",
        ".atlasv1.",
        r"\.atlasv1\.[A-Za-z0-9_=\-]{16}",
        r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=\-]{60,255}",
    ),
    ("Entra", "q~", r"[0-9]Q~[A-Za-z0-9_~.\-]{31}", r"[A-Za-z0-9_~.\-]{3}[0-9]Q~[A-Za-z0-9_~.\-]{31,34}"),
    (
        "Azure DevOps",
        "azdo",
        r"[A-Za-z0-9]{16}AZDO[A-Za-z0-9]{4}",
        r"[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}(?![A-Za-z0-9])",
    ),
    (
        "Azure Storage",
        "+ast",
        r"[A-Za-z0-9/+]{16}\+ASt[A-Za-z0-9/+]{6}==",
        r"[A-Za-z0-9/+]{76}\+ASt[A-Za-z0-9/+]{6}==",
    ),
    (
        "Slack",
        "hooks.slack.com",
        r"hooks\.slack\.com",
        r"(?i:hooks\.slack\.com)/[a-z]{4,12}/([A-Za-z0-9/_+\-]{20,255})",
    ),
    ("Teams", "/incomingwebhook/", r"/IncomingWebhook/", r"/(?i:IncomingWebhook)/([A-Za-z0-9/\-]{32,255})"),
    (
        "Discord",
        "/webhooks/",
        r"/webhooks/[0-9]{16}",
        r"/(?i:webhooks)/[0-9]{16,20}/([A-Za-z0-9_\-]{40,100})",
    ),
    # These three are hashes to anybody who does not read the vendor's name beside them.
    ("Mailgun", "mailgun", "mailgun", rf"{BOUNDARY}key-[a-f0-9]{{32}}(?![A-Za-z0-9])"),
    ("Mailchimp", "mailchimp", "mailchimp", rf"{BOUNDARY}[a-f0-9]{{32}}-us[0-9]{{1,2}}(?![A-Za-z0-9])"),
    (
        "Discord",
        "discord",
        "discord",
        rf"{BOUNDARY}[MNO][A-Za-z0-9_\-]{{22,27}}\.[A-Za-z0-9_\-]{{6}}\.[A-Za-z0-9_\-]{{27,45}}(?![A-Za-z0-9_\-])",
    ),
)
# The longest piece of a token's characters that the scan asks for.
_ASKED = 16
# What manuals write.
_MANUAL = re.compile(
    r"your|example|placeholder|changeme|redacted|xxxx|0123456789abcdef0123", re.IGNORECASE | re.ASCII
)
_NAME = re.compile(r"[a-z]*(?:[_.\-][a-z]*)*")
_VARIETY = 6
_SPECIAL = frozenset(r"[(\.")


def _supersets() -> tuple[str, ...]:
    rows = [(prefix, alphabet, least) for _, prefix, alphabet, least in _TOKENS]
    rows += [(prefix, alphabet, int(counts.split(",")[0])) for _, prefix, alphabet, counts in _EXACT]
    found = [f"{prefix}[{alphabet}]{{{min(least, _ASKED)}}}" for prefix, alphabet, least in rows]
    return (*found, *(superset for _, _, superset, _ in _OTHERS))


def _expression() -> str:
    """All of them by their first character, so that most places of a text are passed over at once."""
    rows = [
        (prefix, rf"[{alphabet}]{{{least},255}}+[A-Za-z0-9_\-]*+") for _, prefix, alphabet, least in _TOKENS
    ]
    rows += [(prefix, f"[{alphabet}]{{{counts}}}(?![A-Za-z0-9])") for _, prefix, alphabet, counts in _EXACT]
    tree: dict[str, dict[str, list[str]]] = {}
    for prefix, rest in rows:
        size = 2 if prefix[1] not in _SPECIAL else 1
        tree.setdefault(prefix[0], {}).setdefault(prefix[:size], []).append(prefix[size:] + rest)
    # The boundary is looked at when two characters are right: a search that begins with it is slow everywhere.
    return "|".join(
        f"{first}(?:{'|'.join(f'{begin[1:]}{_behind(begin)}(?:{_either(some)})' for begin, some in below.items())})"
        for first, below in tree.items()
    )


def _behind(begin: str) -> str:
    return BOUNDARY.replace("])", f"]{begin})")


def _either(some: Sequence[str]) -> str:
    return "|".join(some)


_TOKEN = re.compile(_expression())
_OTHER = tuple((hint, re.compile(expression, re.ASCII)) for _, hint, _, expression in _OTHERS)


def is_varied(token: str) -> bool:
    """Whether it is none of a manual: not `xxxx`, not `your-token-here`."""
    tail = token[len(token) // 3 :]
    return len(set(tail)) >= _VARIETY and _MANUAL.search(tail) is None and _NAME.fullmatch(tail) is None


class Vendor(Detector):
    """Tokens whose vendor can be told."""

    name: ClassVar[str] = "token"
    secret: ClassVar[bool] = True
    label: ClassVar[str] = "TOKEN"
    supersets: ClassVar[tuple[str, ...]] = _supersets()

    def find(self, text: str) -> Iterator[Span]:
        end = 0
        for start, stop in sorted(_found(text)):
            stop -= len(text[start:stop]) - len(text[start:stop].rstrip(".,"))
            if start >= end and is_varied(text[start:stop]):
                yield start, stop
                end = stop


def _found(text: str) -> Sequence[Span]:
    found = [match.span() for match in _TOKEN.finditer(text)]
    lower = text.lower()
    for hint, expression in _OTHER:
        if hint in lower:
            found += [match.span(match.lastindex or 0) for match in expression.finditer(text)]
    return found
