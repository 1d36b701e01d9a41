"""The shapes of answers, for the OpenAPI document. Routes build plain mappings; a test holds them to this."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

_TIME = "2026-01-02T03:04:05.000000006Z"


class Answer(BaseModel):
    """What every answer carries; the headers TTF-As-Of and TTF-Lag-Seconds say the same."""

    as_of: str = Field(
        description="Everything that arrived until then is in the answer (RFC 3339).", examples=[_TIME]
    )
    lag_seconds: float = Field(description="How far `as_of` lies behind our clock.", examples=[0.0])
    sampled: float | None = Field(
        None,
        description="Share of users that is followed; only there where not all are, or were.",
        examples=[0.1],
    )
    sampled_since: str | None = Field(
        None, description="Since when; null: from the beginning. Only beside it.", examples=[_TIME]
    )
    weight: float | None = Field(
        None,
        description="For how many users each that is counted here stands: 1 / the share that was followed when its "
        "start was recorded; null where that is not the same for all, or not known. Only beside it.",
        examples=[10.0],
    )


class EvidenceItem(BaseModel):
    """A stored event that set a time."""

    milestone: str = Field(description="The milestone that it reached.", examples=["first_project_created"])
    event_id: str | None = Field(description="32 hex digits, as `otel-ttf recompute --without` takes them.")
    kind: str = Field(description="log, span_event or span.", examples=["log"])
    name: str = Field(description="Its name.", examples=["project_created"])
    at: str = Field(description="The time that counts.", examples=[_TIME])
    arrived_at: str = Field(description="When it came, by our clock.", examples=[_TIME])
    service: str | None = Field(description="`service.name` of its resource.", examples=["web"])
    attributes: dict[str, object] | None = Field(
        description="Masked, as stored; null: more than 16 KiB.", examples=[{"project.id": "7"}]
    )


class StageEvidence(BaseModel):
    """What a stage's minutes rest on. A known time without an event rests on one that is stored no longer."""

    opened: list[EvidenceItem] = Field(description="At the stage's beginning; at most 10.")
    reached: list[EvidenceItem] = Field(description="At its end; at most 10.")


class StageOfUser(BaseModel):
    """The way from one milestone to the next, as one user went it."""

    name: str = Field(description="The stage's name; `ttf_<name>_minutes` is its time.", examples=["project"])
    milestone: str = Field(description="The milestone at its end.", examples=["first_project_created"])
    target_minutes: float | None = Field(description="The stage's target; null: none.", examples=[5.0])
    minutes: float | None = Field(description="How long it took; null: not known (yet).", examples=[4.0])
    reached_at: str | None = Field(description="When the milestone happened.", examples=[_TIME])
    evidence: StageEvidence | None = Field(None, description="With ?evidence=true alone.")


class UserAnswer(Answer):
    """One user's journey. `ttf_<stage>_minutes` stands there for every stage of the journey."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "user_id": "alice",
                "ttf_project_minutes": 4.0,
                "ttf_agent_minutes": 8.0,
                "ttf_workflow_minutes": None,
                "ttf_success_minutes": None,
                "ttf_complete_minutes": None,
                "ttf_efficiency_score": 100.0,
                "subject": "u1_abcd_abcdefghijklmnopqrstuvwxyz234567",
                "key": [],
                "keys": 1,
                "journey": "onboarding",
                "version": "0a1b2c3d",
                "complete_since": None,
                "state": "in_progress",
                "started_at": _TIME,
                "completed_at": None,
                "flags": [],
                "segments": {"plan": "pro"},
                "stages": [
                    {
                        "name": "project",
                        "milestone": "first_project_created",
                        "target_minutes": 5.0,
                        "minutes": 4.0,
                        "reached_at": _TIME,
                    }
                ],
                "as_of": _TIME,
                "lag_seconds": 0.0,
            }
        },
    )

    user_id: str | None = Field(description="As asked; null when asked by token.")
    ttf_complete_minutes: float | None = Field(description="From the first milestone until complete.")
    ttf_efficiency_score: float | None = Field(
        description="0 to 100 against the targets; null: nothing counts yet."
    )
    subject: str = Field(description="The pseudonym.")
    key: list[str] = Field(description="Parts of the journey's key beyond the subject.")
    keys: int = Field(description="How many journeys of that name the user has.")
    journey: str = Field(description="The journey's name.")
    version: str = Field(description="Version of its definition.")
    complete_since: str | None = Field(
        description="Since when this definition is followed; null: from the beginning."
    )
    state: str = Field(description="not_started, in_progress, completed or expired.")
    started_at: str | None = Field(description="When the first milestone happened; null: not known.")
    completed_at: str | None = Field(description="When the journey was complete.")
    flags: list[str] = Field(description="out_of_order, start_unknown, segment_after_start.")
    segments: dict[str, str] = Field(description="First-touch attributes, the known ones.")
    stages: list[StageOfUser] = Field(description="Stage by stage.")


class StageOfMany(BaseModel):
    """A stage as a population went it."""

    name: str = Field(description="The stage's name.", examples=["project"])
    milestone: str = Field(description="The milestone at its end.", examples=["first_project_created"])
    target_minutes: float | None = Field(description="The stage's target; null: none.", examples=[5.0])
    reached: int = Field(description="Journeys whose stage has a known time.")
    median_minutes: float | None = Field(description="Over those; 2 % exact.")
    p90_minutes: float | None = Field(description="Over those; 2 % exact.")
    within_target: float | None = Field(
        description="Share reached within the target among those that opened at least the target ago."
    )
    within_target_of: int = Field(description="How many opened at least the target ago.")


class JourneyFigures(BaseModel):
    """Figures of one journey's cohort."""

    journey: str = Field(description="The journey's name.", examples=["onboarding"])
    version: str = Field(description="Version of its definition.", examples=["0a1b2c3d"])
    complete_since: str | None = Field(
        description="Since when this definition is followed; null: from the beginning."
    )
    timezone: str = Field(description="Time zone of the cohort days.", examples=["UTC"])
    target_minutes: float | None = Field(description="Target of the whole; null: none.", examples=[60.0])
    started: int = Field(description="Journeys whose first milestone is known.")
    completed: int = Field(description="Those of them that are complete, whenever.")
    completion_rate: float | None = Field(description="completed / started; null: none started.")
    in_progress: int = Field(description="Neither complete nor expired: not yet, which is not never.")
    expired: int = Field(description="Given up on.")
    entered_late: int = Field(description="Journeys without their first milestone; in no other figure.")
    median_minutes_of_completed: float | None = Field(description="Over the completed only; 2 % exact.")
    p90_minutes_of_completed: float | None = Field(description="Over the completed only; 2 % exact.")
    mean_score_of_completed: float | None = Field(
        description="Mean efficiency score of the completed, 0 to 100."
    )
    within_target: float | None = Field(
        description="Share completed within the target among those that started at least the target ago."
    )
    within_target_of: int = Field(description="How many started at least the target ago.")
    stages: list[StageOfMany] = Field(description="Stage by stage.")


class FiguresAnswer(Answer):
    """Figures of a population."""

    cohort: dict[str, object] = Field(
        description="Which journeys: `from` (first day), `to` (first day beyond), `segments`.",
        examples=[{"from": "2026-01-01", "to": None, "segments": {"plan": "pro"}}],
    )
    journeys: list[JourneyFigures] = Field(description="Per journey.")


class StuckItem(BaseModel):
    """One subject waiting in its current stage."""

    subject: str = Field(description="The pseudonym.")
    key: list[str] = Field(description="Parts of the journey's key beyond the subject.")
    stage: str = Field(description="The current stage.")
    milestone: str = Field(description="The milestone waited for.")
    since: str = Field(description="When the stage opened.", examples=[_TIME])
    minutes: float = Field(description="How long ago that is.")
    target_minutes: float | None = Field(description="The stage's target; null: none.")
    started_at: str = Field(description="When the journey started.", examples=[_TIME])
    weight: float | None = Field(
        None,
        description="For how many users it stands, where not all are, or were, followed.",
        examples=[10.0],
    )


class StuckAnswer(Answer):
    """Who is where for how long, longest first."""

    journey: str = Field(description="The journey's name.")
    version: str = Field(description="Version of its definition.")
    items: list[StuckItem] = Field(description="Longest first.")
    next: str | None = Field(description="`cursor` of the next page; null: this was the last.")


class ResolveAnswer(Answer):
    """Tokens of raw user ids."""

    tokens: list[list[str] | None] = Field(
        description="In the order of `ids`: the tokens under all subject keys, the newest first; null for what can be "
        "nobody's id (empty, longer than 512 bytes, no text and no integer).",
        examples=[[["u1_abcd_abcdefghijklmnopqrstuvwxyz234567"], None]],
    )


class AlertItem(BaseModel):
    """A threshold that a user's journey has passed."""

    journey: str = Field(description="The journey's name.")
    key: list[str] = Field(description="Parts of the journey's key beyond the subject.")
    level: str = Field(description="warning, critical or escalation.")
    stage: str | None = Field(description="The current stage.")
    since: str = Field(description="When the deadline passed.", examples=[_TIME])
    minutes: float = Field(description="How long ago the journey started.")
    threshold_minutes: float = Field(description="The threshold.")
    message: str = Field(description="One sentence for people.")


class SeenItem(BaseModel):
    """An event or span name that came."""

    kind: str = Field(description="event or span.", examples=["event"])
    name: str = Field(description="As it came; beyond 10,000 names `(other)`.", examples=["project_created"])
    count: int = Field(description="How often.")
    last_seen: str = Field(description="Arrival of the last one.", examples=[_TIME])
    milestones: list[str] = Field(
        description="`journey.milestone` that such events matched.",
        examples=[["onboarding.first_project_created"]],
    )


class NamesAnswer(Answer):
    """What came, most frequent first."""

    names: list[SeenItem] = Field(description="Most frequent first.")
