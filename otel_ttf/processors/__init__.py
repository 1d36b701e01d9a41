"""What a request passes before it is written: one file each, in the order of this table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.subject import KeptSubjects, SubjectKeys
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import SubjectConfig
from otel_ttf.pii.scanner import Engine, Scanner
from otel_ttf.processors import consent, enrich, mask, sample, validate
from otel_ttf.processors import filter as filter_
from otel_ttf.processors.base import Built, Processor, Setting
from otel_ttf.processors.keep_ids import KeepIds
from otel_ttf.processors.pseudonymise import Pseudonymise, PseudonymiseConfig, keeping
from otel_ttf.processors.shorten import shortening


def _pseudonymise(_: PseudonymiseConfig, setting: Setting) -> Pseudonymise:
    """Makes the event ids, then puts tokens in the place of every subject attribute, or beside it."""
    subject = setting.subject
    return KeepIds(setting, subject) if isinstance(subject, KeptSubjects) else Pseudonymise(setting)


PROCESSORS: dict[str, Callable[[Any, Setting], Built]] = {
    "validate": validate.build,
    "enrich": enrich.build,
    "pseudonymise": _pseudonymise,
    "consent": consent.build,
    "mask": mask.build,
    "filter": filter_.build,
    "sample": sample.build,
}

JUDGING = ("filter", "sample")  # they change nothing, and say what goes on


def pipeline(
    configs: Mapping[str, Any],
    keys: Keys,
    subject: SubjectConfig,
    *,
    engine: Engine | None = None,
    keep_ids: bool = False,
    plain: bool = False,
    **told: Any,
) -> Processor:
    """The configured processors as one. What they look for goes into one scan.

    configs   name -> configuration, as in PROCESSORS
    engine    of the scan; by default the fastest that is installed
    keep_ids  user ids stay as they came, with their tokens beside them: `privacy.subject: keep`
    plain     all batches will be plain ones: no scan is made, which takes seconds for some engines
    told      what else processors are told, see Setting; derivations where several pipelines share them

    Raises ProcessorRefused.
    """
    attributes = (KeptSubjects if keep_ids else SubjectKeys)(subject.from_)
    rules = configs["mask"].keys if "mask" in configs else ()
    if "enrich" in configs:
        told.setdefault("derivations", configs["enrich"].derivations())
    notes = "sample" in configs and configs["sample"].subjects is not None
    setting = Setting(keys, attributes, subject.normalise, key_rules=rules, notes=notes, **told)
    built = {name: build(configs[name], setting) for name, build in PROCESSORS.items() if name in configs}
    patterns = [pattern for one in built.values() for pattern in one.patterns]
    scanner = Scanner(patterns if not plain else [], engine)
    steps: list[Processor] = []
    for name in PROCESSORS:
        if name == "mask" and isinstance(sampling := built.get("sample"), sample.Sample):
            # What users who are left out have said about consent counts; nothing else is done, or kept, for them.
            steps += sampling.of_subjects
        if name in built and name not in JUDGING:
            steps.append(built[name].processor(scanner))
    if "validate" in configs:
        # What is cut in two could not be masked any more.
        steps.append(shortening(configs["validate"], attributes))
    # They see what the tracker will see.
    steps += [built[name].processor(scanner) for name in JUDGING if name in built]
    if setting.ids is not None:
        steps.append(keeping(setting.ids))

    def process(batch: Batch) -> Batch:
        for step in steps:
            batch = step(batch)
        return batch

    return process
