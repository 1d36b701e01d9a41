"""Time to first value, measured inside the OpenTelemetry pipeline."""

__version__ = "0.1.0"
