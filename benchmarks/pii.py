"""How much of what is planted in texts the detectors find, and how much they find that is nobody's.

    pip install -e '.[bench]'
    python benchmarks/pii.py
    python benchmarks/pii.py --seed 7 --count 2000 --clean 300000
    python benchmarks/pii.py --json > pii.json

For each detector: `count` texts with one value in a frame (log lines, JSON, URLs, stack traces), and as many frames
with a clean value. A finding counts as right when it covers the planted value and nothing else but punctuation and
what leads up to the value; values that are not covered are missed; findings that cover nothing planted are false.
Only the detector of the corpus is asked; of secrets, all that find secrets. Telephone numbers without + are planted
in groups and after a word, bare digits are not planted: they are left alone by decision.

Beside it: the recognizer of Presidio for the same thing, on the same texts, at the score that suits it best.
Then `clean` values of telemetry, bare and in frames: false hits in 100,000, and what they look like.

The bars: F1 of at least 0.98, not below Presidio's, at most one false hit in 100,000. Exit status 1: one is missed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

from pii_clean import clean_value
from pii_personal import PERSONAL
from pii_planted import Planted, Source, Text, empty, planted
from pii_secrets import SECRET

from otel_ttf.pii.detect import DETECTORS
from otel_ttf.pii.detect.base import Detector, Span

LEAST_F1 = 0.98
MOST_FALSE = 1  # in 100,000
# Detector -> Presidio's recognizer and its name for what it finds.
PRESIDIO = {
    "email": ("EmailRecognizer", "EMAIL_ADDRESS"),
    "iban": ("IbanRecognizer", "IBAN_CODE"),
    "card": ("CreditCardRecognizer", "CREDIT_CARD"),
    "us_ssn": ("UsSsnRecognizer", "US_SSN"),
    "us_itin": ("UsItinRecognizer", "US_ITIN"),
    "uk_nhs": ("NhsRecognizer", "UK_NHS"),
    "uk_nino": ("UkNinoRecognizer", "UK_NINO"),
    "de_tax_id": ("DeTaxIdRecognizer", "DE_TAX_ID"),
    "es_nif": ("EsNifRecognizer", "ES_NIF"),
    "es_nie": ("EsNieRecognizer", "ES_NIE"),
    "it_fiscal_code": ("ItFiscalCodeRecognizer", "IT_FISCAL_CODE"),
    "pl_pesel": ("PlPeselRecognizer", "PL_PESEL"),
    "in_aadhaar": ("InAadhaarRecognizer", "IN_AADHAAR"),
    "in_pan": ("InPanRecognizer", "IN_PAN"),
    "au_tfn": ("AuTfnRecognizer", "AU_TFN"),
    "ca_sin": ("CaSinRecognizer", "CA_SIN"),
    "se_personnummer": ("SePersonnummerRecognizer", "SE_PERSONNUMMER"),
    "mac": ("MacAddressRecognizer", "MAC_ADDRESS"),
    "ip": ("IpRecognizer", "IP_ADDRESS"),
    "phone": ("PhoneRecognizer", "PHONE_NUMBER"),
}
_SCORES = (0.0, 0.2, 0.35, 0.45, 0.6, 0.9)

Find = Callable[[str], Iterable[Span]]


@dataclass(frozen=True)
class Figures:
    right: int
    missed: int
    false: int

    @property
    def precision(self) -> float:
        return self.right / (self.right + self.false) if self.right + self.false else 0.0

    @property
    def recall(self) -> float:
        return self.right / (self.right + self.missed) if self.right + self.missed else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.right / (2 * self.right + self.missed + self.false) if self.right else 0.0

    def __str__(self) -> str:
        return f"{self.precision:9.4f} {self.recall:7.4f} {self.f1:7.4f}"


def main() -> int:
    options = _options()
    source = Source(options.seed)
    groups: dict[str, tuple[Callable[[Source], Planted], Find]] = {
        detector.name: (PERSONAL[detector.name], detector.find)
        for detector in DETECTORS
        if detector.name in PERSONAL
    }
    secrets = [detector for detector in DETECTORS if detector.secret]
    if secrets:
        groups |= {name: (make, _any_of(secrets)) for name, make in SECRET.items()}
    told: dict[str, Any] = {"seed": options.seed, "count": options.count, "corpora": {}}
    good = True
    for name, (make, find) in groups.items():
        texts = [planted(source, make) for _ in range(options.count)] + [
            empty(source) for _ in range(options.count)
        ]
        ours, examples = _measured(texts, find)
        theirs = None if options.alone else _presidio(name, texts)
        row: dict[str, Any] = {"ours": asdict(ours), "f1": ours.f1, "examples": examples}
        if theirs is not None:
            row |= {"presidio": asdict(theirs[0]), "presidio_f1": theirs[0].f1, "recognizer": theirs[1]}
        told["corpora"][name] = row
        row["held"] = ours.f1 >= LEAST_F1 and (theirs is None or ours.f1 >= theirs[0].f1)
        good &= row["held"]
        if not options.json:
            if len(told["corpora"]) == 1:
                print(
                    f"{'':16} {'precision':>9} {'recall':>7} {'F1':>7}   Presidio: the same three, recognizer and score"
                )
            beside = f"{theirs[0]}  {theirs[1]}" if theirs is not None else "        -"
            print(f"{name:16} {ours} | {beside}{'' if row['held'] else '   BELOW THE BAR'}", flush=True)
            if options.verbose:
                print("".join(f"      {example}\n" for example in examples), end="")
    if not options.alone and not _installed():
        print(
            "presidio-analyzer is not installed, so nothing stands beside: pip install -e '.[bench]'",
            file=sys.stderr,
        )
    clean = _clean(source, options.clean)
    told["clean"] = clean
    good &= clean["held"]
    print(json.dumps(told, indent=1) if options.json else _clean_text(clean))
    return 0 if good else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=500, help="texts with a value, per detector")
    parser.add_argument("--clean", type=int, default=100_000, help="clean values")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--alone", action="store_true", help="without Presidio, which takes most of the time")
    parser.add_argument("--verbose", action="store_true", help="print texts that were got wrong")
    return parser.parse_args()


def _any_of(detectors: Sequence[Detector]) -> Find:
    def find(text: str) -> list[Span]:
        """What several find in one place is one finding."""
        merged: list[Span] = []
        for start, end in sorted(span for detector in detectors for span in detector.find(text)):
            if merged and start < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return merged

    return find


def _measured(texts: Sequence[Text], find: Find) -> tuple[Figures, list[str]]:
    """Figures, and some texts that were got wrong."""
    right = missed = false = 0
    examples = []
    for text in texts:
        covered, wrong = _judged(text, list(find(text.text)))
        if text.end:
            right += covered
            missed += not covered
        false += wrong
        if wrong or (text.end and not covered):
            examples.append(
                f"{'false' if wrong else 'missed'}: {text.text!r} {text.text[text.start : text.end]!r}"
            )
    return Figures(right, missed, false), examples[:12]


def _judged(text: Text, spans: Sequence[Span]) -> tuple[bool, int]:
    """Whether a finding covers the value, and how many cover nothing of it."""
    start, end = text.start, text.end
    while start < end and not text.text[start].isalnum():
        start += 1
    while end > start and not text.text[end - 1].isalnum():
        end -= 1
    covered = any(
        begin <= start
        and stop >= end
        and not _more(text.text[begin : max(begin, text.first)])
        and not _more(text.text[min(stop, text.last) : stop])
        for begin, stop in spans
    )
    return covered, sum(stop <= start or begin >= end for begin, stop in spans)


def _more(text: str) -> bool:
    return any(char.isalnum() for char in text)


def _installed() -> bool:
    return find_spec("presidio_analyzer") is not None


def _presidio(name: str, texts: Sequence[Text]) -> tuple[Figures, str] | None:
    """Figures of Presidio's recognizer at its best score, and which it was."""
    if name not in PRESIDIO or not _installed():
        return None
    import logging

    import tldextract
    from presidio_analyzer import predefined_recognizers

    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    # It would ask the internet for the list of domains: the one that comes with it will do.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())
    kind, entity = PRESIDIO[name]
    if not hasattr(predefined_recognizers, kind):
        return None
    recognizer = getattr(predefined_recognizers, kind)()
    found = {text.text: recognizer.analyze(text.text, [entity], nlp_artifacts=None) or [] for text in texts}
    best: tuple[Figures, str] | None = None
    for score in _SCORES:
        spans = {
            text: [(one.start, one.end) for one in some if one.score >= score] for text, some in found.items()
        }
        figures, _ = _measured(texts, spans.__getitem__)
        if best is None or figures.f1 > best[0].f1:
            best = figures, f"{kind} {score}"
    return best


def _clean(source: Source, count: int) -> dict[str, Any]:
    """False hits in clean values: of each detector, and of all that are on by default."""
    hits: Counter[str] = Counter()
    shapes: Counter[tuple[str, str, str]] = Counter()
    examples: dict[tuple[str, str, str], str] = {}
    overall = 0
    for number in range(count):
        kind, text = clean_value(source.random) if number % 2 else ("in a frame", empty(source).text)
        on = False
        for detector in DETECTORS:
            for start, end in detector.find(text):
                found = text[start:end]
                shape = (detector.name, kind, _shape(found))
                hits[detector.name] += 1
                shapes[shape] += 1
                examples.setdefault(shape, text[max(0, start - 30) : end + 20])
                on |= detector.default != "keep"
        overall += on
    rate = 100_000 / count if count else 0
    return {
        "values": count,
        "per_100000": {detector.name: hits[detector.name] * rate for detector in DETECTORS},
        "overall_per_100000": overall * rate,
        "shapes": [[*shape, times, examples[shape]] for shape, times in shapes.most_common(40)],
        "held": overall * rate <= MOST_FALSE and all(times * rate <= MOST_FALSE for times in hits.values()),
    }


def _shape(text: str) -> str:
    return re.sub(r"[a-z]+", "a", re.sub(r"[A-Z]+", "A", re.sub(r"\d", "9", text)))


def _clean_text(clean: dict[str, Any]) -> str:
    lines = [
        "",
        f"False hits in 100,000 of {clean['values']} clean values, by all that are on by default: "
        f"{clean['overall_per_100000']:.2f}{'' if clean['held'] else '   ABOVE THE BAR (there, or of a detector)'}",
    ]
    lines += [f"  {name:16} {rate:8.2f}" for name, rate in clean["per_100000"].items() if rate]
    lines += [
        f"  {times:5} {name} in {kind}: {shape}   ...{example!r}"
        for name, kind, shape, times, example in clean["shapes"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
