"""`journeys`: who travels through which milestones, by when. Configuration <-> journey.definition.Journey."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from otel_ttf.config.section import Section
from otel_ttf.journey.definition import MAX_MILESTONES, Journey, Milestone, Segment, default_onboarding
from otel_ttf.journey.match import parse
from otel_ttf.otlp.conditions import Condition
from otel_ttf.units import DAY, SECOND, Duration, duration_text

DEFAULT_LIMIT = 200


def _segment(value: object) -> object:
    return {"attribute": value} if isinstance(value, str) else value


class MilestoneConfig(Section):
    """A point that a user reaches once: at the earliest matching event."""

    name: str = Field(description="Name of the milestone, unique in its journey.")
    match: Condition = Field(
        description="Which events reach it: event, span, attributes, resource, any, all, not; a list: any."
    )
    stage: str | None = Field(
        None,
        description="The stage that ends here (project: ttf_project_minutes); else the milestone's name.",
    )
    target: Duration | None = Field(None, description="How long that stage should take at most.")
    shared: bool = Field(
        False, description="Also takes events without all parts of the key, for all journeys of the subject."
    )


class SegmentConfig(Section):
    """An attribute that tells groups of users apart; its first value counts."""

    attribute: str = Field(description="Name of the attribute, on any event of the user.")
    limit: int = Field(DEFAULT_LIMIT, description="How many values are told apart; later ones are `other`.")


class OverdueConfig(Section):
    """How long after the start an unfinished journey is overdue, by level."""

    warning: Duration | None = Field(None, description="When a journey becomes worth a look.")
    critical: Duration | None = Field(None, description="When somebody should act.")
    escalation: Duration | None = Field(None, description="When it goes to whoever is next in line.")


class JourneyConfig(Section):
    """A journey: milestones in order, and what is expected of those who travel."""

    milestones: tuple[MilestoneConfig, ...] = Field(
        description="In order; the first one starts the journey.",
        json_schema_extra={"minItems": 2, "maxItems": MAX_MILESTONES},
    )
    key: tuple[str, ...] = Field(
        ("subject",), description="What there is one journey per; begins with subject."
    )
    only: Condition | None = Field(
        None, description="Whose events count, a condition; by default everybody's."
    )
    segments: tuple[
        Annotated[
            SegmentConfig,
            BeforeValidator(_segment),
            WithJsonSchema({"anyOf": [{"type": "string"}, SegmentConfig.model_json_schema()]}),
        ],
        ...,
    ] = Field((), description="First-touch attributes by which figures can be asked.")
    timezone: str = Field("UTC", description="Of the days of cohorts: an IANA name such as Europe/Berlin.")
    settle: Duration = Field(
        60 * SECOND, description="How long after its start was recorded no journey is called overdue."
    )
    complete_when: Literal["all", "last"] = Field(
        "all", description="all: every milestone is reached; last: the first and the last are."
    )
    target: Duration | None = Field(None, description="How long the whole journey should take at most.")
    overdue: OverdueConfig = Field(OverdueConfig(), description="When an unfinished journey is overdue.")
    give_up_after: Duration = Field(
        30 * DAY, description="When an unfinished journey is expired: counted as never finished."
    )

    def journey(self, name: str) -> Journey:
        """The journey that is meant."""
        return Journey(
            name=name,
            milestones=tuple(
                Milestone(
                    name=milestone.name,
                    match=parse(milestone.match),
                    stage=stage_of(place, milestone.stage, milestone.name),
                    target=milestone.target,
                    shared=milestone.shared,
                )
                for place, milestone in enumerate(self.milestones)
            ),
            key=self.key,
            only=None if self.only is None else parse(self.only),
            segments=tuple(Segment(segment.attribute, segment.limit) for segment in self.segments),
            timezone=self.timezone,
            settle=self.settle,
            complete_when=self.complete_when,
            target=self.target,
            overdue={level: after for level, after in self.overdue if after is not None},
            give_up_after=self.give_up_after,
        )


def stage_of(place: int, stage: str | None, name: str) -> str:
    """The stage that ends at a milestone: as configured, else the milestone's name; none at the first."""
    return stage if stage is not None else name if place else ""


def default_journeys() -> dict[str, JourneyConfig]:
    """What is followed when no journeys are configured."""
    return {name: JourneyConfig.model_validate(data) for name, data in default_data().items()}


def default_data() -> dict[str, Any]:
    """The same as a configuration file would say it."""
    journey = default_onboarding()
    milestones: list[dict[str, Any]] = []
    for place, milestone in enumerate(journey.milestones):
        entry: dict[str, Any] = {"name": milestone.name, "match": milestone.match.canonical}
        if place:
            entry["stage"] = milestone.stage
            entry["target"] = None if milestone.target is None else duration_text(milestone.target)
        milestones.append(entry)
    return {
        journey.name: {
            "milestones": milestones,
            "segments": [segment.attribute for segment in journey.segments],
            "target": None if journey.target is None else duration_text(journey.target),
            "overdue": {level: duration_text(after) for level, after in journey.overdue.items()},
        }
    }
