"""The names that came: whoever sends may put anything there, and any number of them."""

from __future__ import annotations

from world import World

from otel_ttf.tracker import follow


def test_of_a_long_name_the_beginning_is_kept(world: World) -> None:
    long = "n" * 1_000_000
    world.send((f"{long}1", "ada", 0, {}), (f"{long}2", "ada", 0, {}))
    assert world.rows("SELECT name, count FROM seen") == [("n" * 256, 2)]


def test_names_may_hold_anything(world: World) -> None:
    odd = ["a\x00b", "a\nb", "\x1b[2J", "%", "(other)", "\U0010ffff", "'; DROP TABLE seen; --"]
    world.send(*((name, "ada", 0, {}) for name in odd))
    world.send(*((name, "ada", 1, {}) for name in odd))
    assert sorted(world.rows("SELECT name, count FROM seen")) == sorted((name, 2) for name in odd)


def test_beyond_ten_thousand_names_the_others_are_counted_together(world: World, monkeypatch) -> None:
    monkeypatch.setattr(follow, "SEEN_NAMES", 10)
    world.send(*((f"name {number:02}", "ada", 0, {}) for number in range(30)))
    world.send(("name 05", "ada", 1, {}), ("name 25", "ada", 1, {}), ("start", "ada", 1, {}))
    names = dict(world.rows("SELECT name, count FROM seen"))
    assert names == {f"name {number:02}": 1 + (number == 5) for number in range(10)} | {"(other)": 22}
