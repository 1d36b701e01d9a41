"""Fuzzes one target for so long; test_fuzz.py runs it.

    python tests/fuzz/fuzz.py TARGET SECONDS SEED FOLDER

The corpus goes into FOLDER, the input of a failure into a file there that begins with `crash-`, as atheris's
libFuzzer names it. The exit code is not 0 then.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), *(str(HERE.parent / name) for name in ("journey", "processors", "receivers"))]

INSTRUMENTED = ["otlp", "pii", "processors", "receivers", "journey", "config"]
with atheris.instrument_imports(include=[f"otel_ttf.{package}" for package in INSTRUMENTED]):
    from targets import TARGETS

MOST_BYTES = 4096


def main() -> None:
    name, seconds, seed, folder = sys.argv[1:]
    target = TARGETS[name]
    corpus = Path(folder) / "corpus"
    corpus.mkdir()
    for number, data in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(data)
        target.check(data)  # what a check makes once takes none of the time then

    def change(data: bytes, _rng: random.Random) -> bytes:
        return bytes(atheris.Mutate(data, max(len(data) + 32, 64)))

    def mutate(data: bytes, most: int, chosen: int) -> bytes:
        assert target.mutate is not None
        return target.mutate(data, random.Random(chosen), change)[:most]

    options = [
        *(sys.argv[0], str(corpus), f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={MOST_BYTES}"),
        *(f"-artifact_prefix={folder}/", "-timeout=20", "-print_final_stats=1"),
    ]
    structure = {"custom_mutator": mutate} if target.mutate is not None else {}
    atheris.Setup(options, target.check, **structure)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
