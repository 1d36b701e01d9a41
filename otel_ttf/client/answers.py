"""What the server answers about users, with types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


class TelemetryError(Exception):
    """A question that has no answer; the text says what was found, where, and what was expected.

    status       of the HTTP answer; None: there was none
    kind         what kind of problem, as the server names it: unknown-journey, bad-user-id, store-unreadable ...
    retry_after  seconds after which to ask again, if the server said so
    """

    def __init__(
        self, text: str, *, status: int | None = None, kind: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.kind = kind
        self.retry_after = retry_after


class UserUnknown(TelemetryError):
    """No milestone of the journey is known of this user (yet)."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The way from one milestone to the next. Minutes are None where they are not known (yet)."""

    name: str
    milestone: str
    target_minutes: float | None
    minutes: float | None
    reached_at: datetime | None


@dataclass(frozen=True, slots=True)
class TtfMetrics:
    """One user's journey. `ttf_<stage>_minutes` is there for each of its stages, as ttf_project_minutes.

    ttf_complete_minutes  from the first milestone until complete; None: not yet
    ttf_efficiency_score  0 to 100; None: nothing counts yet
    key                   parts of the journey's key beyond the user; keys: how many such journeys the user has
    state                 not_started, in_progress, completed, expired
    as_of                 everything that had arrived until then is in it
    weight                for how many users it stands, where only a share is followed; None: not known
    """

    user_id: str
    ttf_complete_minutes: float | None
    ttf_efficiency_score: float | None
    subject: str
    key: tuple[str, ...]
    keys: int
    journey: str
    version: str
    state: str
    started_at: datetime | None
    completed_at: datetime | None
    flags: tuple[str, ...]
    segments: Mapping[str, str]
    stages: tuple[Stage, ...]
    as_of: datetime
    lag_seconds: float
    weight: float | None = 1.0

    def __getattr__(self, name: str) -> float | None:
        # Asked only for what is no field.
        if name.startswith("ttf_"):
            for stage in self.stages:
                if name == f"ttf_{stage.name}_minutes":
                    return stage.minutes
            known = ", ".join(f"ttf_{stage.name}_minutes" for stage in self.stages)
            raise AttributeError(f"{name}: no such stage of {self.journey}; known: {known}")
        raise AttributeError(name)


@dataclass(frozen=True, slots=True)
class TtfAlert:
    """A threshold that a user's journey has passed.

    key  parts of the journey's key beyond the user; since: when; minutes: how long ago the journey started
    """

    journey: str
    key: tuple[str, ...]
    level: str
    stage: str | None
    since: datetime
    minutes: float
    threshold_minutes: float
    message: str


def metrics(answer: Any) -> TtfMetrics:
    """Of GET /api/v1/ttf/{user_id}. Raises KeyError, TypeError or ValueError for anything else."""
    return TtfMetrics(
        user_id=answer["user_id"],
        ttf_complete_minutes=answer["ttf_complete_minutes"],
        ttf_efficiency_score=answer["ttf_efficiency_score"],
        subject=answer["subject"],
        key=tuple(answer["key"]),
        keys=answer["keys"],
        journey=answer["journey"],
        version=answer["version"],
        state=answer["state"],
        started_at=_time(answer["started_at"]),
        completed_at=_time(answer["completed_at"]),
        flags=tuple(answer["flags"]),
        segments=dict(answer["segments"]),
        stages=tuple(
            Stage(
                name=stage["name"],
                milestone=stage["milestone"],
                target_minutes=stage["target_minutes"],
                minutes=stage["minutes"],
                reached_at=_time(stage["reached_at"]),
            )
            for stage in answer["stages"]
        ),
        as_of=datetime.fromisoformat(answer["as_of"]),
        lag_seconds=answer["lag_seconds"],
        weight=answer.get("weight", 1.0),
    )


def alerts(answer: Any) -> list[TtfAlert]:
    """Of GET /api/v1/ttf/{user_id}/alerts. Raises KeyError, TypeError or ValueError for anything else."""
    return [
        TtfAlert(
            journey=alert["journey"],
            key=tuple(alert["key"]),
            level=alert["level"],
            stage=alert["stage"],
            since=datetime.fromisoformat(alert["since"]),
            minutes=alert["minutes"],
            threshold_minutes=alert["threshold_minutes"],
            message=alert["message"],
        )
        for alert in answer
    ]


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
