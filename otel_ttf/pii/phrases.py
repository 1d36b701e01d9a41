"""Phrases in attribute keys: `api key` is api_key, apiKey, X-API-Key and apikey.

A key is split into words at punctuation and where the case changes; digits are words of their own. Phrases are
looked up among them, and each has an expression for the one scan, which hits every key that the phrase is found in.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from itertools import product
from typing import Literal, TypeAlias, cast

Policy = Literal["never", "pseudonymise", "truncate", "scan", "safe"]
How = Literal["", "ip", "geo", "date"]
Place = Literal["within", "end", "whole"]
_Tree: TypeAlias = "dict[str, _Tree]"


def rows(name: str) -> Iterator[dict[str, str]]:
    """The lines of a table beside this file, by the names in its first line."""
    text = files("otel_ttf.pii").joinpath(name).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())


def _words(role: str) -> frozenset[str]:
    return frozenset(row["word"] for row in rows("words.csv") if role in row["roles"].split())


# A key that ends like this tells about the thing; its value is not the thing.
_ABOUT = _words("about")
# Words before a phrase that ask or count.
_ASKS = _words("asks")
# What is still the thing when it stands behind it, as digits do: `phone_home`, `email.0`, `phone_e164`.
_STILL = _words("still")
# Technical things have addresses and user names of their own, which are nobody's.
_THINGS = _words("thing")
# Last words of keys whose value is an id, a time, a count, a version, a hash.
IDENTIFYING = _words("identifies")

# Letters that are not ASCII, as far as a phrase has them: engines know the case of ASCII letters only.
_LOWER = "àáâãäåçèéêëìíîïñòóôõöùúûüß"
_UPPER = _LOWER.upper().replace("SS", "")
_FOLDED = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ" + _UPPER, "abcdefghijklmnopqrstuvwxyz" + _UPPER.lower())
# What is neither a word nor punctuation stands between two words that are not next to each other.
_WORD = re.compile(
    f"[A-Z{_UPPER}]+(?![a-z{_LOWER}])|[A-Z{_UPPER}]?[a-z{_LOWER}]+|[0-9]+|[^ -~{_LOWER}{_UPPER}]"
)
# What may stand between the words of a phrase, once, or two underscores. Few, since a scan for any run of
# anything costs twice as much; and none of them is a tag of protobuf.
_BETWEEN = " -./:[]_"
_LONGEST = 5
# Two words in small letters with one mark between them, as attributes are named.
_SPARED = re.compile(r"[a-z]{1,50}[-._][a-z]{1,50}")


@dataclass(frozen=True)
class Phrase:
    """A phrase and what it says of the value.

    words      in lower case
    place      `within`: anywhere, unless the key ends with a word that makes it about the thing; `end`: nothing
               but digits and the like follow; `whole`: the key is nothing else
    not_after  a letter that may not stand directly before it: `iPhone` is no phone number
    spared     attributes with these words that are looked after elsewhere and come in nearly every record: the one
               scan passes them by
    """

    words: tuple[str, ...]
    place: Place
    policy: Policy = "never"
    label: str = "REDACTED"
    how: How = ""
    not_after: str = ""
    spared: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return " ".join(self.words)

    @property
    def tokens(self) -> Iterator[str]:
        """The pieces of its expression for the one scan."""
        if self.not_after:
            yield f"[^{self.not_after}]"
        for place, word in enumerate(self.words):
            if place:
                yield f"(?:__|[{_class(_BETWEEN)}])?"
            yield from map(_letter, word)

    @property
    def sparing(self) -> Iterator[str]:
        """Expressions for the one scan that hit what its own does, but none of the spared attributes.

        Where one of those is a key, plainly encoded, its length stands before it. Behind that one, what is written
        in another way is hit, with other punctuation or a capital; behind another character everything, but for
        what cannot be a word: `enduser.id` has no word `user`.
        """
        first, second = self.words
        length = _class("".join({chr(len(name)) for name in self.spared}))
        marks = "".join({name[len(first)] for name in self.spared})
        initial, *rest = self.tokens
        yield f"(?-i:[^{length}a-z]){''.join(self.tokens)}"
        yield f"(?-i:[a-z]{initial.upper()}){''.join(rest)}"
        others = _class("".join(c for c in _BETWEEN if c not in marks))
        yield f"[{length}]{first}(?:__|[{others}])?{second}"
        yield f"[^\\x0a][{length}]{''.join(self.tokens)}"  # no length: the tag of the key stands before that
        for word, form in (
            (first, "{}" + f"[{_class(marks)}]{second}"),
            (second, f"{first}[{_class(marks)}]" + "{}"),
        ):
            for place, letter in enumerate(word):
                capital = f"{word[:place]}(?-i:{letter.upper()}){word[place + 1 :]}"
                yield f"[{length}]{form.format(capital)}"

    @cached_property
    def _pattern(self) -> re.Pattern[bytes]:
        return re.compile("".join(self.tokens).encode(), re.IGNORECASE | re.DOTALL)

    def hits(self, key: str) -> bool:
        """Whether the scan hits the key. Something always stands before it, be it the length of the key."""
        return self._pattern.search(b"\0" + key.encode()) is not None

    @property
    def spellings(self) -> Iterator[str]:
        """The words with and without a space between them."""
        first, *others = self.words
        for spaces in product((" ", ""), repeat=len(others)):
            yield first + "".join(space + word for space, word in zip(spaces, others, strict=True))

    def fits(self, before: str) -> bool:
        """Whether it still says so behind that word."""
        if before in _ASKS:
            return False
        technical = self.label in ("IP", "ID") or self.policy == "pseudonymise"
        return not (technical and self.place == "end" and before in _THINGS)


class Phrases:
    """Looks phrases up in keys, in time linear in the key."""

    def __init__(self, phrases: Iterable[Phrase]) -> None:
        self.phrases = tuple(phrases)
        self._of: dict[Place, dict[str, Phrase]] = {"within": {}, "end": {}, "whole": {}}
        for phrase in self.phrases:
            for spelling in phrase.spellings:
                self._of[phrase.place].setdefault(spelling, phrase)

    def find(self, key: str) -> Phrase | None:
        """The phrase that the key is about: the whole, else one within, else the longest at its end."""
        words = words_of(key)
        if not words:
            return None
        whole = self._of["whole"].get(key.translate(_FOLDED))
        return whole or self._within(words, key) or self._end(words, key)

    def _within(self, words: Sequence[str], key: str) -> Phrase | None:
        size = len(words)
        while size > 1 and words[size - 1].isdecimal():
            size -= 1
        about = words[size - 1] in _ABOUT
        table = self._of["within"]
        for start in range(len(words)):
            for end in range(min(len(words), start + _LONGEST), start, -1):
                phrase = table.get(" ".join(words[start:end]))
                if (
                    phrase is not None
                    and (not about or end >= size)
                    and phrase.fits(words[start - 1] if start else "")
                    and phrase.hits(key)
                ):
                    return phrase
        return None

    def _end(self, words: Sequence[str], key: str) -> Phrase | None:
        end = len(words)
        while end > 1 and (words[end - 1].isdecimal() or words[end - 1] in _STILL):
            end -= 1
        table = self._of["end"]
        for last in dict.fromkeys((len(words), end)):
            for start in range(max(0, last - _LONGEST), last):
                phrase = table.get(" ".join(words[start:last]))
                if phrase is not None and phrase.hits(key):
                    # What a longer one rules out, a shorter one inside it does not bring back.
                    return phrase if phrase.fits(words[start - 1] if start else "") else None
        return None

    @cached_property
    def expressions(self) -> list[str]:
        """For the one scan, of all phrases but the whole ones, one for each first letter or so.

        Those for `within` are the same as without the others, which texts are scanned for, too.
        """
        trees: dict[Place, _Tree] = {"within": {}, "end": {}}
        spared: list[str] = []
        for phrase in self.phrases:
            if phrase.spared:
                spared += phrase.sparing
            elif phrase.place != "whole":
                branch = trees[phrase.place]
                for token in phrase.tokens:
                    branch = branch.setdefault(token, {})
                branch[""] = {}
        return spared + [
            token + _alternatives(branch) for tree in trees.values() for token, branch in tree.items()
        ]

    @property
    def whole(self) -> list[str]:
        """The keys that a phrase is the whole of."""
        return list(self._of["whole"])


def words_of(key: str) -> tuple[str, ...]:
    """The words of a key, in lower case."""
    return tuple(word.translate(_FOLDED) for word in _WORD.findall(key))


def _alternatives(tree: _Tree) -> str:
    # Where a phrase ends, longer ones that begin with it have nothing to add.
    if "" in tree:
        return ""
    told = [token + _alternatives(branch) for token, branch in tree.items()]
    return told[0] if len(told) == 1 else f"(?:{'|'.join(told)})"


def _class(characters: str) -> str:
    """What stands between the brackets of a class of ASCII characters."""
    return "".join(f"\\x{ord(c):02x}" for c in characters)


def _letter(c: str) -> str:
    if c.isascii():
        return c if c.isalnum() else f"\\x{ord(c):02x}"
    return (
        "(?:" + "|".join("".join(f"\\x{b:02x}" for b in x.encode()) for x in {c: 0, c.upper()[:1]: 0}) + ")"
    )


def within(text: str) -> Phrase | None:
    """A phrase of a secret, from the configuration; None: there is no word in it."""
    words = words_of(text)
    return Phrase(words, "within") if words else None


def table(subject: Collection[str] = ()) -> Iterator[Phrase]:
    """The phrases of phrases.csv.

    subject  see Phrase.spared
    """
    for row in rows("phrases.csv"):
        words = tuple(row["phrase"].split())
        yield Phrase(
            words,
            cast(Place, row["place"]),
            cast(Policy, row["policy"]),
            row["label"],
            cast(How, row["how"]),
            row["not_after"],
            tuple(
                key
                for key in subject
                if len(words) == 2 and _SPARED.fullmatch(key) and words_of(key) == words
            ),
        )
