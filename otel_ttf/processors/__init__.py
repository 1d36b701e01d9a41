"""What a request passes before it is written: one file each, in the order of this table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_ttf.otlp.batch import Batch
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import SubjectConfig
from otel_ttf.pii.scanner import scanner
from otel_ttf.processors import enrich, mask, pseudonymise, validate
from otel_ttf.processors.base import Processor, Setting

PROCESSORS: dict[str, Any] = {
    "validate": validate,
    "enrich": enrich,
    "pseudonymise": pseudonymise,
    "mask": mask,
}


def pipeline(configs: Mapping[str, Any], keys: Keys, subject: SubjectConfig) -> Processor:
    """The configured processors as one. What they look for goes into one scan.

    configs  name -> configuration, as in PROCESSORS
    """
    setting = Setting.of(keys, subject)
    wanted: dict[int, list[str]] = {}
    for name, config in configs.items():
        for group, patterns in PROCESSORS[name].patterns(config, setting).items():
            wanted.setdefault(group, []).extend(patterns)
    one_scan = scanner(wanted)
    steps = [
        PROCESSORS[name].build(configs[name], setting, one_scan) for name in PROCESSORS if name in configs
    ]

    def process(batch: Batch) -> Batch:
        for step in steps:
            batch = step(batch)
        return batch

    return process
