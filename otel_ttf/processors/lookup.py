"""Tables that attributes are looked up in: CSV and JSON files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

Scalar = str | int | float | bool
MAX_BYTES = 256 << 20


def table(path: Path, column: str, columns: Sequence[str]) -> Iterator[tuple[str, tuple[Scalar, ...]]]:
    """(key, values of the columns) of each row. What is empty, null or not there is "".

    Raises OSError; ValueError with what was expected and found, never with a value of the table.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES >> 20} MiB, found more")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"expected text in UTF-8, found something else at byte {error.start}") from None
    rows = _json(text) if path.suffix.lower() == ".json" else _csv(text, (column, *columns))
    seen: dict[str, str] = {}
    for place, row in rows:
        key = _value(row.get(column), place, column)
        if key == "":
            raise ValueError(f"expected a value of {column}, found none in {place}")
        name = str(key)
        if name in seen:
            raise ValueError(f"expected each value of {column} once, found one in {seen[name]} and {place}")
        seen[name] = place
        yield name, tuple(_value(row.get(one), place, one) for one in columns)


def _csv(text: str, wanted: Sequence[str]) -> Iterator[tuple[str, Mapping[str, object]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = [name for name in wanted if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"expected {' and '.join(missing)} among the names in line 1, found others")
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(
                    f"expected as many fields as names, found more or fewer in line {reader.line_num}"
                )
            yield f"line {reader.line_num}", row
    except csv.Error:
        raise ValueError(f"expected CSV, found an error in it behind line {reader.line_num}") from None


def _json(text: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"expected JSON, found an error in it{where}") from None
    if not isinstance(rows, list):
        raise ValueError("expected a list of objects, found something else")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"expected a list of objects, found something else at [{number}]")
        yield f"[{number}]", row


def _value(value: object, place: str, column: str) -> Scalar:
    match value:
        case None:
            return ""
        case str():
            return value.strip()
        case bool():
            return value
        case int() if -(2**63) <= value < 2**63:
            return value
        case float() if math.isfinite(value):
            return value
        case _:
            raise ValueError(
                f"expected a text, number, true or false, found something else: {place}, {column}"
            )
