"""What happens to every request before and after routing: who may ask, OTLP aside, raw path segments, HEAD, headers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otel_ttf.access.gate import GRANT, STATUS, Gate, Refused, came_from, of_http
from otel_ttf.access.hosts import MISDIRECTED, Hosts
from otel_ttf.access.keys import Scope as Needed
from otel_ttf.api.problems import ALWAYS, Problem, document

# Their last segments are ids, which may hold any character, `/` included.
_RAW = ("/api/v1/ttf/", "/api/v1/subjects/")

# What is said to whoever asks: that we are alive, and what is in the package.
_OPEN = frozenset({"/health", "/ready", "/openapi.json", "/docs", "/favicon.svg", "/favicon.ico"})
_OPEN_BELOW = "/docs/"
# What is told for an id is told to whoever asks for a user, too.
_POSTED: dict[str, Needed] = {"/api/v1/events": "ingest", "/api/v1/subjects/resolve": "read"}
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_CROSS_SITE = "expected no request from a page of another site, or one that shows an API key"
BRIEF = "otel_ttf.brief"  # in a scope: whoever asks gets no details


def needed(method: str, path: str) -> Needed | None:
    """The scope of a key that a request needs; None: it needs no key. What is not known here needs the most."""
    if path in _OPEN or path.startswith(_OPEN_BELOW):
        return None
    if method == "POST" and path in _POSTED:
        return _POSTED[path]
    if method in ("GET", "HEAD") and (path == "/metrics" or path.startswith("/api/")):
        return "read"
    return "admin"


class Front:
    """ASGI middleware around the routes.

    otlp          takes every request below /v1/, with its path unchanged; None: nobody does
    gate          who may ask; None: everybody. OTLP asks by itself
    open_metrics  whether everybody may read /metrics all the same
    hosts         by which names the server may be called; None: by any
    refused       is called for each request by another name (host), or from another site (cross_site)
    """

    def __init__(
        self,
        app: ASGIApp,
        otlp: ASGIApp | None = None,
        *,
        gate: Gate | None = None,
        open_metrics: bool = False,
        hosts: Hosts | None = None,
        refused: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._app = app
        self._otlp = otlp
        self._gate = gate
        self._open_metrics = open_metrics
        self._hosts = hosts
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if self._otlp is not None and path.startswith("/v1/"):
            await self._otlp(scope, receive, send)
            return
        head = scope["method"] == "HEAD"
        # A copy: the server still has to know that the question was HEAD.
        scope = {**scope, "path": _path(scope), "method": "GET" if head else scope["method"]}

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in ALWAYS.items():
                    headers.setdefault(name, value)
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        if (refusal := await self._refusal(scope)) is not None:
            await refusal(scope, receive, answer)  # the body stays unread
        else:
            await self._app(scope, receive, answer)

    async def _refusal(self, scope: Scope) -> ASGIApp | None:
        """What is answered in the place of the routes; None: they answer. scope: with the path to route by."""
        headers = scope["headers"]
        if self._hosts is not None and not self._hosts.allow(_host(headers)):
            self._refused("host")
            return document(Problem(421, "misdirected", MISDIRECTED, headers=_unread(headers)))
        if scope["method"] not in _READING and _from_elsewhere(headers):
            self._refused("cross_site")
            return document(Problem(403, "cross-site", _CROSS_SITE, headers=_unread(headers)))
        path: str = scope["path"]
        gate = self._gate
        if gate is None or (self._open_metrics and path == "/metrics"):
            return None
        need = needed(scope["method"], path)
        if need is None:
            scope[BRIEF] = path == "/ready" and not await gate.knows(
                "read", of_http(headers), came_from(scope)
            )
            return None
        try:
            scope[GRANT] = await gate.admit("api", need, of_http(headers), came_from(scope))
        except Refused as refused:
            more = refused.headers | _unread(headers)
            return document(Problem(STATUS[refused.why], _KINDS[refused.why], str(refused), headers=more))
        return None


_KINDS = {
    "unauthenticated": "unauthenticated",
    "too_often": "too-many-requests",
    "forbidden": "forbidden",
    "limited": "too-many-requests",
    "unavailable": "unavailable",
}


def _from_elsewhere(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a browser sends it for a page that is none of ours, without what only our own callers can send.

    A form of a stranger's needs nobody's leave to be sent here. Browsers say from where, all of today's at least to
    addresses of this machine and over TLS.
    """
    found = dict(headers)
    if b"authorization" in found or b"x-api-key" in found:
        return False
    if (site := found.get(b"sec-fetch-site")) is not None:
        return site not in (b"same-origin", b"none")
    origin = found.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != found.get(b"host")


def _host(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """All of them, since another reader may take another one of several."""
    hosts = [value for name, value in headers if name == b"host"]
    return b",".join(hosts) if hosts else None


def _unread(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """A long body that was not read is not read on for nothing."""
    long = any(
        (name == b"content-length" and len(value) > 5) or name == b"transfer-encoding"
        for name, value in headers
    )
    return {"Connection": "close"} if long else {}


def _path(scope: Scope) -> str:
    """The path to route by: still percent-encoded where segments are ids, without a slash at its end."""
    path: str = scope["path"]
    raw: bytes | None = scope.get("raw_path")
    if raw is not None and path.startswith(_RAW):
        path = raw.partition(b"?")[0].decode("latin-1")
    return path.removesuffix("/") or "/"
