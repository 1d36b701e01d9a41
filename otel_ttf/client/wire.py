"""OTLP/HTTP requests of this client and what their answers mean; no SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from otel_ttf.client.options import Options
from otel_ttf.client.outcome import NEXT, Next, Outcome
from otel_ttf.client.web import Answer, Unanswered, ask, session


class Wire:
    """Posts to the server of these options. For one thread. timeout: seconds, for the next request."""

    def __init__(self, options: Options) -> None:
        self.url = f"{options.url}/v1/logs"
        self.timeout = options.timeout
        self._session = session(options)

    def post(self, data: bytes, headers: Mapping[str, str | bytes]) -> Outcome:
        """One request with an encoded ExportLogsServiceRequest."""
        try:
            answer = ask(self._session, "POST", self.url, data=data, headers=headers, timeout=self.timeout)
        except Unanswered as error:
            return Outcome(Next.AGAIN, str(error))
        return _outcome(answer)

    def close(self) -> None:
        """Ends its connections."""
        self._session.close()


def in_unicode(value: Any) -> Any:
    """The same with U+FFFD in the place of what is no Unicode, as the server has it."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return value
    if isinstance(value, dict):
        return {in_unicode(key): in_unicode(one) for key, one in value.items()}
    if isinstance(value, list):
        return [in_unicode(one) for one in value]
    return value


def _outcome(answer: Answer) -> Outcome:
    status = answer.status
    if 200 <= status < 300:
        rejected, reason = _partial(answer.body)
        return Outcome(Next.DONE, str(status), status, rejected=rejected, reason=reason)
    return Outcome(NEXT.get(status, Next.NEVER), str(status), status, answer.retry_after or 0.0)


def _partial(body: bytes) -> tuple[int, str]:
    try:
        partial = ExportLogsServiceResponse.FromString(body).partial_success
    except Exception:  # noqa: BLE001  protobuf's classes of errors differ; whoever answered, it was 2xx
        return 0, ""
    return partial.rejected_log_records, partial.error_message
