"""What operators ask: each task is carried out in the transaction that answers it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otel_ttf.journey.state import UNSET
from otel_ttf.otlp.events import Rules, extract
from otel_ttf.store.sqlite_rows import parts
from otel_ttf.store.tasks import Kind, Task
from otel_ttf.telemetry import failure
from otel_ttf.tracker.follow import Follower, Missing
from otel_ttf.tracker.isolate import of_the_machine
from otel_ttf.tracker.rebuild import begin
from otel_ttf.tracker.recompute import Recomputed, Refused, recompute

AT_MOST = 20  # records that are named in our log


@dataclass(slots=True)
class Done:
    """What is to be told when it is committed.

    answer   for who asked, JSON
    counts   what it did to records that were set aside, by action
    missing  see Follower.take
    """

    answer: dict[str, Any]
    counts: dict[str, int] = field(default_factory=dict)
    missing: Missing = field(default_factory=Counter)

    @property
    def not_done(self) -> str | None:
        """Why some of it was refused or failed; of which record or journey, never whose."""
        answer = self.answer
        if answer.get("failed"):
            return ", ".join(f"record {id_}: {why}" for id_, why in list(answer["failed"].items())[:AT_MOST])
        if answer.get("unknown"):
            return "no records of these ids: " + ", ".join(map(str, answer["unknown"][:AT_MOST]))
        reason: str | None = answer.get("failure") or answer.get("refused")
        return reason


class Errands:
    """Carries tasks out. The caller opens and ends the transaction."""

    def __init__(self, follower: Follower, rules: Rules, max_size: int) -> None:
        """max_size: storage.max_size"""
        self._max_size = max_size
        self._follower = follower
        self._store = follower.store
        self._rules = rules
        self._ways: Mapping[Kind, Callable[[dict[str, Any], int], Done]] = {
            "retry": self._retry,
            "drop": self._drop,
            "recompute": self._recompute,
            "rebuild": self._rebuild,
        }

    def do(self, task: Task, now: int) -> Done:
        """Carries a task out and writes its answer. Raises an error of the machine: then it is still to be done.

        answer of one that fails through a defect: failure, with error and place; then it has done nothing
        """
        self._store.mark()
        try:
            done = self._ways[task.kind](task.what, now)
        except Exception as error:
            if of_the_machine(error):
                raise
            self._follower.undo_to_mark()
            told = failure(error)
            done = Done({"failure": f"{told['error']} at {told['place']}"})
        else:
            self._store.unmark()
        self._store.tasks.answer(task.id, done.answer)
        return done

    def _retry(self, what: dict[str, Any], now: int) -> Done:
        """what: ids. Each is followed as if it came now for the first time, with its own arrival and event ids.

        answer: done, unknown: ids; failed: id -> error and place
        """
        quarantine = self._store.quarantine
        taken, unknown, failed = [], [], {}
        missing: Missing = Counter()
        for id_ in what["ids"]:
            letter = quarantine.get(id_)
            if letter is None:
                unknown.append(id_)
                continue
            self._store.mark()
            try:
                found = extract(letter.signal, letter.payload, letter.ids, letter.arrival, self._rules)
                matched = self._follower.take([(letter.arrival, found)], now)
            except Exception as error:
                if of_the_machine(error):
                    raise
                self._follower.undo_to_mark()
                told = failure(error)
                quarantine.failed(id_, told["error"], told["place"])
                failed[str(id_)] = f"{told['error']} at {told['place']}"
            else:
                self._store.unmark()
                quarantine.delete([id_])
                taken.append(id_)
                missing += matched
        answer = {"done": taken, "unknown": unknown, "failed": failed}
        return Done(answer, {"retried": len(taken)}, missing)

    def _drop(self, what: dict[str, Any], now: int) -> Done:
        """what: ids. answer: done, unknown: ids."""
        known = set(self._store.quarantine.ids())
        gone = [id_ for id_ in what["ids"] if id_ in known]
        self._store.quarantine.delete(gone)
        unknown = [id_ for id_ in what["ids"] if id_ not in known]
        return Done({"done": gone, "unknown": unknown, "failed": {}}, {"dropped": len(gone)})

    def _recompute(self, what: dict[str, Any], now: int) -> Done:
        """what: subjects, one person's tokens; without: an event id in hex, or None; dry_run.

        answer: refused, why, or None; journeys, see below; times are unix ns, None: not reached
        """
        without = what["without"]
        try:
            done = recompute(
                self._follower,
                what["subjects"],
                now,
                without=without and bytes.fromhex(without),
                dry=what["dry_run"],
            )
        except Refused as refused:
            return Done({"refused": refused.reason, "journeys": _all_described(refused.known)})
        return Done({"refused": None, "journeys": _all_described(done)})

    def _rebuild(self, what: dict[str, Any], now: int) -> Done:
        """what: journeys, names; none: all. answer: refused, why, or None; begun, under_way: names"""
        done = begin(self._follower, what["journeys"], now, max_size=self._max_size)
        told = {"refused": done.refused, "begun": list(done.begun), "under_way": list(done.under_way)}
        return Done(told)


def _all_described(done: Sequence[Recomputed]) -> list[dict[str, Any]]:
    """What is shared by several journeys is in each of them."""
    return [_described(one) for one in done if "" not in parts(one.key)]


def _described(one: Recomputed) -> dict[str, Any]:
    """journey, subject, key, changed; milestones with time before and after and the event that was first."""
    journey = one.followed.journey
    milestones = [
        {
            "milestone": milestone.name,
            "before": None if before == UNSET else before,
            "after": None if after == UNSET else after,
            "event_id": one.first[m].hex() if m in one.first else None,
        }
        for m, (milestone, before, after) in enumerate(
            zip(journey.milestones, one.before.reached, one.after.reached, strict=True)
        )
    ]
    return {
        "journey": journey.name,
        "subject": one.subject,
        "key": list(parts(one.key)),
        "changed": one.before != one.after,
        "milestones": milestones,
    }
