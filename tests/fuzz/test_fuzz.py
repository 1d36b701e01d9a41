"""Coverage-guided fuzzing of what has to hold for any bytes; inputs for which something once didn't.

FUZZ_SECONDS  for all targets together; 6 unless said. Getting ready takes each of them more, so that it is .ci/run's;
              every day inputs that are mutated without looking at coverage stand for it
FUZZ_SEED     0: another one each time; 1 unless said
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from targets import TARGETS, paths
from wire import mutated

from otel_ttf.otlp.wire import SIGNALS, Malformed, decode

SECONDS = max(1, int(os.environ.get("FUZZ_SECONDS", "6")) // len(TARGETS))
SEED = os.environ.get("FUZZ_SEED", "1")
# Inputs on which something didn't hold once: target, hex; what it was.
FOUND = [
    pytest.param(
        "paths",
        "000a10120e120c2a0a9800d9e5fa85b8b69007",
        id="a card number as int_value behind a tag of two bytes passed the scan",
    ),
    pytest.param("paths", "030a10120e120c2a0a9800d9e5fa85b8b69007", id="the same by the next engine"),
]


@pytest.mark.long
@pytest.mark.skipif(
    find_spec("atheris") is None,
    reason="atheris is not installed: it has wheels for Linux on x86-64 and Python 3.11 to 3.14",
)
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found(name: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(Path(__file__).with_name("fuzz.py")),
        name,
        str(SECONDS),
        SEED,
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 90, check=False)
    found = [f"{path.name}: {path.read_bytes().hex()}" for path in tmp_path.iterdir() if path.is_file()]
    # What was raised stands on the one, what libFuzzer says on the other.
    told = done.stdout + "\n".join(done.stderr.splitlines()[-30:])
    assert (done.returncode, found) == (0, []), f"{name}: {found}\n{told}"
    assert "stat::number_of_executed_units" in done.stderr, told


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_hold(name):
    target = TARGETS[name]
    seeds = list(target.seeds())
    assert len(seeds) >= 20
    for data in seeds:
        target.check(data)


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_seeds_hold(name):
    target = TARGETS[name]
    rng = random.Random(SEED)
    seeds = list(target.seeds())
    for _ in range(60):
        data = rng.choice(seeds)
        for _ in range(rng.randint(1, 3)):
            data = target.mutate(data, rng, change) if target.mutate is not None else change(data, rng)
        target.check(data)


def change(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one change: something other in, out, or twice."""
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice((0, 1, 1, 4)))
    return data[:at] + rng.choice((b"", rng.randbytes(1), rng.randbytes(4), data[at:end] * 2)) + data[end:]


@pytest.mark.parametrize(("name", "data"), FOUND)
def test_what_was_found_holds(name, data):
    TARGETS[name].check(bytes.fromhex(data))


def test_mutated_requests_are_mostly_requests():
    """Else the fuzzer would see little more than refusals."""
    whole = changed = 0
    rng = random.Random(1)
    for data in TARGETS["paths"].seeds():
        signal = SIGNALS[data[0] % 3]
        for _ in range(5):
            new = mutated(data[1:], rng, lambda raw, rng: raw + bytes([rng.randrange(32, 127)]))
            changed += new != data[1:]
            try:
                decode(signal, new)
                whole += 1
            except Malformed:
                pass
    assert whole > 400
    assert changed > 400


def test_a_fast_path_that_believes_a_blind_scan_is_caught(monkeypatch):
    """That the target sees a difference at all."""
    seeds = list(TARGETS["paths"].seeds())
    monkeypatch.setattr("otel_ttf.pii.scanner.Scanner.hits", lambda _self, _pieces: {})
    differing = 0
    for data in seeds:
        try:
            paths(data)
        except AssertionError:
            differing += 1
    assert differing > len(seeds) // 2
