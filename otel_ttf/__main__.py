"""`python -m otel_ttf` is `otel-ttf`."""

from __future__ import annotations


def main() -> None:
    """Runs the command line; ends the process with its exit code."""
    from otel_ttf.cli import main as command

    command(prog_name="otel-ttf")


if __name__ == "__main__":
    main()
