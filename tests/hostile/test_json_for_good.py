"""OTLP/JSON that no sender can mend by coming again is answered 400, not 503.

Each of these was an internal error (OverflowError, ValueError, RecursionError), so 503 with RetryInfo: the sender
keeps the request and sends it for ever.
"""

from __future__ import annotations

import pytest

from otel_ttf.otlp.json import Found, decode
from otel_ttf.otlp.wire import Malformed
from otel_ttf.otlp.wire import decode as read


def body(value: str) -> bytes:
    return b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":%b}]}]}]}' % value.encode()


def lists(levels: int) -> str:
    return '{"arrayValue":{"values":[' * levels + '{"stringValue":"x"}' + "]}}" * levels


@pytest.mark.parametrize(
    "value",
    [
        pytest.param('{"doubleValue":' + "9" * 400 + "}", id="an integer that no double can hold"),
        pytest.param('{"intValue":"--12"}', id="two signs"),
        pytest.param('{"intValue":"1-2"}', id="a sign in the middle"),
        pytest.param('{"intValue":1e400}', id="infinite"),
        pytest.param('{"intValue":"\\u0663"}', id="another script's digit"),
        pytest.param('{"stringValue":' + "[" * 600 + "]" * 600 + "}", id="600 lists in the place of a text"),
    ],
)
def test_refused_for_good(value):
    with pytest.raises(Malformed):
        read("logs", decode("logs", body(value)))


@pytest.mark.parametrize("levels", [33, 60, 90, 200, 900])
def test_values_that_are_nested_too_deeply_are_cut(levels):
    assert b"<too deep>" in read("logs", decode("logs", body(lists(levels)))).SerializeToString()


@pytest.mark.parametrize(
    ("signal", "before", "after"),
    [
        ("logs", '{"resourceLogs":[{"scopeLogs":[{"logRecords":[', "]}]}]}"),
        ("traces", '{"resourceSpans":[{"scopeSpans":[{"spans":[', "]}]}]}"),
        ("metrics", '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[', "]}]}]}"),
    ],
)
@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        pytest.param('{"flags":"x"}', None, id="a field of a wrong type, where there is one"),
        pytest.param("7", "expected an object, found a number", id="no object"),
        pytest.param('"x"', "expected an object, found a string", id="a text"),
    ],
)
def test_a_broken_record_costs_none_of_the_others(signal, before, after, bad, rule):
    good = '{"name":"a"}' if signal != "logs" else '{"eventName":"a"}'
    found = Found()
    raw = decode(signal, f"{before}{good},{bad},{good}{after}".encode(), found)
    request = read(signal, raw)
    first = getattr(request, request.DESCRIPTOR.fields[0].name)[0]
    scope = getattr(first, first.DESCRIPTOR.fields[1].name)[0]
    assert len(getattr(scope, scope.DESCRIPTOR.fields[1].name)) == 3
    if rule is not None:
        assert found.broken == {1: rule}
    elif signal == "metrics":  # has no such field
        assert found.broken == {}
    else:
        assert found.broken == {1: "flags: expected an integer, found a string"}
