"""Ways to a receiver: what is shown to it, and how much of its answer is waited for and kept."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from certs import Authority
from local_http import LocalHttp, Request, body_of, reply
from written import logs

from otel_ttf.access.entry import NOBODY, CannotEnter, Entry
from otel_ttf.replay import senders
from otel_ttf.replay.senders import Again, Refused, Taken, made

RAW = logs("ada").SerializeToString()
KEYED = Entry(key="the-key")


class Receiver(LocalHttp):
    """Says `status` and `body`; drips: the body comes byte by byte, without end."""

    def __init__(self) -> None:
        super().__init__()
        self.status, self.body, self.drips = 200, b"", False
        self.came: list[dict[str, str]] = []

    def answer(self, request: Request) -> None:
        body_of(request)
        self.came.append({name.lower(): value for name, value in request.headers.items()})
        if not self.drips:
            reply(request, self.status, self.body)
            return
        reply(request, self.status, self.body, {"content-length": "1000000"})
        with suppress(OSError):
            while True:
                request.wfile.write(b" ")
                time.sleep(0.01)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


async def send(receiver: Receiver, headers: dict[str, str], entry: Entry = NOBODY) -> Taken:
    sender = made(receiver.address, headers, entry, packed=False)
    try:
        return await sender.send("logs", RAW)
    finally:
        await sender.close()


@pytest.mark.parametrize(
    ("headers", "entry", "shown"),
    [
        pytest.param({}, NOBODY, {}, id="nothing"),
        pytest.param({}, KEYED, {"authorization": "Bearer the-key"}, id="a key"),
        pytest.param({"X-Tenant": "a"}, KEYED, {"authorization": "Bearer the-key"}, id="beside others"),
        # With two of them a server of ours lets nobody in.
        pytest.param({"X-API-Key": "own"}, KEYED, {"x-api-key": "own"}, id="one that is given"),
        pytest.param({"Authorization": "Bearer own"}, KEYED, {"authorization": "Bearer own"}, id="or so"),
    ],
)
async def test_a_key_is_shown_once(receiver, headers, entry, shown):
    assert await send(receiver, headers, entry) == Taken()
    (came,) = receiver.came
    assert {name: came[name] for name in ("authorization", "x-api-key") if name in came} == shown


async def test_an_answer_without_measure_is_not_kept(receiver):
    receiver.body = bytes(64 << 20)
    await send(receiver, {})
    tracemalloc.start()
    assert await send(receiver, {}) == Taken()
    receiver.status = 400
    with pytest.raises(Refused, match=r"it answers 400$"):
        await send(receiver, {})
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    assert receiver.came[-1]["accept-encoding"] == "identity"


async def test_an_answer_that_drips_is_not_waited_for_any_longer(receiver, monkeypatch):
    monkeypatch.setattr(senders, "TIMEOUT", 0.3)
    receiver.drips = True
    with pytest.raises(Again, match=r"does not answer \(TimeoutError\)"):
        await send(receiver, {})


@pytest.mark.parametrize("to", ["https://127.0.0.1:1", "grpcs://127.0.0.1:1"])
def test_files_that_are_no_certificates_are_named(tmp_path: Path, to: str) -> None:
    no_pem = tmp_path / "ca.crt"
    no_pem.write_text("nothing")
    certificate, _ = Authority().sign().put(tmp_path, "ours")
    for entry in (Entry(ca_file=str(no_pem)), Entry(cert_file=certificate, key_file=str(tmp_path / "gone"))):
        with pytest.raises(CannotEnter, match="cannot be used for TLS"):
            made(to, {}, entry, packed=False)
