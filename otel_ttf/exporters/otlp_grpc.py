"""OTLP over gRPC to the next collector or backend: requests stay the bytes that they are in the log."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from pydantic import AfterValidator, Field, field_validator

from otel_ttf.exporters.base import DONE, Outcome, Piece, later, merged
from otel_ttf.exporters.otlp import (
    ANSWER_BYTES,
    USER_AGENT,
    Kind,
    OtlpConfig,
    TlsConfig,
    answered,
    certificates,
    outcome_of,
    plain,
)
from otel_ttf.otlp.wire import SIGNALS, Signal
from otel_ttf.units import SECOND

METHODS: Mapping[Signal, str] = {
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
_CODE = grpc.StatusCode
# The table of the OTLP specification; but what refuses us, whatever we send, is tried again: nothing is wrong with the
# records. RESOURCE_EXHAUSTED without RetryInfo means that the request is too large.
KINDS: Mapping[grpc.StatusCode, Kind] = {
    _CODE.CANCELLED: "later",
    _CODE.DEADLINE_EXCEEDED: "later",
    _CODE.ABORTED: "later",
    _CODE.OUT_OF_RANGE: "later",
    _CODE.UNAVAILABLE: "later",
    _CODE.DATA_LOSS: "later",
    _CODE.RESOURCE_EXHAUSTED: "size",
    _CODE.UNAUTHENTICATED: "barred",
    _CODE.PERMISSION_DENIED: "barred",
    _CODE.UNIMPLEMENTED: "barred",
    _CODE.NOT_FOUND: "barred",
}
# RESOURCE_EXHAUSTED is also what our own side says of an answer that is too large, in these words. A message comes from
# who has taken the request; of metadata nobody knows.
_LARGE_ANSWER = "CLIENT: Received message larger than max"
_LARGE_METADATA = "received metadata size exceeds"
_DETAILS = "grpc-status-details-bin"
_ENDPOINT = re.compile(
    r"(?P<scheme>https?://)?(?P<target>(?:[^\s/:\[\]]+|\[[0-9a-fA-F:.%\w]+\]):[0-9]{1,5})/?"
)
_OPTIONS = (
    ("grpc.primary_user_agent", USER_AGENT),
    ("grpc.max_receive_message_length", ANSWER_BYTES),
    ("grpc.enable_retries", 0),  # what is sent again is ours to say
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5000),  # a destination that is back is found soon
)


def _checked(endpoint: str) -> str:
    if not _ENDPOINT.fullmatch(endpoint):
        raise ValueError("expected host:port, such as collector:4317, with or without http:// or https://")
    return endpoint


class OtlpGrpcConfig(OtlpConfig):
    """OTLP over gRPC."""

    endpoint: Annotated[str, AfterValidator(_checked)] = Field(
        description="host:port of the destination. http:// in front means no encryption, https:// encryption."
    )

    @field_validator("tls")
    @classmethod
    def _verified(cls, tls: TlsConfig) -> TlsConfig:
        if tls.insecure_skip_verify:
            raise ValueError(
                "expected no insecure_skip_verify, which gRPC does not have: put the destination's certificate into "
                "ca_file"
            )
        return tls

    def build(self, name: str) -> OtlpGrpc:
        return OtlpGrpc(self, name)


class OtlpGrpc:
    """A channel, opened with the first request and again whenever it is lost."""

    def __init__(self, config: OtlpGrpcConfig, name: str) -> None:
        """Raises CannotExport."""
        found = _ENDPOINT.fullmatch(config.endpoint)
        assert found is not None, "was checked"
        secure = found["scheme"] != "http://" and not config.tls.insecure
        options: list[tuple[str, Any]] = [*_OPTIONS]
        if secure:
            if config.tls.server_name_override:
                options.append(("grpc.ssl_target_name_override", config.tls.server_name_override))
            self._channel = grpc.secure_channel(found["target"], _credentials(config, name), options)
        else:
            self._channel = grpc.insecure_channel(found["target"], options)
        self._calls = {signal: self._channel.unary_unary(METHODS[signal], None, None) for signal in SIGNALS}
        self._metadata = tuple(plain(config.headers).items())
        self._timeout = config.timeout / SECOND
        self._compression = getattr(
            grpc.Compression, {"gzip": "Gzip", "none": "NoCompression"}[config.compression]
        )

    async def send(self, batch: Sequence[Piece]) -> Outcome:
        signal = batch[0].row.signal
        # The channel's own threads do the work: a second loop for gRPC in one process gets in the way of the
        # receiver's. But who starts a call compresses it: 3 MiB take a tenth of a second.
        call = await asyncio.to_thread(
            self._calls[signal].future,
            merged(batch),
            timeout=self._timeout,
            metadata=self._metadata,
            compression=self._compression,
        )
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        call.add_done_callback(partial(_wake, loop, ended))
        try:
            await ended
        except asyncio.CancelledError:
            call.cancel()  # type: ignore[no-untyped-call]
            raise
        if call.code() is _CODE.OK:
            return answered(signal, batch, call.result())
        code, details = call.code(), call.details() or ""
        if code is _CODE.RESOURCE_EXHAUSTED and _LARGE_ANSWER in details:
            return DONE  # as over HTTP
        if code is _CODE.RESOURCE_EXHAUSTED and _LARGE_METADATA in details:
            return later(batch, "its answer has too many trailers or headers")
        after = retry_info(call.trailing_metadata())
        kind = "later" if after is not None else KINDS.get(code, "data")
        return outcome_of(batch, kind, code.name, after)

    async def close(self) -> None:
        self._channel.close()


def _wake(loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None], _call: object) -> None:
    """On a thread of the channel."""
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(_end, ended)


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def retry_info(metadata: Any) -> float | None:
    """Seconds after which the destination wants to be asked again; None: it has not said."""
    for key, value in metadata or ():
        if key == _DETAILS:
            try:
                details = status_pb2.Status.FromString(value).details
                info = error_details_pb2.RetryInfo()
                for detail in details:
                    if detail.Unpack(info):
                        return float(max(0, info.retry_delay.seconds + info.retry_delay.nanos / SECOND))
            except DecodeError:
                return None
    return None


def _credentials(config: OtlpGrpcConfig, name: str) -> grpc.ChannelCredentials:
    tls = config.tls
    certificates(tls, name)  # of what is no certificate gRPC says nothing; it reaches nobody
    files = (tls.ca_file, tls.key_file, tls.cert_file)
    return grpc.ssl_channel_credentials(
        *(None if file is None else Path(file).read_bytes() for file in files)
    )
