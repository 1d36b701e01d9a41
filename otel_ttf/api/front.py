"""What happens to every request before and after routing: OTLP aside, raw path segments, HEAD, headers."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Their last segments are ids, which may hold any character, `/` included.
_RAW = ("/api/v1/ttf/", "/api/v1/subjects/")

# Nothing here may be framed, guessed at or loaded from elsewhere; user ids in URLs stay out of Referer.
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class Front:
    """ASGI middleware around the routes.

    otlp  takes every request below /v1/, with its path unchanged; None: nobody does
    """

    def __init__(self, app: ASGIApp, otlp: ASGIApp | None = None) -> None:
        self._app = app
        self._otlp = otlp

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

        await self._app(scope, receive, answer)


def _path(scope: Scope) -> str:
    """The path to route by: still percent-encoded where segments are ids, without a slash at its end."""
    path: str = scope["path"]
    raw: bytes | None = scope.get("raw_path")
    if raw is not None and path.startswith(_RAW):
        path = raw.partition(b"?")[0].decode("latin-1")
    return path.removesuffix("/") or "/"
