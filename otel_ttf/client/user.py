"""Whose request this is: track_event needs no user_id where the current user is bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from uuid import UUID

UserId: TypeAlias = "str | int | UUID"
UserOf: TypeAlias = "Callable[[], UserId | None]"


class Bound:
    """The user of one request, shared by everything that runs for it.

    Frameworks run parts of a request in copies of its context: what is set in one copy is not seen in the others, but
    all of them have this same object.
    """

    __slots__ = ("_user_of", "user")

    def __init__(self, user: UserId | None = None, user_of: UserOf | None = None) -> None:
        self.user = user
        self._user_of = user_of

    def current(self) -> UserId | None:
        """Who was bound, else what user_of says now: who logs in is known from then on."""
        if self.user is None and self._user_of is not None:
            return self._user_of()
        return self.user


_BOUND: ContextVar[Bound | None] = ContextVar("otel_ttf_user", default=None)


def current_user() -> UserId | None:
    """The user bound here; None where nobody is."""
    bound = _BOUND.get()
    return None if bound is None else bound.current()


def bind_user(user_id: UserId | None) -> None:
    """From now on the user of this request, with one of the middlewares; else of this thread or task. None: nobody."""
    bound = _BOUND.get()
    if bound is None:
        _BOUND.set(Bound(user_id))
    else:
        bound.user = user_id


@contextmanager
def as_user(user_id: UserId | None) -> Iterator[None]:
    """The user within a `with`, whoever was bound outside; for jobs and scripts."""
    token = enter(Bound(user_id))
    try:
        yield
    finally:
        leave(token)


def enter(bound: Bound) -> Token[Bound | None]:
    """Begins a request."""
    return _BOUND.set(bound)


def leave(token: Token[Bound | None]) -> None:
    """Ends it, in the context in which it began."""
    _BOUND.reset(token)
