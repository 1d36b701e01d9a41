"""The server below libfaketime, whose clock_nanosleep fails with EINVAL where only the wall clock is moved."""

from __future__ import annotations

import threading
import time

from otel_ttf.__main__ import main


def sleep(seconds: float) -> None:
    threading.Event().wait(seconds)


if __name__ == "__main__":
    time.sleep = sleep
    main()
