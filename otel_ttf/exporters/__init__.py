"""Where telemetry goes on to: one file each. The frame (frame.py) gives them cursor, batches, retries and metrics."""
