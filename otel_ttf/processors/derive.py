"""What enrich derives from attributes as they came, before they are masked: one class each, with its configuration.

What is derived stands in attributes of its own, and is masked like what was sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.bucket import Bucket
from otel_ttf.processors.base import Derivation, Pairs, ProcessorRefused
from otel_ttf.processors.files import Watched
from otel_ttf.processors.lookup import MAX_BYTES, Scalar, table

MAX_TEXT = 1024  # letters; from a longer one nothing is derived
NEW_A_SECOND = 500  # user agents: each takes 0.1 to 1 ms
_REMEMBERED = 4096


class _Sourced(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class CountryConfig(_Sourced):
    """The country of an IP address, by a file on this machine."""

    database: str = Field(
        description="MMDB file, such as GeoLite2-Country.mmdb; one that is put in its place is read within seconds."
    )
    from_: tuple[str, ...] = Field(
        ("client.address",),
        alias="from",
        min_length=1,
        description="Attributes with the address: the first present counts; of `a, b` the first.",
    )
    to: str = Field("geo.country.iso_code", min_length=1, description="Attribute: two letters, such as DE.")


class UserAgentConfig(_Sourced):
    """Families of browser and operating system, such as Firefox and Windows, without versions."""

    from_: tuple[str, ...] = Field(
        ("user_agent.original", "http.user_agent"),
        alias="from",
        min_length=1,
        description="Attributes with the user agent: the first present counts.",
    )
    browser: str = Field("user_agent.name", min_length=1, description="Attribute with the browser's family.")
    os: str = Field("user_agent.os.name", min_length=1, description="Attribute with the system's family.")


class EmailDomainConfig(_Sourced):
    """The part of an e-mail address behind the @, in small letters."""

    from_: tuple[str, ...] = Field(
        ("user.email",),
        alias="from",
        min_length=1,
        description="Attributes with the address: the first present counts.",
    )
    to: str = Field("ttf.email_domain", min_length=1, description="Attribute with the domain.")


class LookupConfig(_Sourced):
    """Attributes by a table: a CSV file with a line of names first, or a JSON file with a list of objects."""

    file: str = Field(
        description=f"Path, up to {MAX_BYTES >> 20} MiB. It is read again within seconds when it changes; an invalid "
        "one changes nothing. Put a new one in its place by renaming."
    )
    column: str = Field(min_length=1, description="Column that is looked up; each value once.")
    from_: tuple[str, ...] = Field(
        alias="from",
        min_length=1,
        description="Attributes whose value is looked up, as it came: the first present counts.",
    )
    columns: dict[str, str] = Field(
        min_length=1, description="Column: attribute that gets its value; an empty one is left out."
    )


def pair(key: str, value: Scalar) -> bytes:
    """An encoded attribute."""
    match value:
        case bool():
            made = AnyValue(bool_value=value)
        case int():
            made = AnyValue(int_value=value)
        case float():
            made = AnyValue(double_value=value)
        case _:
            made = AnyValue(string_value=value)
    return bytes(KeyValue(key=key, value=made).SerializeToString())


def _module(name: str, setting: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise ProcessorRefused(
            f"{setting}: expected the Python package {name}, found none: pip install 'otel-ttf[{extra}]', "
            "or take the setting out"
        ) from None


def country(config: CountryConfig, setting: str) -> Derivation:
    """By the reader of MMDB files. Raises ProcessorRefused."""
    maxminddb = _module("maxminddb", setting, "geo")

    def opened(path: Path) -> Callable[[str], Pairs]:
        path.open("rb").close()
        try:
            # Into memory: a file that is written over while it is mapped would end the process.
            get = maxminddb.open_database(path, maxminddb.MODE_MEMORY).get
        except (maxminddb.InvalidDatabaseError, ValueError, LookupError, TypeError):
            raise ValueError("expected an MMDB file, found another") from None

        @lru_cache(maxsize=_REMEMBERED)
        def of(text: str) -> Pairs:
            try:
                found = get(text.partition(",")[0].strip())
            except (maxminddb.InvalidDatabaseError, ValueError, LookupError, TypeError):  # no address; damage
                return ()
            code = _code(found)
            return () if code is None else ((config.to, pair(config.to, code)),)

        return of

    file = Watched(f"{setting}.database", Path(config.database), opened)
    return Derivation(
        "country", config.from_, frozenset([config.to]), lambda text: file.value(text), file.look
    )


def _code(found: object) -> str | None:
    """The country of an entry, as MaxMind and DB-IP write it, or IPinfo."""
    if isinstance(found, Mapping):
        inner = found.get("country")
        code = inner.get("iso_code") if isinstance(inner, Mapping) else found.get("country_code", inner)
        if isinstance(code, str) and code:
            return code
    return None


def user_agent(config: UserAgentConfig, setting: str) -> Derivation:
    """By the patterns of uap-core, which RE2 runs: no user agent takes it long. Raises ProcessorRefused."""
    parsers = _module("ua_parser", setting, "useragent")
    matchers = import_module("ua_parser.loaders").load_builtins()
    # The quickest engine that is installed: at least RE2.
    parser = parsers.Parser(parsers.BestAvailableResolver(matchers))

    known: dict[str, Pairs] = {}
    fresh = Bucket(NEW_A_SECOND, _REMEMBERED)

    def of(text: str) -> Pairs | None:
        told = known.get(text)
        if told is None:
            # Whoever makes them up must not have all of a processor for it.
            if not fresh.part(1, time.monotonic_ns()):
                return None
            if len(known) >= _REMEMBERED:
                known.clear()
            told = known[text] = parsed(text)
        return told

    def parsed(text: str) -> Pairs:
        found = ((config.browser, parser.parse_user_agent(text)), (config.os, parser.parse_os(text)))
        return tuple((key, pair(key, one.family)) for key, one in found if one is not None)

    return Derivation("user_agent", config.from_, frozenset([config.browser, config.os]), of)


def email_domain(config: EmailDomainConfig) -> Derivation:
    """What stands behind the only @."""

    def of(text: str) -> Pairs:
        name, at, domain = text.rpartition("@")
        domain = domain.lower().rstrip(".")
        if not at or not name or "@" in name or "." not in domain or len(domain) > 253 or " " in domain:
            return ()
        if len(domain.rpartition(".")[2]) < 2:  # no such domain; nobody takes it for an address and masks it
            return ()
        return ((config.to, pair(config.to, domain)),)

    return Derivation("email_domain", config.from_, frozenset([config.to]), of)


def lookup(config: LookupConfig, setting: str) -> Derivation:
    """By a table in memory. Raises ProcessorRefused."""

    def read(path: Path) -> Mapping[str, Pairs]:
        same: dict[tuple[Scalar, ...], Pairs] = {}  # many keys have the same few rows

        def row(values: tuple[Scalar, ...]) -> Pairs:
            if values not in same:
                told = zip(config.columns.values(), values, strict=True)
                same[values] = tuple((key, pair(key, value)) for key, value in told if value != "")
            return same[values]

        return table(path, config.column, tuple(config.columns), row)

    file = Watched(f"{setting}.file", Path(config.file), read)
    targets = frozenset(config.columns.values())
    return Derivation("lookups", config.from_, targets, lambda text: file.value.get(text, ()), file.look)


MAKERS: Mapping[str, Callable[[Any, str], Derivation]] = {
    "country": country,
    "user_agent": user_agent,
    "email_domain": lambda config, _: email_domain(config),
}


def made(configs: Mapping[str, Any], lookups: Mapping[str, LookupConfig]) -> list[Derivation]:
    """All that are configured, in order. Raises ProcessorRefused."""
    makers = [
        *(partial(MAKERS[name], config, f"processors.enrich.{name}") for name, config in configs.items()),
        *(partial(lookup, one, f"processors.enrich.lookups.{name}") for name, one in lookups.items()),
    ]
    return [maker() for maker in makers]
