"""What a request costs between receiver and event log, without either: microseconds of CPU a record, one thread.

    python benchmarks/pipeline.py
    python benchmarks/pipeline.py --mix events --sizes 1 1000 --engine re2
    python benchmarks/pipeline.py --set 'processors.enrich.attributes={team: web}'

Batch, processors, the finished bytes, event ids, and the events for the tracker; every event and user is new.
The row is that of the median run; `whole` is the sum.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from itertools import islice

from load import MIXES, Load, Mix

from otel_ttf.config import load
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import Rules, TimeConfig
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import SubjectConfig
from otel_ttf.pii.scanner import ENGINES
from otel_ttf.processors import pipeline
from otel_ttf.processors.base import Processor

KEYS = Keys(event=b"e" * 32, subjects=(b"s" * 32,))
SUBJECT = SubjectConfig()
RULES = Rules(
    time=TimeConfig(),
    subject_from=SUBJECT.from_,
    wants_span=lambda name: name == "POST /projects",
)


def measure(requests: Iterator[bytes], count: int, process: Processor) -> list[float]:
    """Seconds of processors, finish, ids, extract over `count` requests."""
    spent = [0.0] * 4
    for raw in islice(requests, count):
        arrival = time.time_ns()
        t0 = time.thread_time()
        batch = process(Batch("logs", raw, arrival))
        t1 = time.thread_time()
        batch.finish()
        t2 = time.thread_time()
        assert len(batch.ids) % 20 == 0
        t3 = time.thread_time()
        batch.extract(RULES)
        t4 = time.thread_time()
        for step, (begin, end) in enumerate(((t0, t1), (t1, t2), (t2, t3), (t3, t4))):
            spent[step] += end - begin
    return spent


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mix", choices=MIXES, action="append")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--records", type=int, default=20_000, help="records a run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--engine", choices=ENGINES)
    parser.add_argument(
        "--set", action="append", default=[], help="processors.NAME...=VALUE, as for `otel-ttf run`"
    )
    chosen = parser.parse_args(argv)
    configs = load([], chosen.set).config.processor_configs("logs")
    process = pipeline(configs, KEYS, SUBJECT, engine=chosen.engine)
    print(
        f"{'mix':8}{'a request':>10}{'processors':>12}{'finish':>8}{'ids':>8}{'extract':>9}{'whole':>8}  us a record"
    )
    mixes: list[Mix] = chosen.mix or ["logs", "events"]
    for mix in mixes:
        for size in chosen.sizes:
            requests = (raw for _, raw in Load(size, mix).requests())
            runs = []
            for _ in range(chosen.runs):
                count = max(1, chosen.records // size)
                prepared = list(islice(requests, count))
                runs.append(
                    [second / count / size * 1e6 for second in measure(iter(prepared), count, process)]
                )
            median = sorted(runs, key=sum)[len(runs) // 2]
            columns = [*median, sum(median)]
            print(
                f"{mix:8}{size:>10}"
                + "".join(f"{c:>{w}.2f}" for c, w in zip(columns, (12, 8, 8, 9, 8), strict=True))
            )


if __name__ == "__main__":
    main()
