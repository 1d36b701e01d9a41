"""Middleware for FastAPI, Starlette and any other ASGI application: the current user of each request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from otel_ttf.client.user import Bound, UserId, enter, leave

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class UserMiddleware:
    """Each request and WebSocket has a user of its own, whom bind_user names at any depth.

    user_of  tells the user of a scope where nobody was bound; asked when an event is tracked, so authentication within
             may have put the user there. Without it only bind_user tells.
    """

    def __init__(self, app: Application, user_of: Callable[[Scope], UserId | None] | None = None) -> None:
        self._app = app
        self._user_of = user_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        user_of = self._user_of
        token = enter(Bound(user_of=None if user_of is None else lambda: user_of(scope)))
        try:
            await self._app(scope, receive, send)
        finally:
            leave(token)
