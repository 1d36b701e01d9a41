"""Telephone numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from otel_ttf.pii.detect.around import before, free_before, listed, words_before
from otel_ttf.pii.detect.base import Detector, Span
from otel_ttf.pii.scanner import literal

# (fewest, most) digits after the calling code of a country (ITU E.164), and the codes.
_PLANS = """
4-5 290; 4-7 683 690; 4-10 98; 4-11 352; 4-13 43 598; 5-15 49; 5-5 500 682; 5-6 247; 5-7 676 677 678 688; 5-8 47 386 686
5-10 27 64 685; 5-11 31 852; 5-12 61 358 971; 5-14 82; 6-6 298 299 672 687; 6-7 597; 6-9 40 252 355 376 421 508 681 689
6-10 48 53 95 880; 6-11 375 595; 6-12 39 46 359 381; 6-13 63; 7-7 238 239 246 248 269 291 297 592 673 674 680 691 692
7-8 241 599 670 675 853 961 965 975; 7-9 220 231 245 265 354 385 423 967 968; 10-10 1; 7-10 44 84 230 243 254 263 267
7-10 353 372 960; 7-11 501 503 507 679 886 974; 7-12 86 882 972; 7-13 90; 7-13 62
8-8 45 216 222 223 226 227 228 232 235 236 253 257 266 350 356 357 370 371 373 374 389 505 509 800 808 973 993
8-9 32 36 51 213 224 233 237 250 258 264 268 377 382 387 591 962 963; 8-10 20 60 378 506 850 855 856 964 970 976
8-11 55 57 65 502 504 593 977; 8-12 92 383 883; 8-13 66 91; 8-13 81
9-9 33 34 93 94 211 212 218 221 240 242 244 249 251 255 256 260 261 262 351 590 594 596 979 992 994 995 998
9-10 380 881 966 996; 9-11 56; 9-12 41 420 870; 10-10 52 58 225 229; 10-11 54; 10-12 30; 10-10 7; 10-11 234; 11-11 888
12-12 878
"""


def _codes() -> dict[str, tuple[int, int]]:
    codes = {}
    for plan in re.split(r"[;\n]", _PLANS.strip()):
        span, *those = plan.split()
        fewest, most = map(int, span.split("-"))
        codes.update(dict.fromkeys(those, (fewest, most)))
    return codes


CODES = _codes()
_LONGEST_CODE = 3
_MOST = 15  # digits of a whole number (E.164)
_MOST_NATIONAL = 13  # of Argentina: 0, area, 15, number
_FEWEST = 7
_LONGEST_GROUP = 7
_COMPLETE = 10  # so many digits in a row, code included, are a whole number


_GAP = r"[ .\-/()\u00a0]{0,3}"
_INTERNATIONAL = re.compile(rf"\+\(?[1-9](?:{_GAP}[0-9]){{6,16}}(?![0-9])")
_TRUNK = re.compile(r"\( ?0 ?\)")
_GROUP = re.compile(r"[0-9]+")
_EXTENSION = re.compile(
    r"[ ,;]{0,2}(?:x|ext\.?|extension|durchwahl)[ .:]{0,2}[0-9]{1,6}(?![0-9A-Za-z+])",
    re.IGNORECASE | re.ASCII,
)
# What goes on is a version, a date, a name; what has a unit is a count with a sign.
_GOES_ON = re.compile(
    r"[^\W_]|_|[.:+/\-][0-9]|-[A-Za-z]|[ ]?(?:ns|us|µs|ms|s|sec|bytes?|[kmg]i?b|%|rows?|hz)(?![a-z])",
    re.IGNORECASE,
)
_COUNTED = frozenset(
    listed("delta drift diff skew offset by change changed balance adjust adjustment increment score")
)
# Latitude and longitude (ISO 6709).
_PLACE = re.compile(r"\+[0-9]{1,7}\.[0-9]{1,9}[+-][0-9]{1,7}\.[0-9]")
# Begins what follows a number, though it looks as if the number went on.
_NEXT = re.compile(
    r"[ ](?:(?:19|20)[0-9]{2}[-/.][0-9]{2}[-/.][0-9]{2}|[0-9]{1,2}:[0-9]{2}|[0-9]{1,3}(?:\.[0-9]{1,3}){3})(?![0-9])"
)

# Words that lead up to a number without a +, in the languages of many: stems with endings, then whole ones.
_STEMS = listed(
    "call cell cep dial fax faks gsm handy mobiel mobil phone portable puhelin rufnummer sms tel tlf viber whatsapp"
)
_ENDINGS = listed("""
    e ed ing number phone phones fon fono fone fonu foon efon efonnr efonnummer efono efone efonu efoon efonos
    éfono ephone ephones éphone elefon efonnumero no nr nummer mobil numero ular ulare
    """)
_WHOLE = listed("""
    celular movil kom komorka matkapuhelin téléphone móvil komórka телефон Телефон ТЕЛЕФОН тел Тел ТЕЛ моб Моб
    факс Факс τηλέφωνο Τηλέφωνο τηλ Τηλ κινητό Κινητό 電話 電話番号 携帯 手机 电话 手機
    전화 전화번호 휴대폰 फ़ोन फोन मोबाइल هاتف جوال טלפון נייד โทร
    """)
_LINKS = listed("""
    number num no nr at on me us him her is was to under unter al au il home work cell office primary contact
    customer numero
    """)
_PUNCTUATION = r"[ .:=\"'#\\>_\-]{0,8}"


def _context(flags: int, *, ascii_: bool) -> re.Pattern[str]:
    endings, whole = (
        "|".join(sorted((word for word in words if word.isascii() or not ascii_), key=len, reverse=True))
        for words in (_ENDINGS, _WHOLE)
    )
    return re.compile(
        rf"(?:(?:{'|'.join(_STEMS)})(?:{endings})?"
        rf"(?:[ _.\-]{{0,2}}(?:{'|'.join(_LINKS)})(?![a-z])){{0,2}}|(?:{whole})){_PUNCTUATION}(?=\(?[0-9])",
        flags | re.ASCII,
    )


_CONTEXT = _context(re.IGNORECASE, ascii_=False)
_LOWER_CONTEXT = _context(0, ascii_=True)  # in lower case, which takes a tenth of the time


def _contexts(text: str) -> Iterator[re.Match[str]]:
    """Words that lead up to a digit."""
    return _LOWER_CONTEXT.finditer(text.lower()) if text.isascii() else _CONTEXT.finditer(text)


_NATIONAL = re.compile(rf"\(?[0-9](?:{_GAP}[0-9]){{6,13}}(?![0-9])")
_SEPARATED = re.compile(r"[0-9][ .\-/()\u00a0]+[0-9]")
# Dates, decimal numbers, addresses of machines.
_OTHER = re.compile(
    r"(?:19|20)[0-9]{2}([-./ ])[0-9]{1,2}\1[0-9]{1,2}(?![0-9])|[0-9]{1,2}([-./])[0-9]{1,2}\2(?:19|20)[0-9]{2}(?![0-9])"
    r"|[0-9]+\.[0-9]+$|[0-9]{1,3}(?:\.[0-9]{1,3}){3}$"
)


class Phone(Detector):
    """After a +: what a country's plan allows. Else only in groups, and where a word says that it is a telephone."""

    name: ClassVar[str] = "phone"
    secret: ClassVar[bool] = False
    label: ClassVar[str] = "PHONE"
    shaped: ClassVar[bool] = True
    supersets: ClassVar[tuple[str, ...]] = (
        r"\+\(?[1-9](?:[ .\-/()\xa0\xc2]{0,6}[0-9]){6}",
        # What stands between is an ending, two links and punctuation at the most.
        rf"(?:{'|'.join(_STEMS)})[ -/:-~\x80-\xff]{{0,44}}[0-9]{{1,7}}[ .\-/()\xa0\xc2]",
        rf"(?:{'|'.join(literal(word) for word in _WHOLE)})[ -/:-~]{{0,9}}[0-9]{{1,7}}[ .\-/()\xa0\xc2]",
    )

    def find(self, text: str) -> Iterator[Span]:
        spans = (
            []
            if "+" not in text
            else [span for m in _INTERNATIONAL.finditer(text) if (span := _whole(text, m))]
        )
        if len(text) > _FEWEST:
            spans += [span for match in _contexts(text) if (span := _national(text, match))]
        end = 0
        for span in sorted(spans):
            if span[0] >= end:
                yield span
                end = span[1]

    def canonical(self, found: str) -> str:
        """Digits, after a + if it has one."""
        number = _EXTENSION.sub("", _TRUNK.sub("", found))
        return "+" * ("+" in number) + "".join(_GROUP.findall(number))


def _whole(text: str, match: re.Match[str]) -> Span | None:
    """The number with a + at a match: the most groups of digits that a plan allows."""
    start = match.start()
    if not free_before(text, start) or before(text, start)[0] in ("+", ".", "_") or _PLACE.match(text, start):
        return None
    following = _NEXT.search(text, start, match.end() + 12)
    end = following.start() if following is not None else match.end()
    groups = list(_GROUP.finditer(text, start, end))
    first = len(groups[0][0])
    if first >= _COMPLETE and _is_planned(text[start : groups[0].end()]):
        groups = groups[:1]
    for last in reversed(groups):
        if _is_planned(text[start : last.end()]):
            extension = _EXTENSION.match(text, last.end())
            if extension is not None:
                return start, extension.end()
            if _GOES_ON.match(text, last.end()) is None and not (
                last is groups[0] and _COUNTED.intersection(words_before(text, start)[:1])
            ):
                return start, last.end()
    return None


def _is_planned(written: str) -> bool:
    """Whether a number with a + has a calling code and as many digits as the plan of its country allows."""
    digits = "".join(_GROUP.findall(_TRUNK.sub("", written)))
    for size in range(1, _LONGEST_CODE + 1):
        plan = CODES.get(digits[:size])
        if plan is not None:
            rest = digits[size:]
            # Some write the 0 that is dialled within the country.
            trunk = rest.startswith("0") and len(rest) > plan[0]
            if size == 1 and digits[0] == "1" and rest[:1] in ("0", "1") and written[1:].isdigit():
                return False
            return plan[0] <= len(rest) <= plan[1] + trunk and _FEWEST <= len(digits) <= _MOST + trunk
    return False


def _national(text: str, context: re.Match[str]) -> Span | None:
    """The number that follows the words at a match."""
    word = context.start()
    one = before(text, word)[0]
    # A word in cellPhone, none in microphone.
    if one.isalpha() and not (one.islower() and text[word].isupper()):
        return None
    match = _NATIONAL.match(text, context.end())
    if match is None or _OTHER.match(match[0]) or not _SEPARATED.search(match[0]):
        return None
    following = _NEXT.search(text, match.start(), match.end() + 12)
    end = following.start() if following is not None else match.end()
    groups = list(_GROUP.finditer(text, match.start(), end))
    for count in range(len(groups), 1, -1):
        stop = groups[count - 1].end()
        if not _is_grouped(text[match.start() : stop], [group[0] for group in groups[:count]]):
            continue
        extension = _EXTENSION.match(text, stop)
        if extension is not None:
            return match.start(), extension.end()
        if _GOES_ON.match(text, stop) is None:
            return match.start(), stop
    return None


def _is_grouped(number: str, groups: list[str]) -> bool:
    """Whether somebody writes a telephone number in such groups."""
    size = sum(map(len, groups))
    most = _MOST if groups[0].startswith("00") else _MOST_NATIONAL
    if not _FEWEST <= size <= most or len(groups[0]) > _LONGEST_GROUP or len(groups) * 2 > size + 2:
        return False
    return "." not in number or (
        not number.strip("0123456789.()") and all(len(group) > 1 for group in groups)
    )
