"""What a client is told, by argument or environment. What cannot be is said, and the default taken: nothing raises."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from otel_ttf.client.tell import Tell

URL, KEY = "TELEMETRY_API_URL", "TELEMETRY_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8080"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Options:
    """What holds. Durations in seconds; url: without a slash at its end, None: nothing can be sent or asked.

    certificate  (file, file with its key or None), for mTLS
    """

    url: str | None
    key: str | None
    service_name: str | None
    max_queue: int
    max_queue_bytes: int
    flush_interval: float
    timeout: float
    exit_timeout: float
    ca_file: str | None
    certificate: tuple[str, str | None] | None
    enabled: bool

    @property
    def loopback(self) -> bool:
        """A proxy is no way to this machine."""
        return urlsplit(self.url or "").hostname in _LOOPBACK

    @property
    def place(self) -> str:
        """The server's address for people, without a login that may stand in it."""
        parts = urlsplit(self.url or "")
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def options(
    tell: Tell,
    *,
    api_url: object,
    api_key: object,
    service_name: object,
    max_queue: object,
    max_queue_bytes: object,
    flush_interval: object,
    timeout: object,
    exit_timeout: object,
    ca_file: object,
    client_cert: object,
    client_key: object,
    environment: Mapping[str, str] = os.environ,
) -> Options:
    """Options of a client's arguments; mistakes are said by `tell`."""

    def checked(name: str, value: Any, good: Callable[[Any], bool], expected: str, instead: Any) -> Any:
        try:
            fine = good(value)
        except (TypeError, ValueError):
            fine = False
        if fine:
            return value
        tell.again("option")  # each is a mistake of its own
        tell.once("option", name, expected, f"{instead} is taken")
        return instead

    def file(name: str, value: object) -> str | None:
        if value is None:
            return None
        path: str | None = checked(
            name, value, lambda v: os.path.isfile(v), "the path of a file that is there", None
        )
        return None if path is None else os.fspath(path)

    def seconds(name: str, value: object, instead: float, least: float) -> float:
        expected = f"a number of seconds from {least} to 3600"
        good = lambda v: not isinstance(v, bool) and math.isfinite(v) and least <= v <= 3600  # noqa: E731
        return float(checked(name, value, good, expected, instead))

    def number(name: str, value: object, instead: int) -> int:
        good = lambda v: type(v) is int and v > 0  # noqa: E731
        return int(checked(name, value, good, "a whole number from 1 on", instead))

    given = api_url if api_url is not None else environment.get(URL) or DEFAULT_URL
    url = checked(URL, given, _is_url, "an address such as https://ttf.example.com", None)
    key = api_key if api_key is not None else environment.get(KEY) or None
    if isinstance(key, str):
        key = key.strip()  # a file's last line end
    if key is not None:
        key = checked(KEY, key, _is_key, "letters, digits and signs of ASCII", None)
    if service_name is not None:
        service_name = checked(
            "service_name", service_name, lambda v: isinstance(v, str) and v != "", "a string", None
        )
    certificate, its_key = file("client_cert", client_cert), file("client_key", client_key)
    made = Options(
        url=None if url is None else url.rstrip("/"),
        key=key,
        service_name=service_name,  # type: ignore[arg-type]  # checked above
        max_queue=number("max_queue", max_queue, 10_000),
        max_queue_bytes=number("max_queue_bytes", max_queue_bytes, 16 * 1024 * 1024),
        flush_interval=seconds("flush_interval", flush_interval, 0.5, 0.0),
        timeout=seconds("timeout", timeout, 10.0, 0.1),
        exit_timeout=seconds("exit_timeout", exit_timeout, 2.0, 0.0),
        ca_file=file("ca_file", ca_file),
        certificate=None if certificate is None else (certificate, its_key),
        enabled=environment.get("OTEL_SDK_DISABLED", "").strip().lower() != "true",
    )
    if made.key is not None and made.url is not None and not made.loopback and made.url.startswith("http:"):
        tell.once("clear text", made.place)
    return made


def _is_url(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    parts = urlsplit(value)
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and parts.port != 0
        and not parts.query
        and not parts.fragment
        and value.isprintable()
        and " " not in value
    )


def _is_key(value: Any) -> bool:
    return (
        isinstance(value, str)
        and value.isascii()
        and value.isprintable()
        and bool(value)
        and " " not in value
    )
