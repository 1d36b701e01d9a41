"""Sends the benchmark's requests: so many clients, each with one request on its way at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
import uvloop
from load import Load, Template
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
# A refusal that asks to come again is no failure; the same bytes go out again.
_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED)
_PAUSE = 0.1
_PATIENCE = 60.0


@dataclass(slots=True)
class Sent:
    """What was answered OK, and how it went.

    seconds   from the first request to the last answer
    took      seconds per request, from its first sending to its OK
    again     how often a request was refused for the moment and sent again
    rejected  records that the server would not have
    """

    requests: int = 0
    records: int = 0
    events: int = 0
    milestones: int = 0
    again: int = 0
    rejected: int = 0
    seconds: float = 0.0
    took: list[float] = field(default_factory=list)


def drive(
    target: str, load: Load, *, clients: int, seconds: float, pace: float = 0, key: str | None = None
) -> Sent:
    """Sends for so long, then waits for the last answers.

    key   an API key that goes with each request
    pace  records a second; 0: as fast as the answers come
    Raises grpc.aio.AioRpcError when a request is refused for good, or for a minute.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_drive(target, load, clients, seconds, pace, key))


async def _drive(target: str, load: Load, clients: int, seconds: float, pace: float, key: str | None) -> Sent:
    sent = Sent()
    requests = load.requests()
    # Each client has a connection of its own, as separate applications do.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(target, options=options) for _ in range(clients)]
    try:
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        began = time.perf_counter()
        end = began + seconds
        await asyncio.gather(*(_client(channel, requests, sent, end, pace, key) for channel in channels))
        sent.seconds = time.perf_counter() - began
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))
    return sent


async def _client(
    channel: grpc.aio.Channel,
    requests: Iterator[tuple[Template, bytes]],
    sent: Sent,
    end: float,
    pace: float,
    key: str | None,
) -> None:
    export = channel.unary_unary(EXPORT)
    metadata = (("x-api-key", key),) if key is not None else None
    began = time.perf_counter()
    while (now := time.perf_counter()) < end:
        if pace and (early := sent.records / pace - (now - began)) > 0:
            await asyncio.sleep(early)
        template, raw = next(requests)
        at = time.perf_counter()
        while True:
            try:
                answer = await export(raw, timeout=_PATIENCE, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _AGAIN or time.perf_counter() > at + _PATIENCE:
                    raise
                sent.again += 1
                await asyncio.sleep(_PAUSE)
            else:
                break
        sent.took.append(time.perf_counter() - at)
        if answer:
            sent.rejected += ExportLogsServiceResponse.FromString(answer).partial_success.rejected_log_records
        sent.requests += 1
        sent.records += template.records
        sent.events += template.events
        sent.milestones += template.milestones
