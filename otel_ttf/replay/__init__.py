"""Files of telemetry are sent to a running server: `otel-ttf replay`."""
