"""How long after its OK a milestone shows in the API, measured beside the load by a process of its own.

    python benchmarks/probe.py GRPC_TARGET API_PORT PROBES_A_SECOND

Sends a signup of a new user now and then and asks the API for that user until the answer is there. Ends when
its standard input is closed and the last user is seen; prints the seconds as a JSON list.
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import time
from collections import deque

import grpc
from drive import EXPORT
from load import signup, user_id

_PATIENCE = 120.0
# Asking costs the server, too: who has waited for long is asked for less often, after a tenth of the wait.
_LEAST_PAUSE = 0.01


def probe(target: str, api_port: int, rate: float) -> list[float]:
    """Seconds from OK to visible, one per probe. Raises TimeoutError when one is never seen."""
    seconds: list[float] = []
    waiting: deque[tuple[int, float]] = deque()
    api = http.client.HTTPConnection("127.0.0.1", api_port, timeout=10)
    with grpc.insecure_channel(target) as channel:
        export = channel.unary_unary(EXPORT)
        number, due, open_ = 0, time.perf_counter(), True
        while open_ or waiting:
            now = time.perf_counter()
            if open_ and now >= due:
                number += 1
                due += 1 / rate
                export(signup(number), timeout=_PATIENCE, wait_for_ready=True)
                waiting.append((number, time.perf_counter()))
            # The tracker takes them in order: who came first is seen first.
            while waiting and _is_visible(api, waiting[0][0]):
                seconds.append(time.perf_counter() - waiting.popleft()[1])
            pause = max(0.0, due - time.perf_counter()) if open_ else _LEAST_PAUSE
            if waiting:
                age = time.perf_counter() - waiting[0][1]
                if age > _PATIENCE:
                    raise TimeoutError(f"not visible {age:.0f} s after its OK")
                pause = min(pause, max(_LEAST_PAUSE, age / 10))
            if open_:
                open_ = not select.select([sys.stdin], [], [], pause)[0]
            else:
                time.sleep(pause)
    return seconds


def _is_visible(api: http.client.HTTPConnection, number: int) -> bool:
    api.request("GET", f"/api/v1/ttf/{user_id(number)}")
    answer = api.getresponse()
    answer.read()
    if answer.status not in (200, 404):
        raise ConnectionError(f"the API answered {answer.status}")
    return answer.status == 200


if __name__ == "__main__":
    json.dump(probe(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])), sys.stdout)
