"""What stands between the doors and callers, as configured: certificates, keys, names."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from otel_ttf.access import tls
from otel_ttf.access.config import OidcConfig
from otel_ttf.access.gate import Gate, Tokens
from otel_ttf.access.hosts import Hosts, loopback
from otel_ttf.access.keys import FILE, SHORTEST, VARIABLE, ApiKey, KeysUnreadable, parse
from otel_ttf.access.tls import Certificate
from otel_ttf.access.watch import Unusable, Watched, watching
from otel_ttf.commands import Given
from otel_ttf.config import CannotStart, Config
from otel_ttf.config.model import ApiListener, HttpListener
from otel_ttf.files import LOG_FILE
from otel_ttf.receivers.endpoint import split
from otel_ttf.receivers.http_server import Tls
from otel_ttf.remembered import remember, remembered
from otel_ttf.telemetry import Telemetry
from otel_ttf.units import SECOND

KEYS_EVERY = 1.0  # seconds; a key that is revoked gets nobody in after twice this
_REMEMBERED = "api keys"  # in log.db: where they were

log = structlog.get_logger()


def keys_file(config: Config, data_dir: Path) -> Path:
    """Where API keys are."""
    return Path(config.auth.keys_file) if config.auth.keys_file is not None else data_dir / FILE


async def gate(
    config: Config,
    data_dir: Path,
    telemetry: Telemetry,
    stack: AsyncExitStack,
    given: Given,
    watched: list[Watched[Any]],
    env: Mapping[str, str] = os.environ,
) -> Gate | None:
    """Asks callers who they are, with keys that are read again when their file changes. None: nobody is asked.

    watched  gets what is read again
    Raises CannotStart: there should be keys, and there are none.
    """
    file, book = keys_file(config, data_dir), data_dir / LOG_FILE
    own = (env.get(VARIABLE) or "").strip() or None
    if config.auth.required is False:
        if own is not None or file.exists():
            log.warning("there are API keys, and nobody is asked for one", setting="auth.required: false")
        return None
    if own is not None and len(own) < SHORTEST:
        raise CannotStart(
            f"{VARIABLE}: expected at least {SHORTEST} characters; `otel-ttf api-keys new` makes a key", 2
        )
    there = file.exists()
    oidc = config.auth.oidc
    others = own is not None or oidc is not None
    if not there and not others and _were_there(book, file):
        raise CannotStart(
            f"{file} is gone, and with it who may send and ask: put it back from your copy, or make new keys with "
            f"`{given.command('api-keys new')}`; auth.required: false asks nobody",
            2,
        )
    if not there and (config.auth.keys_file is not None or (config.auth.required and not others)):
        raise CannotStart(
            f"auth: {file} is not there, so nobody could come in with a key: make one with "
            f"`{given.command('api-keys new')}`",
            2,
        )
    if not there and not others:
        return None
    changed: list[Gate] = []
    try:
        keys = Watched[tuple[ApiKey, ...]](
            "API keys",
            [file],
            partial(_keys, file),
            absent=(),
            change=lambda keys: changed[0].change(keys),
            told=partial(telemetry.files_read, "api_keys"),
        )
    except Unusable as error:
        raise CannotStart(f"auth: {error}", 2) from None
    watched.append(keys)
    if there:
        remember(book, _REMEMBERED, str(file.absolute()))
    if there and not keys.value and not others:
        log.warning("there is no API key any more, so nobody can send or ask", file=str(file))
    issuer = await _issuer(oidc, telemetry, stack) if oidc is not None else None
    refusals = config.auth.refusals_per_second
    changed.append(Gate(telemetry, config.auth.limits, keys.value, own, issuer, refusals=refusals))
    await stack.enter_async_context(watching([(keys, KEYS_EVERY)]))
    return changed[0]


async def _issuer(config: OidcConfig, telemetry: Telemetry, stack: AsyncExitStack) -> Tokens:
    """Raises CannotStart."""
    from otel_ttf.access.oidc import Issuer

    try:
        issuer = Issuer(config, told=partial(telemetry.files_read, "issuer_keys"))
    except Unusable as error:
        raise CannotStart(str(error), 2) from None
    stack.push_async_callback(issuer.close)
    issuer.prepare()
    return issuer


def _were_there(book: Path, file: Path) -> bool:
    """Whether this file was there at an earlier start."""
    try:
        return remembered(book, _REMEMBERED) == str(file.absolute())
    except sqlite3.Error:
        return False


def _keys(file: Path, content: bytes) -> tuple[ApiKey, ...]:
    """Raises Unusable."""
    try:
        return parse(content.decode())
    except UnicodeDecodeError:
        raise Unusable(
            f"{file}: expected keys as `otel-ttf api-keys new` writes them, found no text"
        ) from None
    except KeysUnreadable as error:
        raise Unusable(f"{file}: {error}") from None


async def certificates(
    config: Config, telemetry: Telemetry, stack: AsyncExitStack, watched: list[Watched[Any]]
) -> dict[str, Watched[Certificate]]:
    """Those of the listeners that speak TLS: grpc, http, api; read again when they change. Raises CannotStart.

    watched  gets what is read again
    """
    protocols = config.receivers.otlp.protocols
    found: dict[str, Watched[Certificate]] = {}
    intervals = []
    for name, setting, listener in (
        ("grpc", "receivers.otlp.protocols.grpc.tls", protocols.grpc),
        ("http", "receivers.otlp.protocols.http.tls", protocols.http),
        ("api", "api.tls", config.api),
    ):
        if listener is None or listener.tls is None:
            continue
        try:
            found[name] = tls.watched(
                name,
                listener.tls,
                partial(telemetry.files_read, f"{name}_tls"),
                partial(telemetry.certificate_ends, name),
            )
        except Unusable as error:
            raise CannotStart(f"{setting}: {error}", 2) from None
        intervals.append((found[name], listener.tls.reload_interval / SECOND))
    watched += found.values()
    await stack.enter_async_context(watching(intervals))
    return found


def http_tls(name: str, certificate: Watched[Certificate] | None, telemetry: Telemetry) -> Tls | None:
    """For a listener of HTTP."""
    if certificate is None:
        return None
    return Tls(lambda: certificate.value.context, telemetry.handshakes_failed(name).inc)


def notes(watched: Iterable[Watched[Any]]) -> list[str]:
    """For /ready: files that changed to what cannot be used."""
    return [
        f"{one.what}: the files that are there now cannot be used, those before them count: {one.trouble}"
        for one in watched
        if one.trouble is not None
    ]


def hosts(listener: HttpListener | ApiListener) -> Hosts | None:
    """By which names it may be called. None: by any."""
    if listener.hosts or loopback(split(listener.endpoint)[0]):
        return Hosts(listener.hosts)
    return None


def demo_refused(config: Config, gate: Gate | None, env: Mapping[str, str] = os.environ) -> str | None:
    """Why the demo cannot send by OTLP/gRPC. None: it can."""
    grpc = config.receivers.otlp.protocols.grpc
    if grpc is not None and grpc.tls is not None:
        return "--demo sends without TLS, and receivers.otlp.protocols.grpc.tls is set"
    if gate is not None and not env.get(VARIABLE):
        return f"--demo needs an API key in the environment: set {VARIABLE}"
    return None
