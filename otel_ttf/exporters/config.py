"""What every exporter is told: which table of types there is, and what the frame does with each of them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from otel_ttf.exporters.base import Sender
from otel_ttf.log.base import OnLag, Row
from otel_ttf.otlp.conditions import Condition
from otel_ttf.units import MINUTE, SECOND, Duration, Size, duration

MIB = 1 << 20


class BatchConfig(BaseModel):
    """How requests of the log are put together. They are never parted, unless the destination finds them too large."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flush_timeout: Duration = Field(
        duration("200ms"), ge=0, le=MINUTE, description="So long a record waits at most for others."
    )
    min_size: int = Field(8192, ge=1, description="Records after which a batch goes at once.")
    max_bytes: Size = Field(
        3 * MIB,
        ge=1024,
        le=64 * MIB,
        description="Bytes before compression after which it goes, too; gRPC servers take 4 MiB by default.",
    )


class QueueConfig(BaseModel):
    """How the log is read. The log itself is the queue: on the disk, of log.max_size, with log.max_lag for each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_consumers: int = Field(
        2, ge=1, le=64, description="Requests of a signal on their way at once; 1 where `ordered` is true."
    )
    batch: BatchConfig = Field(BatchConfig(), description="How requests are put together.")


class RetryConfig(BaseModel):
    """What fails for the moment is sent again, after a random time that grows (full jitter)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    initial_interval: Duration = Field(1 * SECOND, ge=1, description="The first wait is at most so long.")
    max_interval: Duration = Field(30 * SECOND, ge=1, description="No wait is longer, unless asked for.")
    max_elapsed_time: Duration = Field(
        0,
        ge=0,
        description="After this a batch is set aside as a dead letter; 0: never, since the log keeps it.",
    )


class ExporterConfig(BaseModel):
    """What the frame does for every exporter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start_at: Literal["end", "beginning"] = Field(
        "end",
        description="Where an exporter begins that was never here: with what comes from now on, or with all that is "
        "still in the log.",
    )
    only: Condition | None = Field(
        None,
        description="A condition: which records go here, as they were masked; by default all. A span goes with its "
        "events, where it holds for one of them.",
    )
    ordered: bool = Field(
        False, description="true: one request after the other, in the order of the log, for each signal."
    )
    on_lag: OnLag = Field(
        "drop",
        description="What happens when it lies further behind than log.max_lag: drop skips the oldest and lists them "
        "as dead letters; block lets the log fill up, and then senders wait.",
    )
    vendor: bool = Field(
        False,
        description="true: the destination belongs to somebody else: records that must not be sold and what is "
        "encrypted with `vendors: drop` stay here.",
    )
    annotate: bool = Field(
        False,
        description="true: records that reached a milestone say so: ttf.journey, ttf.milestone, ttf.stage.minutes, "
        "ttf.elapsed.minutes, as known when they are sent. It reads no further than the tracker.",
    )
    journey_events: bool = Field(
        False,
        description="true: what journeys do is sent, too, each transition as an event: ttf.milestone.reached, "
        "ttf.journey.completed ...",
    )
    journey_traces: bool = Field(
        False,
        description="true: each journey that has ended is sent as a trace, its stages as spans.",
    )
    sending_queue: QueueConfig = Field(QueueConfig(), description="How the log is read.")
    retry_on_failure: RetryConfig = Field(RetryConfig(), description="How what failed is sent again.")

    @model_validator(mode="after")
    def _whose(self) -> Self:
        if self.vendor and (self.journey_events or self.journey_traces):
            raise ValueError(
                "expected vendor: false beside journey_events and journey_traces: of a journey it is not known whether "
                "it must not be sold"
            )
        return self

    def prepare(self, row: Row) -> Row:
        """A request as it leaves; the number of its records stays. Raises Malformed."""
        return row

    def build(self, name: str) -> Sender:
        """What sends. name: in the configuration, for messages. Raises CannotExport."""
        raise NotImplementedError


class CannotExport(Exception):
    """An exporter cannot be built: a certificate that cannot be read, say. The message says which and what to do."""
