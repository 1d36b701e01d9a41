"""Tables that attributes are looked up in: CSV and JSON files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

Scalar = str | int | float | bool
MAX_BYTES = 256 << 20

V = TypeVar("V")
Rows = Iterator[tuple[int, Sequence[object]]]


def table(
    path: Path, column: str, columns: Sequence[str], made: Callable[[tuple[Scalar, ...]], V]
) -> dict[str, V]:
    """Value of the column -> what is made of those of the columns; what is empty, null or not there is "".

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
    wanted = (column, *columns)
    rows: Callable[[], Rows]
    if path.suffix.lower() == ".json":
        rows, place = partial(_json, text, wanted), "[{}]"
    else:
        rows, place = partial(_csv, data, wanted), "line {}"
    del text  # CSV is read piece by piece: that takes far less memory
    found: dict[str, V] = {}
    for number, row in rows():
        key, *values = (_value(value, name, place, number) for name, value in zip(wanted, row, strict=True))
        name = str(key)
        if name == "":
            raise ValueError(f"expected a value of {column}, found none in {place.format(number)}")
        if name in found:
            first = next(n for n, row in rows() if str(_value(row[0], column, place, n)) == name)
            places = f"{place.format(first)} and {place.format(number)}"
            raise ValueError(f"expected each value of {column} once, found one in {places}")
        found[name] = made(tuple(values))
    return found


def _csv(data: bytes, wanted: Sequence[str]) -> Rows:
    """(number of the line, values of the wanted columns)"""
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline=""), strict=True)
    try:
        names = next(reader, [])
        missing = [name for name in wanted if name not in names]
        if missing:
            raise ValueError(f"expected {' and '.join(missing)} among the names in line 1, found others")
        places = [len(names) - 1 - names[::-1].index(name) for name in wanted]
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                raise ValueError(
                    f"expected as many fields as names, found more or fewer in line {reader.line_num}"
                )
            yield reader.line_num, [row[place] for place in places]
    except csv.Error:
        raise ValueError(f"expected CSV, found an error in line {reader.line_num}") from None


def _json(text: str, wanted: Sequence[str]) -> Rows:
    """(place in the list, values of the wanted names)"""
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
        yield number, [row.get(name) for name in wanted]


def _value(value: object, column: str, place: str, number: int) -> Scalar:
    match value:
        case None:
            return ""
        case str():
            return value.strip()
        case bool():
            return value
        case int() if fits(value):
            return value
        case float() if math.isfinite(value):
            return value
        case _:
            raise ValueError(
                "expected a text, number, true or false, found something else: "
                f"{place.format(number)}, {column}"
            )


def fits(number: int) -> bool:
    """Whether OTLP can carry it."""
    return -(2**63) <= number < 2**63
