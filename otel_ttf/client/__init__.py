"""The client for Python applications: tracks events, asks for journeys. docs/python-client.md has the whole of it."""

from otel_ttf.client.answers import Stage, TelemetryError, TtfAlert, TtfMetrics, UserUnknown
from otel_ttf.client.client import TelemetryClient
from otel_ttf.client.tell import Counts
from otel_ttf.client.user import as_user, bind_user

__all__ = [
    "Counts",
    "Stage",
    "TelemetryClient",
    "TelemetryError",
    "TtfAlert",
    "TtfMetrics",
    "UserUnknown",
    "as_user",
    "bind_user",
]
