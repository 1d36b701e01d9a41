"""What OpenTelemetry's consistent sampling writes into W3C's trace state: `ot=th:..;rv:..`.

https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/: a trace has 56 bits of randomness, and
is sampled where these are at least the threshold. So samplers one behind the other keep parts of the same traces.
"""

from __future__ import annotations

import re

RANGE = 1 << 56
_DIGITS = 14
MAX_BYTES = 512  # what is longer is left as it is
_HEX = re.compile(rb"[0-9a-f]{1,14}\Z")


def threshold(ratio: float) -> int:
    """From which randomness on a trace stays."""
    return RANGE - max(1, round(ratio * RANGE))


def randomness(state: bytes, trace_id: bytes) -> int:
    """The trace's, 56 bits: what `rv` says, else the end of the trace id."""
    told = _members(state).get(b"rv", b"")
    if len(told) == _DIGITS and _HEX.match(told):
        return int(told, 16)
    return int.from_bytes(trace_id[-7:], "big")


def told(state: bytes, least: int) -> bytes:
    """The trace state with a threshold of at least so much; the same bytes where it says so already.

    One that says what cannot be is taken for none.
    """
    members = _members(state)
    sent = members.get(b"th", b"")
    before = int(sent.ljust(_DIGITS, b"0"), 16) if _HEX.match(sent) else -1
    if before >= least:
        return state
    members[b"th"] = (b"%014x" % least).rstrip(b"0") or b"0"
    ours = b"ot=" + b";".join(key + b":" + value for key, value in members.items())
    others = [entry for entry in state.split(b",") if entry.strip() and not _is_ours(entry)]
    whole = b",".join([ours, *others])
    return whole if len(whole) <= MAX_BYTES else state


def _is_ours(entry: bytes) -> bool:
    return entry.strip().startswith(b"ot=")


def _members(state: bytes) -> dict[bytes, bytes]:
    if b"ot=" not in state:
        return {}
    entry = next((entry.strip() for entry in state.split(b",") if _is_ours(entry)), b"")
    pairs = [member.partition(b":") for member in entry[3:].split(b";")]
    return {key: value for key, colon, value in pairs if colon}
