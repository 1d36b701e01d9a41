"""What the routes share: the journeys, where answers are read from, and how an answer is put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from otel_ttf.api.problems import BadQuery, Problem, listed
from otel_ttf.api.times import rfc3339, rfc3339_or_none
from otel_ttf.journey.definition import Journey
from otel_ttf.journey.sampling import Sampling
from otel_ttf.pii.pseudonym import MAX_SUBJECT_BYTES, Pseudonyms, is_token, subject_text
from otel_ttf.store.base import Reader

AS_OF = "TTF-As-Of"
LAG = "TTF-Lag-Seconds"


@dataclass(frozen=True, slots=True)
class AsOf:
    """The instant an answer speaks of (unix ns), and how far it lies behind our clock (seconds).

    sampling  which share of the users was followed when

    Taken before the store is read: what is read then is never older than the answer says.
    """

    at: int
    lag: float
    sampling: Sampling = field(default_factory=Sampling)

    def members(self) -> dict[str, object]:
        """as_of and lag_seconds, as every answer carries them; where not all users are, or were, followed also by
        which share, since when, and for how many users what is in the answer stands."""
        known: dict[str, object] = {"as_of": rfc3339(self.at), "lag_seconds": self.lag}
        if self.sampling.steps:
            known |= {
                "sampled": self.sampling.share,
                "sampled_since": rfc3339_or_none(self.sampling.since),
                **self.weight(None),
            }
        return known

    def weight(self, recorded: int | None) -> dict[str, object]:
        """`weight` of a journey by when its start was recorded, where not all users are, or were, followed."""
        return {"weight": self.sampling.weight(recorded)} if self.sampling.steps else {}

    def answer(self, content: object) -> Response:
        """JSON. A mapping gets `members` beside its own; the headers tell as_of and lag for every answer."""
        if isinstance(content, dict):
            content = content | (self.members() | content)
        return JSONResponse(content, headers={AS_OF: rfc3339(self.at), LAG: repr(self.lag)})


@dataclass(frozen=True, slots=True)
class Context:
    """Everything a route reads from.

    journeys   as configured; the first one is meant where a question names none
    as_of      (unix ns, seconds behind our clock), tracker.as_of
    normalise  subject.normalise, for raw user ids in questions
    sampling   which share of the users was followed when
    """

    journeys: Mapping[str, Journey]
    reader: Reader
    pseudonyms: Pseudonyms
    clock: Callable[[], tuple[int, float]]
    normalise: Literal["none", "lower"] = "none"
    sampling: Callable[[], Sampling] = Sampling

    def as_of(self) -> AsOf:
        """Now, for one answer."""
        return AsOf(*self.clock(), self.sampling())

    def journey(self, name: str | None) -> Journey:
        """The journey of that name, or the first one. Raises Problem 404."""
        if name is None:
            return next(iter(self.journeys.values()))
        journey = self.journeys.get(name)
        if journey is None:
            raise Problem(404, "unknown-journey", f"no such journey; known: {listed(list(self.journeys))}")
        return journey

    def tokens(self, user_id: str) -> tuple[str, list[str]]:
        """(the user id as it was sent, its tokens under all keys, newest first).

        user_id  one path segment, percent-encoded. Raises Problem 400: not UTF-8, empty or too long.
        """
        try:
            sent = unquote_to_bytes(user_id).decode()
        except UnicodeDecodeError:
            raise Problem(400, "bad-user-id", "user_id: expected percent-encoded UTF-8") from None
        subject = subject_text(sent, self.normalise)
        if subject is None or len(subject.encode()) > MAX_SUBJECT_BYTES:
            raise Problem(
                400, "bad-user-id", f"user_id: expected 1 to {MAX_SUBJECT_BYTES} bytes besides blanks"
            )
        return sent, self.pseudonyms.tokens(subject)


def token(text: str) -> str:
    """A subject token from a path. Raises Problem 400 for anything else, such as a raw user id."""
    if not is_token(text):
        raise Problem(
            400,
            "bad-token",
            "token: expected u1_, 4, _ and 32 of a-z2-7; for user ids ask /api/v1/ttf/{user_id}",
        )
    return text


class KnownQuery:
    """Refuses query parameters that nobody reads or that come twice: a slip would answer another question."""

    def __init__(self, *names: str, prefix: str | None = None) -> None:
        self._names = frozenset(names)
        self._prefix = prefix

    async def __call__(self, request: Request) -> None:
        seen = set()
        for name, _ in request.query_params.multi_items():
            if name not in self._names and not (self._prefix and name.startswith(self._prefix)):
                known = sorted(self._names) + ([f"{self._prefix}NAME"] if self._prefix else [])
                raise Problem(400, "bad-query", f"unknown query parameter; known: {listed(known)}")
            if name in seen:
                raise BadQuery(name, "expected once")
            seen.add(name)
