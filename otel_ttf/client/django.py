"""Middleware for Django, behind its AuthenticationMiddleware: request.user is the current user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

from otel_ttf.client.user import Bound, UserId, bind_user, enter, leave


class UserMiddleware:
    """Whoever is logged in, by primary key. A subclass may tell users otherwise."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        self._asynchronous = iscoroutinefunction(get_response)
        if self._asynchronous:
            markcoroutinefunction(self)
        else:
            self.process_view = self._before_view

    def user_id(self, user: Any) -> UserId | None:
        """Of request.user; None: nobody. What is neither text nor a number is written as text."""
        if user is None or not user.is_authenticated:
            return None
        return user.pk if isinstance(user.pk, str | int) else str(user.pk)

    def __call__(self, request: Any) -> Any:
        if self._asynchronous:
            return self._async(request)
        # Not before an event asks: it may take a query, and a view may log somebody in.
        token = enter(Bound(user_of=lambda: self.user_id(getattr(request, "user", None))))
        try:
            return self._get_response(request)
        finally:
            leave(token)

    def _before_view(self, request: Any, view: Callable[..., Any], *_: Any) -> None:
        # Behind WSGI an async view runs in a loop, where its user could not be asked for.
        if iscoroutinefunction(view):
            bind_user(self.user_id(getattr(request, "user", None)))

    async def _async(self, request: Any) -> Any:
        # Later it could not be asked for: who runs in the loop may not query.
        bound = Bound(self.user_id(await request.auser() if hasattr(request, "auser") else None))
        token = enter(bound)
        try:
            answer: Awaitable[Any] = self._get_response(request)
            return await answer
        finally:
            leave(token)
