"""Keys whose values are secret whatever they are: `password`, `apiKey`, `x-api-key`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from otel_ttf.pii.phrases import Phrases, table, within
from otel_ttf.pii.scanner import KEY, Pattern

PHRASES = tuple(str(phrase) for phrase in table() if phrase.place == "within")
LONGEST_REMEMBERED = 256


class SecretNames:
    """Tells which keys are secret.

    phrases   words next to each other, in any spelling
    patterns  for the one scan
    """

    def __init__(self, phrases: Sequence[str]) -> None:
        self._phrases = Phrases(phrase for text in phrases if (phrase := within(text)) is not None)
        self.patterns = [Pattern(KEY, expression) for expression in self._phrases.expressions]
        self._remembered = lru_cache(maxsize=4096)(self._match)

    def match(self, key: str) -> bool:
        """Whether the value of a key is secret."""
        # A sender's keys may be long, and 4,096 of them would be remembered.
        return self._match(key) if len(key) > LONGEST_REMEMBERED else self._remembered(key)

    def _match(self, key: str) -> bool:
        return self._phrases.find(key) is not None
