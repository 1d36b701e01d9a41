"""The wire: OTLP bytes to what the rest needs, and back. No I/O."""
