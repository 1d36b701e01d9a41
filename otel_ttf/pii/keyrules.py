"""What the key of an attribute says of its value.

Asked in this order: the configuration, the registry of OpenTelemetry's semantic conventions (semconv.csv), the
phrases of names (phrases.csv). Rules look at keys, never at values.

Policies: `never`, the value is always personal or secret; `pseudonymise`, it identifies a person; `truncate`, its
coarse part may stay; `scan`, any text; `safe`, a technical value, in which nothing is known by the shape of digits.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from otel_ttf.pii.action import Action, rule_for_vendors
from otel_ttf.pii.phrases import IDENTIFYING, How, Phrase, Phrases, Policy, rows, table, within, words_of
from otel_ttf.pii.scanner import KEY, Pattern, literal

LONGEST_REMEMBERED = 256
_MASKING: frozenset[Policy] = frozenset(["never", "pseudonymise", "truncate"])
_POLICIES: Mapping[Action, Policy] = {
    "redact": "never",
    "hash": "pseudonymise",
    "truncate": "truncate",
    "partial": "never",
    "encrypt": "never",
    "drop": "never",
    "keep": "safe",
}
_LEAST_LITERAL = 3
_DEEPEST = 4  # names of an attribute that maps may part it into


@dataclass(frozen=True, slots=True)
class Rule:
    """What is known of a key.

    origin   where it stands, for people: `registry client.address`, `words api key`, `config keys[2]`
    label    of the placeholder
    how      a value is truncated
    action   as configured; None: it follows from the policy
    vendors  False: what is sealed here does not go to vendors
    """

    origin: str
    policy: Policy
    label: str = "REDACTED"
    how: How = ""
    action: Action | None = None
    vendors: bool = True

    @property
    def masks(self) -> bool:
        """Whether it does something to the value as a whole."""
        return self.policy in _MASKING if self.action is None else self.action != "keep"


class KeyRule(BaseModel):
    """What is done with the values of some attributes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str | None = Field(None, min_length=1, description="The attribute of exactly this name.")
    glob: str | None = Field(
        None,
        description="Attributes whose names match; `*` is any text, at least 3 other characters in a row.",
    )
    words: str | None = Field(
        None,
        description="Words next to each other in a name, in any spelling; `tax id` is tax_id, taxId and "
        "customer.tax-id, too.",
    )
    action: Action = Field("redact", description="What is done with the value.")
    vendors: Literal["keep", "drop"] = Field(
        "keep", description="`drop`: what is encrypted here does not go to vendors."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> KeyRule:
        if sum(name is not None for name in (self.key, self.glob, self.words)) != 1:
            raise ValueError("expected exactly one of key, glob and words")
        if self.glob is not None and max(map(len, self.glob.split("*"))) < _LEAST_LITERAL:
            raise ValueError(f"glob: expected at least {_LEAST_LITERAL} characters in a row that are no *")
        if self.words is not None and within(self.words) is None:
            raise ValueError("words: expected a letter or a digit")
        rule_for_vendors(self.action, vendors=self.vendors == "keep")
        return self


class KeyRules:
    """Tells what the key of an attribute says of its value.

    configured  come first, in their order
    subject     attributes that are replaced by the subject's token: nothing is said of them here
    labels      of all placeholders
    patterns    for the one scan: they hit every key whose value a rule masks, where a key can stand, that is as
                a field of a KeyValue or between quotes
    """

    patterns: Sequence[Pattern]
    labels: frozenset[str]

    def __init__(self, configured: Sequence[KeyRule] = (), subject: Collection[str] = ()) -> None:
        self._subject = frozenset(subject)
        self._configured = [_Configured(place, rule) for place, rule in enumerate(configured)]
        self._registry = registry()
        self._templates = {name[:-1]: rule for name, rule in self._registry.items() if name.endswith(".*")}
        self._longest = max(map(len, self._templates))
        self._phrases = _phrases(tuple(subject))
        # Attributes with a dot may come as maps: {"user": {"id": ...}}. Of a user id nobody made a token there.
        self._nested = {
            name: rule for name, rule in self._registry.items() if rule.masks and name not in self._subject
        } | {name: Rule(f"subject.from {name}", "pseudonymise", "ID") for name in subject}
        around = {part for name in self._nested if "." in name for part in _parents(name)}
        expressions = [
            *(one.expression for one in self._configured if one.rule.action != "keep"),
            *(
                _whole(name)
                for name, rule in self._registry.items()
                if rule.masks and name not in self._subject
            ),
            *(_whole(key, self._templates) for key in self._phrases.whole),
            *map(_whole, sorted(around)),
            *self._phrases.expressions,
        ]
        self.patterns = [Pattern(KEY, expression) for expression in dict.fromkeys(expressions)]
        self.labels = labels()
        self._remembered = lru_cache(maxsize=4096)(self._find)
        self._identified = lru_cache(maxsize=4096)(self._identifies)

    def rule(self, key: str) -> Rule | None:
        """What is known of a key; None: nothing."""
        # A sender's keys may be long, and 4,096 of them would be remembered.
        return self._find(key) if len(key) > LONGEST_REMEMBERED else self._remembered(key)

    def nested(self, path: Sequence[str]) -> Rule | None:
        """What is known of the keys of maps in one another, read as one attribute's name; None: nothing."""
        for size in range(2, min(len(path), _DEEPEST) + 1):
            rule = self._nested.get(".".join(path[-size:]))
            if rule is not None:
                return rule
        return None

    def identifies(self, key: str) -> bool:
        """Whether the value is an id, a time, a count, a version, a hash: digits alone are no find there."""
        return self._identifies(key) if len(key) > LONGEST_REMEMBERED else self._identified(key)

    def _identifies(self, key: str) -> bool:
        rule = self.rule(key)
        return (rule is None or not rule.masks) and (
            (rule is not None and rule.policy == "safe") or _identifying(key)
        )

    def _find(self, key: str) -> Rule | None:
        if key in self._subject:
            return None
        built_in = self._built_in(key)
        for one in self._configured:
            if one.matches(key):
                return one.said(built_in)
        return built_in

    def _built_in(self, key: str) -> Rule | None:
        known = self._registry.get(key)
        if known is not None:
            return known
        template = next((t for t in _prefixes(key, self._longest) if t in self._templates), "")
        # Behind `http.request.header.` the rest is a name of its own.
        phrase = self._phrases.find(key[len(template) :])
        if phrase is not None:
            return Rule(f"words `{phrase}`", phrase.policy, phrase.label, phrase.how)
        return self._templates.get(template)


class _Configured:
    """One rule of the configuration, ready to be asked."""

    def __init__(self, place: int, rule: KeyRule) -> None:
        self.rule = rule
        self._origin = f"config keys[{place}]"
        self._phrases = None
        self._glob = None
        if rule.key is not None:
            self.expression = _whole(rule.key)
        elif rule.glob is not None:
            parts = rule.glob.split("*")
            self._glob = re.compile(_glob([re.escape(part) for part in parts]), re.DOTALL)
            self.expression = literal(max(parts, key=len))
        else:
            phrase = cast(Phrase, within(rule.words or ""))
            self._phrases = Phrases([phrase])
            self.expression = "".join(phrase.tokens)

    def matches(self, key: str) -> bool:
        if self._glob is not None:
            return self._glob.fullmatch(key) is not None
        return key == self.rule.key if self._phrases is None else self._phrases.find(key) is not None

    def said(self, built_in: Rule | None) -> Rule:
        """The rule; what kind of value it is, only the built-in one may know."""
        action = self.rule.action
        known = built_in if built_in is not None and built_in.masks else Rule("", "safe")
        return Rule(
            self._origin, _POLICIES[action], known.label, known.how, action, self.rule.vendors == "keep"
        )


def _glob(parts: Sequence[str]) -> str:
    """An expression for escaped texts with anything between them, in time linear in the key.

    Each but the last is taken where it comes first and not looked for again: behind it most is left for the others.
    """
    first, *others = parts
    if not others:
        return first
    return first + "".join(f"(?>.*?{part})" for part in others[:-1] if part) + ".*" + others[-1]


@cache
def registry() -> Mapping[str, Rule]:
    """Attribute -> rule; a name that ends in `.*` is a template, for any rest."""
    return {
        row["attribute"]: Rule(
            f"registry {row['attribute']}",
            cast(Policy, row["policy"]),
            row["label"] or "REDACTED",
            cast(How, row["how"]),
        )
        for row in rows("semconv.csv")
    }


@cache
def labels() -> frozenset[str]:
    """Of all placeholders of values that their keys tell of."""
    rules, phrases = registry().values(), table()
    return frozenset(["REDACTED", *(rule.label for rule in rules), *(phrase.label for phrase in phrases)])


@lru_cache(maxsize=8)
def _phrases(subject: tuple[str, ...]) -> Phrases:
    """Those of the table: to make them is most of making rules, and each processor has its own."""
    return Phrases(table(subject))


@cache
def _secrets() -> Phrases:
    return Phrases(phrase for phrase in table() if phrase.place == "within")


SECRET_PHRASES: tuple[str, ...] = tuple(str(phrase) for phrase in table() if phrase.place == "within")
"""Words that make a name secret wherever they stand in it."""

SECRET_EXPRESSIONS: tuple[str, ...] = tuple(_secrets().expressions)
"""For the one scan: they hit every text with such a name, and are those that look for keys."""


@lru_cache(maxsize=4096)
def _is_secret(key: str) -> bool:
    return _secrets().find(key) is not None


def secret(key: str) -> bool:
    """Whether the value of a key, or of a name in a text, is a secret whatever it is: `password`, `apiKey`."""
    return _secrets().find(key) is not None if len(key) > LONGEST_REMEMBERED else _is_secret(key)


def _identifying(key: str) -> bool:
    words = words_of(key)
    end = len(words)
    while end > 1 and words[end - 1].isdecimal():
        end -= 1
    return end > 0 and words[end - 1] in IDENTIFYING


def _parents(name: str) -> Iterator[str]:
    """Keys of maps that the last part of an attribute's name may stand in."""
    parent = name.rpartition(".")[0]
    while parent:
        yield parent
        parent = parent.partition(".")[2]


def _prefixes(key: str, longest: int) -> Iterator[str]:
    """What a key begins with, up to each of its dots, the longest first."""
    dot = key.rfind(".", 0, longest)
    while dot >= 0:
        yield key[: dot + 1]
        dot = key.rfind(".", 0, dot)


def _whole(key: str, templates: Collection[str] = ()) -> str:
    """An expression that hits a key, but hardly one that it is a part of.

    In a KeyValue the length stands before it; a length that is padded ends with 0. In JSON it stands in quotes.
    """
    size = len(key.encode())
    while size > 0x7F:
        size >>= 7
    last = sorted({f"{template.rstrip('.').rpartition('.')[2]}\\." for template in templates})
    before = "|".join([f"[\\x00\\x{size:02x}]", *last])
    text = literal(key)
    return f"(?:{before}){text}|[\\x22\\x27]{text}[\\x22\\x27\\x5c]"
