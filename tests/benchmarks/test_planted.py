"""The benchmark's table of what is left in clear is worth something only if it sees what is there."""

from __future__ import annotations

import pytest
from planted import corpus, found, full_width, percent_encoded, with_entities

PLANTS = corpus()


def test_all_is_in_clear_in_what_went_in():
    places = found(PLANTS, b"".join(plant.request for plant in PLANTS))
    assert all(counts.clear == counts.planted for counts in places.values())
    assert sum(counts.planted for counts in places.values()) == len(PLANTS) > 400


def test_all_is_gone_when_nothing_comes_out():
    places = found(PLANTS, b"")
    assert not any(counts.clear for counts in places.values())
    # A number has no mark beside it.
    kept = {place for place, counts in places.items() if counts.gone < counts.planted}
    assert kept == {place for place in places if place.endswith("number")}


def test_a_secret_is_counted_where_it_was_planted():
    for plant in PLANTS[::7]:
        places = found(PLANTS, plant.needles[0] + b" ")
        assert [place for place, counts in places.items() if counts.clear] == [plant.place]


def test_no_secret_is_part_of_another():
    secrets = [plant.needles[0] for plant in PLANTS]
    everything = b"\n".join(secrets)
    assert [secret for secret in secrets if everything.count(secret) > 1] == []


@pytest.mark.parametrize(
    ("write", "text", "written"),
    [
        (percent_encoded, "jo@x.de 4", "jo%40x.de%204"),
        (with_entities, "jo@x", "jo&#64;x"),
        (full_width, "jo@x4", "jo＠x４"),
    ],
)
def test_other_ways_to_write_a_text(write, text, written):
    assert write(text) == written
