"""Personal data is replaced: by attribute key, and by what texts hold."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.cut import Head
from otel_ttf.otlp.tree import place, plan
from otel_ttf.otlp.wire import SHAPES
from otel_ttf.pii.action import Action, rule_for_vendors
from otel_ttf.pii.detect import DETECTORS
from otel_ttf.pii.detect.base import Detector
from otel_ttf.pii.detect.custom import NAME, CustomDetector, sharing
from otel_ttf.pii.keyrules import KeyRule, KeyRules
from otel_ttf.pii.keys import key_id
from otel_ttf.pii.masking import Masking, ValueHashes, Watch, Where
from otel_ttf.pii.scanner import CONTENT, ENCODED, EVERYTHING, FIRST_DETECTOR, KEY, Pattern, Scanner
from otel_ttf.pii.unfold import PATTERNS as ENCODINGS
from otel_ttf.processors.base import Processor, Setting, rewritten
from otel_ttf.processors.masker import Masker

Vendors = Literal["keep", "drop"]


class DetectorRule(BaseModel):
    """What is done with the findings of one detector."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Action = Field("redact", description="redact, hash, truncate, partial, encrypt, drop or keep.")
    vendors: Vendors = Field("keep", description="`drop`: what is encrypted here does not go to vendors.")

    @model_validator(mode="after")
    def _known_when_it_leaves(self) -> DetectorRule:
        rule_for_vendors(self.action, vendors=self.vendors == "keep")
        return self


def _rule(detector: Detector, given: object) -> object:
    """`true`, `false` and a bare action are short for a rule."""
    match given:
        case True:
            return {"action": on(detector)}
        case False:
            return {"action": "keep"}
        case str():
            return {"action": given}
        case _:
            return given


def on(detector: Detector) -> Action:
    """What is done with findings when the detector is switched on and nothing else is said."""
    return "redact" if detector.default == "keep" else detector.default


_BY_NAME = {detector.name: detector for detector in DETECTORS}
PACKS = tuple(sorted({detector.pack for detector in DETECTORS if detector.pack is not None}))


def _rules(given: object, validated: ValidatorFunctionWrapHandler) -> Any:
    """The rules; what is wrong with each is told at its name."""
    if not isinstance(given, Mapping):
        return validated(given)
    wrong = {
        name: ValueError(f"expected one of {', '.join(_BY_NAME)}") for name in given if name not in _BY_NAME
    }
    rules = {name: _rule(_BY_NAME[name], rule) for name, rule in given.items() if name not in wrong}
    for name, rule in rules.items():
        action = rule.get("action") if isinstance(rule, Mapping) else None
        if action == "truncate" and _BY_NAME[name].default != "truncate" and not _truncates(_BY_NAME[name]):
            wrong[name] = ValueError("expected another action than truncate: it has no coarser form")
    errors = [
        InitErrorDetails(type="value_error", loc=(name,), input=given[name], ctx={"error": error})
        for name, error in wrong.items()
    ]
    try:
        made = validated(rules)
    except ValidationError as error:
        errors += [
            InitErrorDetails(type=e["type"], loc=e["loc"], input=e["input"], ctx=e.get("ctx", {}))
            for e in error.errors(include_url=False)
        ]
    if errors:
        raise ValidationError.from_exception_data("detectors", errors)
    return made


def _truncates(detector: Detector) -> bool:
    return type(detector).truncated is not Detector.truncated


class MaskConfig(BaseModel):
    """What is masked before anything is written down."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    detectors: Annotated[
        dict[str, DetectorRule],
        WrapValidator(_rules),
        WithJsonSchema(
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    detector.name: {
                        "description": (type(detector).__doc__ or "").strip().splitlines()[0],
                        "anyOf": [{"type": "boolean"}, {"type": "string"}, {"type": "object"}],
                        "default": detector.default,
                    }
                    for detector in DETECTORS
                },
            }
        ),
    ] = Field(
        {},
        description="Detector: action, or false. What is not named does what it does by default.",
    )
    packs: tuple[Literal[PACKS], ...] = Field(  # type: ignore[valid-type]
        (), description="National numbers to look for, too: us, de, fr ..."
    )
    keys: tuple[
        Annotated[KeyRule, BeforeValidator(lambda k: {"words": k} if isinstance(k, str) else k)], ...
    ] = Field(
        (),
        description="Rules for keys, before the built-in ones; the first that fits counts. A text is short for "
        "`words`: words next to each other in a key, in any spelling; `tax id` is tax_id, taxId and "
        "customer.tax-id, too.",
    )

    custom: dict[Annotated[str, Field(pattern=NAME)], CustomDetector] = Field(
        {}, description="Detectors of one's own, by name; they look after the built-in ones."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> MaskConfig:
        if taken := self.custom.keys() & _BY_NAME.keys():
            raise ValueError(
                f"custom: expected other names than those of built-in detectors, found {min(taken)}"
            )
        for name, wrong in sharing(self.custom):
            raise ValueError(f"custom: {name}: expected {wrong}")
        for name, own in self.custom.items():
            detector = own.detector(name)
            if any(detector.find(f"[{detector.label}]")):
                raise ValueError(
                    f"custom: expected another name or pattern: {name} finds part of its own placeholder "
                    f"[{detector.label}], which would be masked again and again"
                )
        return self

    def watches(self) -> tuple[Watch, ...]:
        """The detectors that look, each with a group of its own."""
        found = []
        for place_, detector in enumerate(DETECTORS):
            rule = self.detectors.get(detector.name)
            if rule is None:
                packed = detector.pack is not None and detector.pack in self.packs
                rule = DetectorRule(action=on(detector) if packed else detector.default)
            if rule.action != "keep":
                found.append(
                    Watch(detector, rule.action, FIRST_DETECTOR << place_, vendors=rule.vendors == "keep")
                )
        for place_, (name, own) in enumerate(self.custom.items(), len(DETECTORS)):
            if own.action != "keep":
                group = FIRST_DETECTOR << place_
                found.append(Watch(own.detector(name), own.action, group, vendors=own.vendors == "keep"))
        return tuple(found)

    @property
    def encrypts(self) -> bool:
        """Whether anything is sealed, so that a vault is needed."""
        rules: tuple[DetectorRule | KeyRule | CustomDetector, ...] = (
            *self.detectors.values(),
            *self.keys,
            *self.custom.values(),
        )
        return any(rule.action == "encrypt" for rule in rules)


def changes(config: MaskConfig, attribute: str) -> bool:
    """Whether the value of an attribute of that name is masked by its key."""
    rule = KeyRules(config.keys).rule(attribute)
    return rule is not None and (rule.action or rule.policy) not in ("keep", "scan", "safe")


class _Mask:
    def __init__(self, config: MaskConfig, setting: Setting) -> None:
        watches = config.watches()
        rules = KeyRules(config.keys, setting.subject.names)
        newest = setting.keys.subjects[0]
        self._masking = partial(Masking, watches, rules, ValueHashes(key_id(newest), newest), setting.sealer)
        self._subject = setting.subject
        self._seals = config.encrypts
        self._trace = setting.trace
        self.patterns = [
            *rules.patterns,
            *(Pattern(ENCODED, expression) for expression in ENCODINGS),
            *(Pattern(watch.group, one) for watch in watches for one in watch.detector.supersets),
            *(
                Pattern(watch.group, one)
                for watch in watches
                if watch.detector.name == "card"
                for one in _LONG
            ),
        ]

    def processor(self, scanner: Scanner) -> Processor:
        masking = self._masking(scanner)

        def mask(batch: Batch) -> Batch:
            batch.scan(scanner)
            where = Where(trusted=batch.trusted, trace=self._trace)
            walker = Masker(masking, self._subject, where, seals=self._seals)
            for head, groups in batch.head_hits(KEY | CONTENT):
                walker.groups = groups
                _head(head, walker)
            found = batch.hits(KEY | CONTENT)
            if batch.plain or batch.signal == "metrics":
                # A metric is walked as a whole: each text is scanned by itself.
                walker.groups = EVERYTHING if batch.plain else ENCODED
                for number, _ in found:
                    where.subject = self._owner(batch, number)
                    new = rewritten(batch.shape.record, batch.slice(number), walker)
                    if new is not None:
                        batch.replace(number, new)
                    where.drop = False
            elif found:
                self._records(batch, [number for number, _ in found], scanner, walker)
            for (rule, spot), count in where.counts.items():
                batch.counts["masked", rule, spot] = count
            return batch

        return mask

    def _owner(self, batch: Batch, number: int) -> str | None:
        """Token of the subject of the resource that a record stands in, if anything is sealed."""
        if not self._seals:
            return None
        pairs = Resource.FromString(batch.resource_of(number).data).attributes
        return self._subject.token([pair.SerializeToString() for pair in pairs])

    def _records(self, batch: Batch, numbers: Sequence[int], scanner: Scanner, walker: Masker) -> None:
        """Of log records and spans, only what a scan of their parts says is decoded."""
        parts: list[bytes] = []
        starts: list[int] = []  # the first part of each field
        owners: list[tuple[int, _Part]] = []
        fields = _PARTS[batch.signal]
        for number in numbers:
            view = batch.view(number)
            for part in fields:
                value = getattr(view, part.field)
                if not value:
                    continue
                starts.append(len(parts))
                owners.append((number, part))
                if part.kind is None:
                    parts.append(value)
                    continue
                if part.single and len(value) > 1:
                    value[:] = [b"".join(value)]
                parts += value
        hits = scanner.hits(parts)
        changed: set[int] = set()
        gone: list[tuple[int, str, int]] = []
        where = walker.where
        for at in sorted(hits):
            field_at = bisect_right(starts, at) - 1
            number, part = owners[field_at]
            index = at - starts[field_at]
            view = batch.view(number)
            walker.groups, walker.place = hits[at], part.place
            if self._seals:
                where.subject = self._subject.token(view.attributes) or self._owner(batch, number)
            if part.kind is None:
                text = parts[at].decode()
                if (new_text := walker.text(text)) != text:
                    setattr(view, part.field, new_text.encode())
                    changed.add(number)
            elif (new := rewritten(part.kind, parts[at], walker)) is not None:
                getattr(view, part.field)[index] = new
                changed.add(number)
            if where.drop:
                where.drop = False
                if part.kind is KeyValue:
                    gone.append((number, part.field, index))
                    changed.add(number)
        for number, field, index in reversed(gone):
            del getattr(batch.view(number), field)[index]
        walker.groups = ENCODED
        for number in numbers:
            view = batch.view(number)
            odd = False
            for field, size, walker.place in _IDS[batch.signal]:
                if len(getattr(view, field)) != size:
                    odd |= walker.id(view, field, size)
            if odd or number in changed:
                batch.touch(number)
            else:
                batch.strip(number)


# An int_value of 13 digits or more, a varint; the second behind a tag that is longer than it has to be. As one
# expression they cost Hyperscan a quarter more. A double_value of 2^39 to 2^64, little-endian: its exponent comes last.
# And such a number in JSON, as it is written with an exponent.
_HIGH = r"[\x00-\xff]{6}(?:[\x60-\xff](?-i:\x42)|[\x00-\xef](?-i:\x43))"
_LONG = (
    r"\x18[\x80-\xff]{5,9}[\x00-\x7f]",
    r"\x98\x80{0,3}\x00[\x80-\xff]{5,9}[\x00-\x7f]",
    rf"\x21{_HIGH}",
    rf"\xa1\x80{{0,3}}\x00{_HIGH}",
    r"[1-6]\.[0-9]{1,18}e\+?1[1-8]",
)


def _head(head: Head, walker: Masker) -> None:
    new = rewritten(Resource if head.kind == "resource" else InstrumentationScope, head.data, walker)
    if new is not None:
        head.data, head.changed = new, True
    url = head.url.decode()
    walker.place = f"{head.kind}.schema_url"
    if (new_url := walker.text(url)) != url:
        head.url, head.changed = new_url.encode(), True
    walker.where.drop = False


class _Part:
    """A field of a record that holds text.

    kind    the message that it is; None: a text
    single  not a list: several occurrences are one message
    """

    __slots__ = ("field", "kind", "place", "single")

    def __init__(self, record: Any, field: FieldDescriptor) -> None:
        self.field = field.name
        message = field.message_type
        self.kind: type[Any] | None = None if message is None else GetMessageClass(message)
        self.single = not field.is_repeated
        self.place = place(record.DESCRIPTOR.name, field.name)


def _parts(record: Any) -> Iterator[_Part]:
    for field in record.DESCRIPTOR.fields:
        if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
            yield _Part(record, field)


_PARTS = {signal: tuple(_parts(SHAPES[signal].record)) for signal in ("logs", "traces")}
_IDS = {signal: plan(SHAPES[signal].record.DESCRIPTOR).ids for signal in ("logs", "traces")}


def build(config: MaskConfig, setting: Setting) -> _Mask:
    """A processor that masks what the scan has found."""
    return _Mask(config, setting)
