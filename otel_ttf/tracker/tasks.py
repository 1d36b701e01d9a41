"""What operators ask: each task is carried out in the transaction that answers it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from otel_ttf.journey.state import UNSET
from otel_ttf.log.base import Row
from otel_ttf.otlp.events import Rules
from otel_ttf.store.quarantine import MAX_BYTES, DeadLetter, records_of
from otel_ttf.store.sqlite_rows import parts
from otel_ttf.store.tasks import Kind, Task
from otel_ttf.telemetry import failure
from otel_ttf.tracker.follow import Follower, Missing
from otel_ttf.tracker.isolate import COPIES, Isolation, Taken, of_the_machine
from otel_ttf.tracker.rebuild import begin
from otel_ttf.tracker.recompute import Recomputed, Refused, recompute

AT_MOST = 20  # records that are named in our log
CUTS = 1000  # so often a letter is parted in one retry: the tracker follows nothing meanwhile


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

        Where one is several records, of which some fail again, these are set aside apart from one another, under new
        ids, as far as there is room for their copies of what they share.
        answer: done, unknown: ids; failed: id -> error and place
        """
        quarantine = self._store.quarantine
        taken, unknown, failed = [], [], {}
        missing: Missing = Counter()
        retried = 0
        for id_ in what["ids"]:
            letter = quarantine.get(id_)
            if letter is None:
                unknown.append(id_)
                continue
            again = self._again(letter, now)
            missing += again.missing
            retried += max(0, letter.records - records_of(again.letters))
            if not again.letters:
                quarantine.delete([id_])
                taken.append(id_)
                continue
            first = again.letters[0]
            failed[str(id_)] = f"{first.error} at {first.source}"
            if len(again.letters) == 1 and first.records == letter.records:
                quarantine.failed(id_, first.error, first.source)
            else:
                failed[str(id_)] += f"; parted: {records_of(again.letters)} records are set aside anew"
                quarantine.delete([id_])
                quarantine.add(again.letters, MAX_BYTES)
        answer = {"done": taken, "unknown": unknown, "failed": failed}
        return Done(answer, {"retried": retried}, missing)

    def _again(self, letter: DeadLetter, now: int) -> Taken:
        """Takes what of a letter can be taken now; the rest as letters that are not written yet."""
        isolation = Isolation(self._follower, self._rules, letter.log_id, lambda: False)
        row = Row(letter.position, letter.arrival, letter.signal, letter.payload, letter.ids, letter.records)
        # Never so much that others would have to go for it.
        room = min(COPIES, MAX_BYTES - self._store.quarantine.held())
        taken = isolation.take([row], now, copies=max(0, room), cuts=CUTS)
        letters = [
            replace(one, place=letter.place + one.place, tries=letter.tries + 1, since=letter.since)
            for one in taken.letters
        ]
        return replace(taken, letters=letters)

    def _drop(self, what: dict[str, Any], now: int) -> Done:
        """what: ids. answer: done, unknown: ids."""
        known = set(self._store.quarantine.ids())
        gone = [id_ for id_ in what["ids"] if id_ in known]
        dropped = self._store.quarantine.delete(gone)
        unknown = [id_ for id_ in what["ids"] if id_ not in known]
        return Done({"done": gone, "unknown": unknown, "failed": {}}, {"dropped": dropped})

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
