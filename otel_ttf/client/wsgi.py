"""Middleware for Flask and any other WSGI application: the current user of each request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context
from typing import Any

from otel_ttf.client.user import Bound, UserId, enter

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class UserMiddleware:
    """Each request has a user of its own, whom bind_user names at any depth, until the last of its answer is written.

    user_of  tells the user of an environ where nobody was bound; asked when an event is tracked, so it may use what is
             there by then, as flask.session. Without it only bind_user tells.
    """

    def __init__(self, app: Application, user_of: Callable[[Environ], UserId | None] | None = None) -> None:
        self._app = app
        self._user_of = user_of

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        user_of = self._user_of
        bound = Bound(user_of=None if user_of is None else lambda: user_of(environ))
        # The server's thread goes on to the next request; what is set here stays in the context of this one.
        context = copy_context()
        context.run(enter, bound)
        answer = context.run(self._app, environ, start_response)
        # A file is left to the server, which has the kernel send it: nothing of the application runs any more.
        file = environ.get("wsgi.file_wrapper")
        whole = isinstance(answer, list | tuple) or (isinstance(file, type) and isinstance(answer, file))
        return answer if whole else _Within(context, answer)


class _Within:
    """An answer that is made while it is written."""

    def __init__(self, context: Context, answer: Iterable[bytes]) -> None:
        self._context = context
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        parts = self._context.run(iter, self._answer)
        end = object()
        while (part := self._context.run(next, parts, end)) is not end:
            yield part  # type: ignore[misc]

    def close(self) -> None:
        """As servers call it."""
        if hasattr(self._answer, "close"):
            self._context.run(self._answer.close)
