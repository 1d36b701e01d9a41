"""Rows 6 and 41 of the table, against a server that wants keys."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator

import pytest
from doors import CANARY, DOORS, Answer, Call, Http, Reply, memory_bounded, record, send
from row import Row
from server_process import Answer as Got
from server_process import ServerProcess
from strangers import EXPIRED_KEY, GOOD, GOOD_KEY, KEYS, READING_KEY, REVOKED_KEY, STRANGERS
from transport import BODIES

from otel_ttf.access.keys import written

KEY = {"x-api-key": GOOD_KEY}
TIMES = 300


class Asking(ServerProcess):
    """Asks with a key; what is sent to it otherwise has none."""

    def get(self, path: str) -> Got:
        return self.request("GET", path, headers=KEY)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    folder = tmp_path_factory.mktemp("strangers") / "data"
    folder.mkdir()
    (folder / "api-keys").write_text(written(KEYS))
    # So that each row hears what is wrong with it, however many there are.
    settings = ("service.telemetry.logs.level=debug", "auth.refusals_per_second=null")
    with Asking(folder, settings=settings) as running:
        whoever_has_a_key_is_served(running)
        yield running


def whoever_has_a_key_is_served(server: Asking) -> None:
    """Raises AssertionError unless a record comes in through each door, and /health answers."""
    sent = {
        "grpc": Call(record, metadata=(("x-api-key", GOOD_KEY),)),
        "http": Http(BODIES["http"], KEY),
        "rest": Http(BODIES["rest"], KEY),
    }
    got = {door: send(server, door, sent[door]).answer for door in DOORS}
    assert got == {"grpc": "OK", "http": 200, "rest": 200}
    assert server.request("GET", "/health").status == 200


def accepted(server: Asking) -> float:
    return server.metrics().total("telemetry_events_total")


def refused(server: Asking) -> float:
    return server.metrics().total("otel_ttf_access_refused_total")


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{row.number} {row.door}: {row.name}") for row in STRANGERS]
)
def test_whoever_has_no_good_key_comes_no_further(server: Asking, row: Row) -> None:
    before, counted = accepted(server), refused(server)
    with memory_bounded(server, row.mib):
        began = server.cpu_seconds()
        reply: Reply = send(server, row.door, row.sent)
        assert server.cpu_seconds() - began < row.seconds
    answers = row.answer if isinstance(row.answer, tuple) else (row.answer,)
    assert reply.answer in answers
    assert row.says in reply.body.decode(errors="replace")
    assert accepted(server) == before
    turned_away: tuple[Answer, ...] = (401, 403, "UNAUTHENTICATED", "PERMISSION_DENIED")
    if reply.answer in turned_away:
        assert refused(server) == counted + 1
    whoever_has_a_key_is_served(server)
    nothing_is_told(server)


def nothing_is_told(server: Asking) -> None:
    """The server runs, and neither its log nor its files hold what was sent, or a key."""
    assert server.running.poll() is None
    printed = server.printed()
    assert not any(text in printed for text in (CANARY, "Traceback", " [error "))
    assert re.search(r"^[IWEF]\d{4} ", printed, re.MULTILINE) is None  # as gRPC writes by itself
    secrets = [key.split("_")[2].encode() for key in (GOOD_KEY, READING_KEY, EXPIRED_KEY, REVOKED_KEY)]
    files = [path.read_bytes() for path in server.data_dir.rglob("*") if path.is_file()]
    assert not any(secret in content for secret in secrets for content in (printed.encode(), *files))


def test_how_long_a_refusal_takes_tells_nothing_of_the_key(server: Asking) -> None:
    """Of keys that differ from a good one at their beginning, at their end and all over, by turns."""
    id_, secret = GOOD.id, GOOD_KEY.split("_")[2]
    keys = [
        f"ttfk_{id_}_{'q' * 52}",
        f"ttfk_{id_}_{secret[:-2]}qq",
        f"ttfk_{'q' * 8}_{secret}",
        EXPIRED_KEY,
    ]
    took: dict[str, list[float]] = {key: [] for key in keys}
    for _ in range(TIMES):
        for key in keys:
            began = time.perf_counter()
            assert server.request("GET", "/api/v1/ttf", headers={"x-api-key": key}).status == 401
            took[key].append(time.perf_counter() - began)
    medians = [statistics.median(times) for times in took.values()]
    assert max(medians) < 1.5 * min(medians)


def test_every_row_has_a_name_of_its_own() -> None:
    names = [(row.number, row.door, row.name) for row in STRANGERS]
    assert len(set(names)) == len(names)
