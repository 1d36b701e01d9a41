"""`python -m otel_ttf` is `otel-ttf`."""

from __future__ import annotations

import os


def main() -> None:
    """Runs the command line; ends the process with its exit code."""
    # gRPC writes a line to stderr for each call that is none, which would fill a disk. It asks when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from otel_ttf.cli import main as command

    command(prog_name="otel-ttf")


if __name__ == "__main__":
    main()
