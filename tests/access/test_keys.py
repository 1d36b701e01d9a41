"""API keys: what is kept of them, and what is not."""

from __future__ import annotations

import json
import re
import threading

import pytest

from otel_ttf.access.keys import ApiKey, KeysUnreadable, changing, digest, id_of, make, parse, written

PLAIN = ApiKey("", b"", frozenset({"ingest"}), created=1_800_000_000)
FULL = ApiKey(
    "",
    b"",
    frozenset({"read", "admin"}),
    "Jo's, of #7",
    1_800_000_000,
    1_900_000_000,
    True,
    2.5,
    1 << 20,
)


def test_a_key_is_a_random_text_with_its_id_in_it():
    made = [make(PLAIN) for _ in range(50)]
    assert all(re.fullmatch("ttfk_[a-z2-7]{8}_[a-z2-7]{52}", text) for _, text in made)
    assert len({text for _, text in made}) == 50
    assert all(id_of(text) == key.id and digest(text) == key.digest for key, text in made)


def test_what_is_written_is_read_again_and_holds_no_key():
    made = [make(PLAIN), make(FULL)]
    text = written([key for key, _ in made])
    assert parse(text) == tuple(key for key, _ in made)
    assert not any(secret.split("_")[2] in text for _, secret in made)


GOOD = json.loads(written([make(FULL)[0]]).splitlines()[1])


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("ttfk", id="no JSON"),
        pytest.param("[" * 100_000, id="nested JSON"),
        pytest.param("[]", id="a list"),
        pytest.param(json.dumps({**GOOD, "id": "ABCDEFGH"}), id="another id"),
        pytest.param(json.dumps({**GOOD, "sha256": "00"}), id="a short hash"),
        pytest.param(json.dumps({**GOOD, "sha256": "x" * 64}), id="no hash"),
        pytest.param(json.dumps({**GOOD, "scopes": ["root"]}), id="an unknown scope"),
        pytest.param(json.dumps({**GOOD, "scopes": "read"}), id="a text as scopes"),
        pytest.param(json.dumps({**GOOD, "expires": "soon"}), id="no time"),
        pytest.param(json.dumps({**GOOD, "trusted_tokens": "no"}), id="a text as a flag"),
        pytest.param(json.dumps({**GOOD, "requests_per_second": 0}), id="a rate of 0"),
        pytest.param(json.dumps({**GOOD, "only_from": "10.0.0.0/8"}), id="what a later version knows"),
        pytest.param(json.dumps({k: v for k, v in GOOD.items() if k != "scopes"}), id="no scopes"),
    ],
)
def test_what_is_no_key_is_refused_by_its_line_and_not_shown(line):
    with pytest.raises(KeysUnreadable, match="line 3: expected a key") as caught:
        parse(f"# head\n\n{line}\n")
    assert line[:20] not in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n", "  \n\n"])
def test_an_empty_file_is_not_one_without_keys(text):
    with pytest.raises(KeysUnreadable, match="found nothing: put it back"):
        parse(text)
    assert parse(written([])) == ()


def test_an_id_that_is_there_twice_is_refused():
    with pytest.raises(KeysUnreadable, match="line 2: expected each id once"):
        parse(f"{json.dumps(GOOD)}\n{json.dumps(GOOD)}")


def test_a_key_is_good_until_it_expires():
    assert PLAIN.good(4e9)
    assert FULL.good(1_899_999_999.9)
    assert not FULL.good(1_900_000_000)


def test_changes_at_the_same_time_are_all_kept(tmp_path):
    path = tmp_path / "api-keys"

    def add() -> None:
        with changing(path) as keys:
            keys.append(make(PLAIN)[0])

    threads = [threading.Thread(target=add) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(parse(path.read_text())) == 20
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_change_that_fails_changes_nothing(tmp_path):
    path = tmp_path / "api-keys"
    with changing(path) as keys:
        keys.append(make(PLAIN)[0])
    before = path.read_bytes()

    def fail() -> None:
        with changing(path) as keys:
            keys.clear()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_bytes() == before
