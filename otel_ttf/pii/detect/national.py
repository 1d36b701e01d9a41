"""Numbers that states give to people. They are off unless the pack of the country is wanted.

A number in its official grouping, or with letters and check digits that hardly anything else has, is found by
itself; digits in a row only where a word before them says what they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from otel_ttf.pii.action import Action
from otel_ttf.pii.detect.around import THINGS, in_a_row, listed, stands_alone, thing_of, words_before
from otel_ttf.pii.detect.base import Detector, Span
from otel_ttf.pii.detect.card import luhn
from otel_ttf.pii.detect.ssn import PARTS

_NAMED_WITHIN = 4  # words
_NEAR = 24  # characters


class National(Detector):
    """form   how it is written; no letter, digit or group may run into it
    words  that lead up to it
    plain  how it is written where nothing but such a word tells it from other numbers; None: it never needs one
    things what else has numbers that are written like it, when their name leads up to them
    """

    secret: ClassVar[bool] = False
    default: ClassVar[Action] = "keep"
    shaped: ClassVar[bool] = True
    form: ClassVar[re.Pattern[str]]
    words: ClassVar[frozenset[str]]
    plain: ClassVar[re.Pattern[str] | None] = re.compile(r"[0-9]+")
    things: ClassVar[frozenset[str]] = THINGS

    def valid(self, compact: str) -> bool:
        """Whether letters and digits, in upper case and without gaps, are such a number."""
        raise NotImplementedError

    def find(self, text: str) -> Iterator[Span]:
        for match in self.form.finditer(text):
            start, end = match.span()
            if stands_alone(text, start, end) and self.valid(self.canonical(match[0])):
                words = words_before(text, start)
                if self._is_named(words[:_NAMED_WITHIN]):
                    yield start, end
                    continue
                plain = self.plain is not None and self.plain.fullmatch(match[0]) is not None
                row = " " in match[0] and in_a_row(text, start, end)
                if not (plain or row or thing_of(words) in self.things):
                    yield start, end

    def _is_named(self, words: list[str]) -> bool:
        """Id-Nr. is one word, as idnr is."""
        return not self.words.isdisjoint(words) or "".join(words[1::-1]) in self.words

    def canonical(self, found: str) -> str:
        return "".join(filter(str.isalnum, found)).upper()


def _words(text: str) -> frozenset[str]:
    return frozenset(listed(text))


def _weighted(digits: str, weights: tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def _is_date(month: int, day: int) -> bool:
    return 1 <= month <= 12 and 1 <= day <= 31


class UsItin(National):
    """Individual taxpayer identification number: 9xx with certain groups."""

    name: ClassVar[str] = "us_itin"
    label: ClassVar[str] = "ITIN"
    pack: ClassVar[str | None] = "us"
    supersets: ClassVar[tuple[str, ...]] = (r"9[0-9]{2}[ \-]?[0-9]{2}[ \-]?[0-9]{4}",)
    form: ClassVar[re.Pattern[str]] = re.compile(r"9[0-9]{2}([ -]?)[0-9]{2}\1[0-9]{4}(?![0-9])")
    words: ClassVar[frozenset[str]] = _words("itin taxpayer tin tax")
    plain: ClassVar[re.Pattern[str] | None] = re.compile(r"[0-9 ]+")
    things: ClassVar[frozenset[str]] = PARTS

    def valid(self, compact: str) -> bool:
        group = int(compact[3:5])
        return 50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or group >= 94


class UkNhs(National):
    """Number of the National Health Service; the last digit checks, modulo 11."""

    name: ClassVar[str] = "uk_nhs"
    label: ClassVar[str] = "NHS"
    pack: ClassVar[str | None] = "uk"
    supersets: ClassVar[tuple[str, ...]] = (r"[0-9]{3}[ \-]?[0-9]{3}[ \-]?[0-9]{4}",)
    form: ClassVar[re.Pattern[str]] = re.compile(r"[0-9]{3}([ -]?)[0-9]{3}\1[0-9]{4}(?![0-9])")
    words: ClassVar[frozenset[str]] = _words("nhs patient")
    plain: ClassVar[re.Pattern[str] | None] = re.compile(r"[0-9-]+")

    def valid(self, compact: str) -> bool:
        return _weighted(compact, (10, 9, 8, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0 and len(set(compact)) > 1


class UkNino(National):
    """National insurance number: two letters, six digits, A to D."""

    name: ClassVar[str] = "uk_nino"
    label: ClassVar[str] = "NINO"
    pack: ClassVar[str | None] = "uk"
    supersets: ClassVar[tuple[str, ...]] = (r"(?-i:[A-Z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D])",)
    form: ClassVar[re.Pattern[str]] = re.compile(
        r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]( ?)[0-9]{2}(?: ?)[0-9]{2}(?: ?)[0-9]{2}\1[A-D]"
    )
    words: ClassVar[frozenset[str]] = frozenset()
    plain: ClassVar[re.Pattern[str] | None] = None

    def valid(self, compact: str) -> bool:
        return compact[:2] not in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ")


class DeTaxId(National):
    """Steuerliche Identifikationsnummer: one digit of the first ten two or three times; ISO 7064 mod 11, 10."""

    name: ClassVar[str] = "de_tax_id"
    label: ClassVar[str] = "TAXID"
    pack: ClassVar[str | None] = "de"
    supersets: ClassVar[tuple[str, ...]] = (r"[1-9][0-9] ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}",)
    form: ClassVar[re.Pattern[str]] = re.compile(r"[1-9][0-9]( ?)[0-9]{3}\1[0-9]{3}\1[0-9]{3}(?![0-9])")
    words: ClassVar[frozenset[str]] = _words(
        "steuer idnr idnummer tin steuerid steuernummer steueridentifikationsnummer identifikationsnummer tax taxpayer"
    )

    def valid(self, compact: str) -> bool:
        counts = sorted(compact[:10].count(digit) for digit in set(compact[:10]))
        if counts[-1] not in (2, 3) or counts[-2] != 1:
            return False
        product = 10
        for digit in compact[:10]:
            total = (int(digit) + product) % 10 or 10
            product = total * 2 % 11
        return (11 - product) % 10 == int(compact[10])


class FrNir(National):
    """Numéro de sécurité sociale: sex, birth, place, order, and a key modulo 97."""

    name: ClassVar[str] = "fr_nir"
    label: ClassVar[str] = "NIR"
    pack: ClassVar[str | None] = "fr"
    supersets: ClassVar[tuple[str, ...]] = (
        r"[12] ?[0-9]{2} ?[0-9]{2} ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}",
    )
    form: ClassVar[re.Pattern[str]] = re.compile(
        r"[12]( ?)[0-9]{2}\1(?:0[1-9]|1[0-2]|[2-9][0-9])\1(?:[0-9]{2}|2[AB])\1[0-9]{3}\1[0-9]{3} ?[0-9]{2}(?![0-9])"
    )
    words: ClassVar[frozenset[str]] = frozenset()
    plain: ClassVar[re.Pattern[str] | None] = None

    def valid(self, compact: str) -> bool:
        number = compact[:13].replace("2A", "19").replace("2B", "18") if compact[6] in "AB" else compact[:13]
        return number.isdigit() and 97 - int(number) % 97 == int(compact[13:])


_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"


class EsNif(National):
    """DNI: eight digits and the letter that follows from them."""

    name: ClassVar[str] = "es_nif"
    label: ClassVar[str] = "NIF"
    pack: ClassVar[str | None] = "es"
    supersets: ClassVar[tuple[str, ...]] = (
        r"(?-i:[0-9]{8}[ \-]?[A-Z])",
        r"[0-9]{2}\.[0-9]{3}\.[0-9]{3}[ \-]?[A-Z]",
    )
    form: ClassVar[re.Pattern[str]] = re.compile(
        r"(?:(?<![0-9])[0-9]{8}|(?<![0-9])[0-9]{2}\.[0-9]{3}\.[0-9]{3})[ -]?[A-HJ-NP-TV-Z]"
    )
    words: ClassVar[frozenset[str]] = frozenset()
    plain: ClassVar[re.Pattern[str] | None] = None

    def valid(self, compact: str) -> bool:
        return _DNI_LETTERS[int(compact[:8]) % 23] == compact[8]

    def find(self, text: str) -> Iterator[Span]:
        # 12326779K beside 6709764K is a size.
        for start, end in super().find(text):
            unit = re.compile(rf"[0-9]{text[end - 1]}(?![A-Za-z0-9])")
            if text[end - 1] not in "KMGTB" or not (
                unit.search(text, max(0, start - _NEAR), start) or unit.search(text, end, end + _NEAR)
            ):
                yield start, end


class EsNie(National):
    """Número de identidad de extranjero: X, Y or Z, seven digits, a letter that follows from them."""

    name: ClassVar[str] = "es_nie"
    label: ClassVar[str] = "NIE"
    pack: ClassVar[str | None] = "es"
    supersets: ClassVar[tuple[str, ...]] = (r"(?-i:[XYZ][ \-]?[0-9]{7}[ \-]?[A-Z])",)
    form: ClassVar[re.Pattern[str]] = re.compile(r"[XYZ][ -]?[0-9]{7}[ -]?[A-HJ-NP-TV-Z]")
    words: ClassVar[frozenset[str]] = frozenset()
    plain: ClassVar[re.Pattern[str] | None] = None

    def valid(self, compact: str) -> bool:
        return _DNI_LETTERS[int(f"{'XYZ'.index(compact[0])}{compact[1:8]}") % 23] == compact[8]


class ItFiscal(National):
    """Codice fiscale: letters of the name, birth, place, and a letter that checks."""

    name: ClassVar[str] = "it_fiscal_code"
    label: ClassVar[str] = "FISCAL"
    pack: ClassVar[str | None] = "it"
    _digits = "[0-9LMNPQRSTUV]"  # letters stand for digits where two people would have the same
    supersets: ClassVar[tuple[str, ...]] = (
        rf"[A-Z]{{6}}{_digits}{{2}}[A-EHLMPRST]{_digits}{{2}}[A-Z]{_digits}{{3}}[A-Z]",
    )
    form: ClassVar[re.Pattern[str]] = re.compile(supersets[0], re.IGNORECASE | re.ASCII)
    words: ClassVar[frozenset[str]] = frozenset()
    plain: ClassVar[re.Pattern[str] | None] = None
    things: ClassVar[frozenset[str]] = frozenset()
    # Values of 0 to 9 and A to Z at odd places.
    _odd: ClassVar[tuple[int, ...]] = (
        *(1, 0, 5, 7, 9, 13, 15, 17, 19, 21),
        *(1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
    )

    def valid(self, compact: str) -> bool:
        values = [int(char, 36) for char in compact]
        even = sum(value - 10 if value > 9 else value for value in values[1:15:2])
        return (sum(self._odd[value] for value in values[0:15:2]) + even) % 26 == values[15] - 10


class NlBsn(National):
    """Burgerservicenummer: nine digits, the sum with weights is divisible by 11."""

    name: ClassVar[str] = "nl_bsn"
    label: ClassVar[str] = "BSN"
    pack: ClassVar[str | None] = "nl"
    supersets: ClassVar[tuple[str, ...]] = (r"[0-9]{4}[ .]?[0-9]{2}[ .]?[0-9]{3}",)
    form: ClassVar[re.Pattern[str]] = re.compile(r"(?<![0-9])[0-9]{4}([ .]?)[0-9]{2}\1[0-9]{3}(?![0-9])")
    words: ClassVar[frozenset[str]] = _words("bsn sofi sofinummer burgerservicenummer burgerservice")
    plain: ClassVar[re.Pattern[str] | None] = re.compile(r".+")

    def valid(self, compact: str) -> bool:
        return _weighted(compact, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and len(set(compact)) > 1


class PlPesel(National):
    """PESEL: date of birth with the century in the month, order, check digit."""

    name: ClassVar[str] = "pl_pesel"
    label: ClassVar[str] = "PESEL"
    pack: ClassVar[str | None] = "pl"
    supersets: ClassVar[tuple[str, ...]] = (r"[0-9]{2}[0-35-9][0-9][0-3][0-9]{6}",)
    form: ClassVar[re.Pattern[str]] = re.compile(r"(?<![0-9])[0-9]{2}[0-35-9][0-9][0-3][0-9]{6}(?![0-9])")
    words: ClassVar[frozenset[str]] = _words("pesel ewidencyjny obywatel")

    def valid(self, compact: str) -> bool:
        if not _is_date(int(compact[2:4]) % 20, int(compact[4:6])):
            return False
        return _weighted(compact, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


class BrCpf(National):
    """Cadastro de pessoas físicas: nine digits, two that check."""

    name: ClassVar[str] = "br_cpf"
    label: ClassVar[str] = "CPF"
    pack: ClassVar[str | None] = "br"
    supersets: ClassVar[tuple[str, ...]] = (r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}", r"[0-9]{9}-?[0-9]{2}")
    form: ClassVar[re.Pattern[str]] = re.compile(
        r"(?<![0-9])(?:[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}|[0-9]{9}-?[0-9]{2})(?![0-9])"
    )
    words: ClassVar[frozenset[str]] = _words("cpf contribuinte documento titular")
    plain: ClassVar[re.Pattern[str] | None] = re.compile(r"[0-9-]+")

    def valid(self, compact: str) -> bool:
        if len(set(compact)) == 1:
            return False
        checks = (_weighted(compact[:size], tuple(range(size + 1, 1, -1))) * 10 % 11 % 10 for size in (9, 10))
        return all(check == int(digit) for check, digit in zip(checks, compact[9:], strict=True))


# Dihedral group of order 10, and its permutation by place (Verhoeff).
_TIMES = listed(
    "0123456789 1234067895 2340178956 3401289567 4012395678 5987604321 6598710432 7659821043 8765932104 9876543210"
)
_PLACE = listed("0123456789 1576283094 5803796142 8916043527 9453126870 4286573901 2793806415 7046913258")


def verhoeff(digits: str) -> bool:
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = int(_TIMES[check][int(_PLACE[place % 8][int(digit)])])
    return check == 0


class InAadhaar(National):
    """Aadhaar: twelve digits, the last one checks (Verhoeff)."""

    name: ClassVar[str] = "in_aadhaar"
    label: ClassVar[str] = "AADHAAR"
    pack: ClassVar[str | None] = "in"
    supersets: ClassVar[tuple[str, ...]] = (r"[2-9][0-9]{3}[ \-]?[0-9]{4}[ \-]?[0-9]{4}",)
    form: ClassVar[re.Pattern[str]] = re.compile(r"(?<![0-9])[2-9][0-9]{3}([ -]?)[0-9]{4}\1[0-9]{4}(?![0-9])")
    words: ClassVar[frozenset[str]] = _words("aadhaar aadhar uidai uid आधार")

    def valid(self, compact: str) -> bool:
        return verhoeff(compact) and len(set(compact)) > 2


class InPan(National):
    """Permanent account number; of a person: the fourth letter is P."""

    name: ClassVar[str] = "in_pan"
    label: ClassVar[str] = "TAXPAN"
    pack: ClassVar[str | None] = "in"
    supersets: ClassVar[tuple[str, ...]] = (r"[A-Z]{3}[ABCFGHJLPT][A-Z][0-9]{4}[A-Z]",)
    form: ClassVar[re.Pattern[str]] = re.compile(
        r"[A-Z]{3}[ABCFGHJLPT][A-Z][0-9]{4}[A-Z]|[a-z]{3}[abcfghjlpt][a-z][0-9]{4}[a-z]"
    )
    words: ClassVar[frozenset[str]] = _words("pan permanent account taxpayer tax")
    plain: ClassVar[re.Pattern[str] | None] = re.compile(r"[A-Z]{3}[^P].*|[a-z].*")

    def valid(self, compact: str) -> bool:
        return compact[5:9] != "0000"


class AuTfn(National):
    """Tax file number of Australia: nine digits, the sum with weights is divisible by 11."""

    name: ClassVar[str] = "au_tfn"
    label: ClassVar[str] = "TFN"
    pack: ClassVar[str | None] = "au"
    supersets: ClassVar[tuple[str, ...]] = (r"[0-9]{3}[ \-]?[0-9]{3}[ \-]?[0-9]{3}",)
    form: ClassVar[re.Pattern[str]] = re.compile(r"(?<![0-9])[0-9]{3}([ -]?)[0-9]{3}\1[0-9]{3}(?![0-9])")
    words: ClassVar[frozenset[str]] = _words("tfn tax")
    plain: ClassVar[re.Pattern[str] | None] = re.compile(r".+")

    def valid(self, compact: str) -> bool:
        return _weighted(compact, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0 and len(set(compact)) > 1


class CaSin(National):
    """Social insurance number of Canada: nine digits, Luhn."""

    name: ClassVar[str] = "ca_sin"
    label: ClassVar[str] = "SIN"
    pack: ClassVar[str | None] = "ca"
    supersets: ClassVar[tuple[str, ...]] = (r"[1-79][0-9]{2}[ \-]?[0-9]{3}[ \-]?[0-9]{3}",)
    form: ClassVar[re.Pattern[str]] = re.compile(
        r"(?<![0-9])[1-79][0-9]{2}([ -]?)[0-9]{3}\1[0-9]{3}(?![0-9])"
    )
    words: ClassVar[frozenset[str]] = _words("sin nas insurance sociale")
    plain: ClassVar[re.Pattern[str] | None] = re.compile(r".+")

    def valid(self, compact: str) -> bool:
        return luhn(compact) and len(set(compact)) > 1


class SePersonnummer(National):
    """Personnummer of Sweden: date of birth (60 more on the day: to coordinate), three digits, Luhn."""

    name: ClassVar[str] = "se_personnummer"
    label: ClassVar[str] = "PERSONNUMMER"
    pack: ClassVar[str | None] = "se"
    supersets: ClassVar[tuple[str, ...]] = (r"[0-9]{2}[01][0-9][0-9]{2}[+\-]?[0-9]{4}",)
    form: ClassVar[re.Pattern[str]] = re.compile(
        r"(?<![0-9])(?:(?:18|19|20)?[0-9]{2})[01][0-9][0-9]{2}[+-]?[0-9]{4}(?![0-9])"
    )
    words: ClassVar[frozenset[str]] = _words(
        "personnummer personnr pnr samordningsnummer person födelsenummer"
    )
    # Builds and orders have numbers of the kind 20240719-1234, dates of our time.
    plain: ClassVar[re.Pattern[str] | None] = re.compile(r"[0-9]+|(?:20)?[12][0-9][0-9]{4}[+-][0-9]{4}")

    def valid(self, compact: str) -> bool:
        short = compact[-10:]
        return _is_date(int(short[2:4]), (int(short[4:6]) - 1) % 60 + 1) and luhn(short)


PACKS: tuple[Detector, ...] = (
    UsItin(),
    UkNhs(),
    UkNino(),
    DeTaxId(),
    FrNir(),
    EsNif(),
    EsNie(),
    ItFiscal(),
    NlBsn(),
    PlPesel(),
    BrCpf(),
    InAadhaar(),
    InPan(),
    AuTfn(),
    CaSin(),
    SePersonnummer(),
)
