"""Does the store hold what it has to hold? Every event once, every transition once, metrics equal to both."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter

from ledger import MARK, MILESTONES, Ledger, send_unanswered
from opentelemetry.proto.common.v1.common_pb2 import KeyValueList
from server_process import Metrics, ServerProcess


class Books:
    """Checks a server against a ledger, over restarts; while nobody sends and the tracker has caught up."""

    def __init__(self, server: ServerProcess, ledger: Ledger) -> None:
        self._server = server
        self._ledger = ledger
        self._stored: Counter[str] = Counter()
        self._last_row = 0

    def check(self) -> None:
        """What has to hold at any time. Raises AssertionError."""
        assert self._ledger.problems == []
        metrics = self._server.metrics()
        with self._server.store() as store:
            self._check_events(store)
            self._check_transitions(store)
            _check_metrics(store, metrics)

    def check_final(self) -> None:
        """What has to hold once every request has its OK: the journeys are those of the sent events."""
        self.check()
        assert self._ledger.acknowledged == set(self._ledger.sent)
        reached = self._ledger.reached()
        with self._server.store() as store:
            told = dict(store.execute("SELECT kind, count(*) FROM transition GROUP BY kind").fetchall())
            # Rows of users without a milestone only keep their segments.
            (users,) = store.execute("SELECT count(*) FROM journey WHERE touched IS NOT NULL").fetchone()
        assert users == len(reached)
        assert told.get("started", 0) == sum("signup" in times for times in reached.values())
        assert told.get("completed", 0) == sum(len(times) == len(MILESTONES) for times in reached.values())
        for user, times in list(reached.items())[:25]:
            answer = self._server.get(f"/api/v1/ttf/{user}").json
            known = {stage["milestone"] for stage in answer["stages"] if stage["reached_at"] is not None}
            assert known == set(times) - {"signup"}, user
            if len(times) == len(MILESTONES) and "out_of_order" not in answer["flags"]:
                total = (times[MILESTONES[-1]] - times["signup"]) / 60e9
                assert abs(answer["ttf_complete_minutes"] - total) < 1e-6, user

    def settle(self) -> None:
        """Has what was never answered sent once more, then `check_final`."""
        send_unanswered(self._server, self._ledger)
        self._server.wait_caught_up()
        self.check_final()

    def _check_events(self, store: sqlite3.Connection) -> None:
        rows = store.execute("SELECT id, attributes FROM event WHERE id > ? ORDER BY id", (self._last_row,))
        for row, encoded in rows:
            (mark,) = (a.value.string_value for a in KeyValueList.FromString(encoded).values if a.key == MARK)
            self._stored[mark] += 1
            self._last_row = row
        (count,) = store.execute("SELECT count(*) FROM event").fetchone()
        assert count == self._stored.total(), "stored events went away"
        assert {mark: n for mark, n in self._stored.items() if n > 1} == {}, "stored more than once"
        assert self._ledger.acknowledged - self._stored.keys() == set(), "answered OK and lost"
        assert self._stored.keys() - self._ledger.sent.keys() == set(), "never sent"

    def _check_transitions(self, store: sqlite3.Connection) -> None:
        count, ids, last = store.execute(
            "SELECT count(*), count(DISTINCT id), max(position) FROM transition"
        ).fetchone()
        assert count == ids, "a transition was written twice"
        assert count == (last or 0), "positions have gaps"
        twice = store.execute(
            "SELECT journey, subject, kind, milestone FROM transition WHERE kind <> 'corrected'"
            " GROUP BY journey, subject, key, kind, milestone, level HAVING count(*) > 1"
        ).fetchall()
        assert twice == [], "a fact was told twice"


def _check_metrics(store: sqlite3.Connection, metrics: Metrics) -> None:
    """Counters and histograms are the number of transitions."""
    expected: Counter[str] = Counter()
    for kind, closed, changed in store.execute(
        "SELECT kind, closed, changed FROM transition WHERE NOT backfilled"
    ):
        expected["ttf_started_total"] += kind == "started"
        expected["ttf_completion_total"] += kind == "completed"
        expected["ttf_expired_total"] += kind == "expired"
        expected["ttf_corrections_total"] += kind == "corrected" or changed != "[]"
        expected["ttf_complete_minutes_count"] += kind == "completed"
        expected["ttf_efficiency_score_count"] += kind == "completed"
        for stage, _ in json.loads(closed):
            expected[f"ttf_stage_minutes_count {stage}"] += 1
    for name, count in expected.items():
        metric, _, stage = name.partition(" ")
        labels = {"stage": stage} if stage else {}
        assert metrics.total(metric, **labels) == count, name
    (under_way,) = store.execute("SELECT count(*) FROM journey WHERE state = 1").fetchone()
    assert metrics.total("ttf_in_flight") == under_way
