"""`otel-ttf` that is killed at a point of its work, as by kill -9. DIE_AT says where, in JSON:

{"file": "store.db", "sql": "REPLACE INTO cursor", "nth": 3}    before the third such statement on that file
{"file": "log.db", "sql": "DELETE FROM entry", "after": true}    before the statement that follows it
{"call": "otel_ttf.log.sqlite_file:LogFile.insert"}              when the first such call has returned
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

POINT: dict[str, Any] = json.loads(os.environ["DIE_AT"])
_left = POINT.get("nth", 1)
_lock = threading.Lock()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _is_it() -> bool:
    """Whether this was the one of them."""
    global _left
    with _lock:
        _left -= 1
        return bool(_left == 0)


def _watch_statements(connection: sqlite3.Connection) -> None:
    wanted = re.compile(POINT["sql"], re.IGNORECASE | re.DOTALL)
    dying = False

    def statement(text: str) -> None:
        nonlocal dying
        if dying:
            die()
        if wanted.match(text) and _is_it():
            dying = True
            if not POINT.get("after"):
                die()

    connection.set_trace_callback(statement)


def _watch_files() -> None:
    connect = sqlite3.connect

    def watched(database: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(database, *arguments, **options)
        if POINT["file"] in str(database):
            _watch_statements(connection)
        return connection

    sqlite3.connect = watched  # type: ignore[assignment]


def _watch_call() -> None:
    module, _, path = POINT["call"].partition(":")
    *outer, name = path.split(".")
    owner: Any = import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    called: Callable[..., Any] = getattr(owner, name)

    def calling(*arguments: Any, **options: Any) -> Any:
        result = called(*arguments, **options)
        if _is_it():
            die()
        return result

    setattr(owner, name, calling)


if __name__ == "__main__":
    if "call" in POINT:
        _watch_call()
    else:
        _watch_files()
    from otel_ttf.__main__ import main

    main()
