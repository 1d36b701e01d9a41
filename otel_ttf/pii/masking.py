"""What becomes of a text: detectors with what is done with their findings, and values by what their key says.

Masking what is masked already changes nothing, on trusted input: hashes and sealed values of an untrusted sender
could be somebody else's, so they are masked like any text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache

from otel_ttf.pii.action import Action
from otel_ttf.pii.coarse import TRUNCATIONS, truncate_geo
from otel_ttf.pii.detect import DETECTORS
from otel_ttf.pii.detect.base import Detector
from otel_ttf.pii.json_text import DROP, Drop, Leaf, Path, parse
from otel_ttf.pii.keyrules import KeyRules, Rule
from otel_ttf.pii.phrases import words_of
from otel_ttf.pii.pseudonym import TOKEN, Hmac, is_token
from otel_ttf.pii.scanner import CONTENT, ENCODED, EVERYTHING, FIRST_DETECTOR, KEY, Scanner
from otel_ttf.pii.sealed import Sealer, is_sealed
from otel_ttf.pii.unfold import unfold

# What a replacement stands beside may be a finding now; more than two rounds are hard to come by.
_ROUNDS = 8
_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_NO_CARD = 10**19  # has more digits than any card
_SHOWN = 4  # characters that `partial` leaves
_POLICY: Mapping[str, Action] = {"never": "redact", "pseudonymise": "hash", "truncate": "truncate"}
# Words of keys whose numbers may be those of cards, though the key says that they are ids.
_PAYS = frozenset(["card", "cards", "cc", "pan", "payment", "creditcard", "debitcard"])
_PLACEHOLDER = re.compile(r"\[[A-Z_]+(?::[A-Za-z0-9_]{1,40})?\]")
_WITH_VALUE = re.compile(r"\[[A-Z_]+:(?:[a-z2-7]{4}_[a-p]{32}|[A-Za-z0-9]{4})\]")


@dataclass(frozen=True, slots=True)
class Watch:
    """A detector that looks, and what is done with its findings.

    group    its bit of the one scan
    vendors  False: what is kept sealed here does not go to vendors
    """

    detector: Detector
    action: Action
    group: int
    vendors: bool = True


@dataclass(slots=True)
class Where:
    """Where a text stands and whose it is; what was done there is noted.

    place    for metrics: resource, scope, attribute, key, body, name ...
    path     keys that lead to it
    subject  token of whom it belongs to, for sealing; None: nobody, or not asked for
    safe     by convention technical: dotted numbers are versions
    digits   the key says that digits alone are an id, a time, a count
    drop     set when what holds the text is to go
    trace    called for each thing that was masked
    """

    place: str = "text"
    path: list[str] = field(default_factory=list)
    subject: str | None = None
    trusted: bool = False
    safe: bool = False
    digits: bool = False
    drop: bool = False
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    trace: Trace | None = None

    def note(self, rule: str, origin: str, before: str, after: str) -> None:
        """Something was masked. rule: the detector's name, or `key`."""
        key = (rule, self.place)
        self.counts[key] = self.counts.get(key, 0) + 1
        if self.trace is not None:
            self.trace(self, origin, before, after)


Trace = Callable[[Where, str, str, str], None]
"""(where, rule, before, after)"""


class ValueHashes:
    """Keyed hashes of values: equal values stay equal. From the subject key, for a purpose of its own."""

    def __init__(self, key_id: str, key: bytes) -> None:
        self._id = key_id
        self._hmac = Hmac(Hmac(key).digest(b"otel_ttf hash of values"))

    def of(self, value: str) -> str:
        """KEYID_LETTERS: no digits that a detector could take for a number."""
        digest = self._hmac.digest(value.encode("utf-8", "surrogatepass"))[:16]
        return f"{self._id}_{digest.hex().translate(_LETTERS)}"


class Masking:
    """Masks texts and the values of keys. Threads may share one.

    watches  in the order in which they look
    scanner  looks into what an encoding hid, so that not all detectors have to; None: they do
    """

    def __init__(
        self,
        watches: Sequence[Watch],
        rules: KeyRules,
        hashes: ValueHashes,
        sealer: Sealer | None = None,
        scanner: Scanner | None = None,
    ) -> None:
        self.rules = rules
        self._scanner = scanner
        self._watches = tuple(watches)
        self._hashes = hashes
        self._sealer = sealer
        self._canonical = {watch.detector.label: watch.detector.canonical for watch in watches}
        self._truncated = {watch.detector.label: watch.detector.truncated for watch in watches}
        self._labels = {watch.detector.label for watch in watches} | rules.labels
        self._looking = lru_cache(maxsize=1024)(self._watching)
        self._cards = next((watch for watch in watches if watch.detector.name == "card"), None)

    # By content.

    def text(self, text: str, where: Where, groups: int = EVERYTHING) -> str:
        """The text with all findings replaced; subject tokens in it are left alone.

        groups  what the one scan has found around it: other detectors need not look; EVERYTHING: nobody asked it
        """
        if not text or not groups & (CONTENT | KEY):
            return text
        if (document := parse(text)) is not None:
            return document.rewrite(_InJson(self, where, groups)) or text
        if not groups & CONTENT:
            return text
        new = self.plain_text(text, where, groups)
        # What kept it from being JSON, a control character say, may have been in what was masked.
        if new != text and (document := parse(new)) is not None:
            return document.rewrite(_InJson(self, where, groups)) or new
        return new

    def plain_text(self, text: str, where: Where, groups: int = EVERYTHING) -> str:
        """The same for a text that is not looked into as JSON."""
        if "u1_" in text and TOKEN.search(text):
            parts = []
            end = 0
            for token in TOKEN.finditer(text):
                parts += [self._plain(text[end : token.start()], where, groups), token.group()]
                end = token.end()
            return "".join(parts) + self._plain(text[end:], where, groups)
        return self._plain(text, where, groups)

    def _plain(self, text: str, where: Where, groups: int) -> str:
        # Whatever is found once something else was masked was there before, and its detector's group with it:
        # placeholders are no part of findings. What an encoding hid, of JSON say, no group tells.
        if groups & ENCODED:
            groups = self._found(text, groups)
        idle: dict[str, str] = {}
        for _ in range(_ROUNDS):
            new = self._once(text, where, groups, idle)
            if new == text:
                break
            text = new
            # What came out of an encoding was not in what the scan has seen.
            if groups & ENCODED:
                groups |= self._found(text, groups)
        return text

    def _once(self, text: str, where: Where, groups: int, idle: dict[str, str]) -> str:
        """One round. idle: detector -> text in which it has nothing to do."""
        digits = where.digits and text.strip().isdecimal()
        # What hides first: of a value with an escape in it, the rest would go without it.
        if groups & ENCODED and (shadow := unfold(text)) is not None:
            for watch in self._looking(self._found(shadow.text, groups)):
                if not _stays_away(watch.detector, where, digits=digits):
                    new = self._replaced(text, shadow.text, shadow.span, watch, where)
                    if new != text:
                        # The others may have finds of their own in the rest.
                        text = new
                        groups |= self._found(text, groups)
                        if (shadow := unfold(text)) is None:
                            break
        for watch in self._looking(groups):
            if idle.get(watch.detector.name) is not text and not _stays_away(
                watch.detector, where, digits=digits
            ):
                new = self._replaced(text, text, None, watch, where)
                if new == text:
                    idle[watch.detector.name] = text
                text = new
        return text

    def _found(self, text: str, groups: int) -> int:
        """What the scan finds in a text that it has not seen; EVERYTHING if that is what it is asked about."""
        if groups == EVERYTHING or self._scanner is None:
            return EVERYTHING
        # In a request, the length of a text stands before it.
        return self._scanner.hits([b"\0" + text.encode("utf-8", "surrogatepass")]).get(0, 0)

    def _watching(self, groups: int) -> list[Watch]:
        return [watch for watch in self._watches if watch.group & groups]

    def _replaced(
        self,
        text: str,
        seen: str,
        back: Callable[[int, int], tuple[int, int]] | None,
        watch: Watch,
        where: Where,
    ) -> str:
        """The text with what the detector finds in `seen` replaced; back: from spans of `seen` to the text's."""
        end = 0
        parts: list[str] = []
        for start, stop in watch.detector.find(seen):
            found = seen[start:stop]
            if back is not None:
                start, stop = back(start, stop)
                if start < end:
                    continue
            detector = watch.detector
            new = f"[{detector.label}]"
            if watch.action != "redact":
                canonical = detector.canonical(found)
                done = self._done(watch.action, detector.label, canonical, found, where, watch.vendors)
                new = done if done is not None else detector.truncated(found) or new
            old = text[start:stop]
            if new != old and new != found:
                where.note(detector.name, f"detector {detector.name}", old, new)
                parts += [text[end:start], new]
                end = stop
        return "".join(parts) + text[end:] if parts else text

    # By key.

    def by_key(self, path: Sequence[str]) -> tuple[Rule, Action] | None:
        """What is done with the value of a key; None: its content is looked at.

        path  the key, behind those of the maps that it stands in
        """
        rule = self.rules.rule(_bare(path[-1]))
        if len(path) > 1 and (rule is None or rule.action is None):
            rule = self.rules.nested(path) or rule
        if rule is None:
            return None
        action = rule.action or _POLICY.get(rule.policy)
        return None if action is None else (rule, action)

    def look(self, path: Sequence[str], where: Where) -> None:
        """What keys say of a value that is looked into: its own, and the one around it."""
        key = _bare(path[-1])
        rule = self.rules.rule(key)
        where.safe = rule is not None and rule.policy == "safe"
        where.digits = self.rules.identifies(key)
        if where.digits:
            # {"card": {"number": ...}}, card_id
            words = words_of(".".join([*map(_bare, path[-2:-1]), key]))
            where.digits = _PAYS.isdisjoint(words)

    def keyed(self, rule: Rule, action: Action, text: str, where: Where) -> str:
        """What becomes of a text by its key."""
        if not text or self._masked_already(text, where):
            return text
        # What the key promises may not be there: `n/a` has no digits.
        canonical = self._canonical.get(rule.label, str.strip)(text) or text.strip()
        new = self._done(action, rule.label, canonical, text, where, rule.vendors)
        if new is None:
            shorten = TRUNCATIONS.get(rule.how) or self._truncated.get(rule.label)
            short = None if shorten is None else shorten(text)
            new = f"[{rule.label}]" if short is None else str(short)
        if new != text:
            where.note("key", rule.origin, text, new)
        return new

    def keyed_number(self, rule: Rule, action: Action, number: float, where: Where) -> float | str:
        """What becomes of a number by its key; a coordinate stays a number."""
        if action == "truncate" and rule.how == "geo":
            new = truncate_geo(number)
            if isinstance(new, int | float):
                if new != number:
                    where.note("key", rule.origin, str(number), str(new))
                return new
        return self.keyed(rule, action, str(number), where)

    def number(self, number: float, where: Where) -> str | None:
        """The text that takes the place of a whole number which is a card's; None: it stays."""
        cards = self._cards
        if cards is None or where.digits or not 0 < number < _NO_CARD:
            return None
        if isinstance(number, float):
            if not number.is_integer():
                return None
            number = int(number)
        text = str(number)
        if len(text) < 13 or not any(cards.detector.find(text)):
            return None
        new = self._replaced(text, text, None, cards, where)
        return new if new != text else None

    def _masked_already(self, text: str, where: Where) -> bool:
        if text[0] == "[" and text[-1] == "]" and text[1:-1] in self._labels:
            return True
        if text.startswith("u1_") and is_token(text):
            return True
        return where.trusted and bool(_WITH_VALUE.fullmatch(text) or is_sealed(text))

    def _done(
        self, action: Action, label: str, canonical: str, found: str, where: Where, vendors: bool
    ) -> str | None:
        """What takes the place of a finding; None: it is truncated, in a way of its own."""
        match action:
            case "keep":
                return found
            case "hash":
                return f"[{label}:{self._hashes.of(canonical)}]"
            case "truncate":
                return None
            case "partial":
                shown = "".join(filter(str.isalnum, canonical))
                if len(shown) >= 2 * _SHOWN and shown.isascii():
                    return f"[{label}:{shown[-_SHOWN:]}]"
            case "encrypt":
                if where.subject is not None and self._sealer is not None:
                    sealed = self._sealer.seal(where.subject, ".".join(where.path), found, vendors=vendors)
                    if sealed is not None:
                        return sealed
            case "drop":
                where.drop = True
        return f"[{label}]"


def _stays_away(detector: Detector, where: Where, *, digits: bool) -> bool:
    return (digits and detector.shaped) or (where.safe and detector.dotted)


def _bare(key: str) -> str:
    """A key without placeholders: what stood there is gone, and its kind says nothing of the value.

    What is left in front and behind does not become one word.
    """
    return _PLACEHOLDER.sub("\0", key) if "[" in key else key


@cache
def for_messages() -> Masking:
    """Redacts what is found by default: for what our own messages repeat of a sender's names."""
    watches = [
        Watch(detector, "redact", FIRST_DETECTOR << place)
        for place, detector in enumerate(DETECTORS)
        if detector.default != "keep"
    ]
    return Masking(watches, KeyRules(), ValueHashes("", b""))


class _InJson:
    """Masks what JSON in a text holds (json_text.Visitor)."""

    def __init__(self, masking: Masking, where: Where, groups: int) -> None:
        self._masking = masking
        self._where = where
        self._outer = list(where.path)
        self._groups = groups

    def member(self, path: Path) -> tuple[Rule, Action] | Drop | None:
        known = self._masking.by_key(path)
        if known is not None and known[1] == "drop":
            self._where.path = [*self._outer, *path]
            self._where.note("key", known[0].origin, "", "")
            self._where.path = self._outer
            return DROP
        return known

    def leaf(self, value: Leaf, path: Path, rule: tuple[Rule, Action] | None) -> str | float | None:
        if value is None:
            return None
        where, masking = self._where, self._masking
        before = where.digits, where.safe, where.drop
        where.path = [*self._outer, *path]
        try:
            if rule is not None:
                if isinstance(value, str):
                    return masking.keyed(*rule, value, where)
                if isinstance(value, bool):
                    return masking.keyed(*rule, str(value).lower(), where)
                return masking.keyed_number(*rule, value, where)
            if path:
                masking.look(path, where)
            if isinstance(value, str):
                return masking.plain_text(value, where, self._groups)
            return None if isinstance(value, bool) else masking.number(value, where)
        finally:
            where.path = self._outer
            where.digits, where.safe, where.drop = before

    def name(self, path: Path) -> str:
        self._where.path = [*self._outer, *path[:-1]]
        before = self._where.drop
        try:
            return self._masking.plain_text(path[-1], self._where, self._groups)
        finally:
            self._where.path = self._outer
            self._where.drop = before
