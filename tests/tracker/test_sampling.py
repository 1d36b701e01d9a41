"""The share of users that is followed is noted in the store when it changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from world import START, World, journey

from otel_ttf.sqlite_disk import RowDamaged
from otel_ttf.units import HOUR


def test_the_share_of_a_new_store_holds_from_the_beginning(tmp_path: Path) -> None:
    world = World(tmp_path, journey(), share=0.1)
    assert world.follower.sampling.steps == ((0, 0.1),)
    world.restart()
    assert world.follower.sampling.steps == ((0, 0.1),)
    world.close()


def test_in_a_store_from_before_it_was_noted_the_share_has_always_been_the_same(tmp_path: Path) -> None:
    world = World(tmp_path, journey(), share=0.1)
    world.store.db.execute("DELETE FROM meta WHERE name = 'sampled'")
    world.restart()
    assert world.follower.sampling.weight(START) == 10
    world.close()


def test_a_change_counts_from_then_on(tmp_path: Path) -> None:
    world = World(tmp_path, journey())
    assert world.follower.sampling.steps == ()
    for share in (0.1, 0.5, 1.0):
        world.options["share"] = share
        world.restart()
        world.now += HOUR
    steps = ((START + HOUR, 0.1), (START + 2 * HOUR, 0.5), (START + 3 * HOUR, 1.0))
    assert world.follower.sampling.steps == steps
    world.close()


def test_a_note_that_nobody_wrote_is_damage(tmp_path: Path) -> None:
    world = World(tmp_path, journey(), share=0.1)
    for wrong in ("[[0, 0]]", "[[0.5, 0.5]]", "[0]", "{}", "[[0, 1]", "[[0, null]]"):
        world.store.db.execute("UPDATE meta SET value = ? WHERE name = 'sampled'", (wrong,))
        with pytest.raises(RowDamaged):
            world.store.sampling()
    world.close()
