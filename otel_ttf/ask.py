"""Questions of the command line to the API of a server that runs, and answers as tables."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from otel_ttf.access.entry import NOBODY, CannotEnter, Entry, tls_error
from otel_ttf.access.hosts import loopback

Answer = Mapping[str, Any]
SECONDS = 10.0
NO_MILESTONE = "urn:otel-ttf:problem:no-milestone"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
WIDE = 160  # columns of what does not go to a screen


class ApiUnanswered(Exception):
    """The API cannot be asked, or has no answer; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server's API is, and how to come in."""

    url: str
    entry: Entry = NOBODY


def get(server: Server, path: Sequence[str], query: Mapping[str, str | None]) -> Answer:
    """The API's answer to `/api/v1/` + path (raw segments). Raises ApiUnanswered."""
    import httpx2

    url = server.url
    target = "/".join([url.rstrip("/"), "api/v1", *(quote(segment, safe="") for segment in path)])
    asked = {name: value for name, value in query.items() if value is not None}
    host = urlsplit(url).hostname or ""
    try:
        # A proxy is no way to this machine.
        response = httpx2.get(
            target,
            params=asked,
            headers=server.entry.headers,
            timeout=SECONDS,
            trust_env=not loopback(host),
            verify=server.entry.trust(),
        )
    except CannotEnter as error:
        raise ApiUnanswered(str(error)) from None
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        cut = isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError)
        raise ApiUnanswered(_unreached(url, error, cut=cut)) from None
    if response.status_code in _KEY_WANTED:
        raise ApiUnanswered(_KEY_WANTED[response.status_code])
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ApiUnanswered(f"{url} is no API of otel-ttf: give its address with --url.")
    if response.is_error:
        said = str(answer.get("detail") or answer.get("title") or f"status {response.status_code}")
        # Nobody knows by heart which events make a journey.
        hint = "; 'otel-ttf seen' shows what came in" if answer.get("type") == NO_MILESTONE else ""
        raise ApiUnanswered(said + hint)
    return answer


_KEY_WANTED = {
    401: "the server wants a good API key: set TELEMETRY_API_KEY; 'otel-ttf api-keys new --scope read' makes one.",
    403: "the API key is not for asking: 'otel-ttf api-keys new --scope read' makes one that is.",
}


def _unreached(url: str, error: BaseException, *, cut: bool) -> str:
    """cut: the server has closed the connection."""
    why = tls_error(error)
    if isinstance(why, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {url} is not trusted: {why.verify_message}: give the authority that signed it with "
            "--ca-file."
        )
    # With TLS 1.3 it is in the place of an answer that we hear that our certificate will not do.
    if why is not None or (cut and url.startswith("https:")):
        return (
            f"{url} does not take our connection: it may ask for a certificate, --cert-file and --key-file, or it "
            "speaks no TLS."
        )
    return f"no server answers at {url}: start one with 'otel-ttf run', or give its address with --url."


def _minutes(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _second(time: str | None) -> str:
    """A time of the API to the second, for eyes."""
    return time[:19].replace("T", " ") + "Z" if time else "-"


def _visible(text: str) -> str:
    """Control characters as escapes: names come from outside, and a terminal obeys what is in them."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def _print(*parts: object) -> None:
    from rich.console import Console

    # No markup: names and ids come from outside. What goes into a pipe or a file is not cut to a screen.
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    for part in parts:
        if isinstance(part, str):
            part = "\n".join(map(_visible, part.split("\n")))
        console.print(part, soft_wrap=isinstance(part, str))


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> object:
    """A table; columns whose name begins with a blank are numbers, flush right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            Text(column.strip()), justify="right" if column.startswith(" ") else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(_visible(str(cell))) for cell in row))
    return table


def _known(answer: Answer, more: str = "") -> str:
    """Of which instant, and of how many users, an answer speaks."""
    text = f"as of {_second(answer['as_of'])}{more}"
    if (share := answer.get("sampled")) is None:
        return text
    weight, since = answer["weight"], answer["sampled_since"]
    stands = "before that it was another share" if weight is None else f"each here stands for {weight:.4g}"
    return f"{text}\n{share:.4g} of all users followed{f' since {_second(since)}' if since else ''}; {stands}"


def _user(answer: Answer) -> None:
    reached = [
        (
            stage["name"],
            stage["milestone"],
            _minutes(stage["minutes"]),
            _minutes(stage["target_minutes"]),
            _second(stage["reached_at"]),
        )
        for stage in answer["stages"]
    ]
    segments = ", ".join(f"{name} {value}" for name, value in answer["segments"].items())
    _print(
        f"{answer['user_id'] or answer['subject']}: {answer['state']} in {answer['journey']}"
        + (f" ({segments})" if segments else "")
        + (f", key {', '.join(answer['key'])}, one of {answer['keys']}" if answer["key"] else ""),
        _table(("stage", "milestone", " minutes", " target", "reached"), reached),
        f"total minutes {_minutes(answer['ttf_complete_minutes'])}, "
        f"score {_minutes(answer['ttf_efficiency_score'])}, "
        f"started {_second(answer['started_at'])}",
        *([f"flags: {', '.join(answer['flags'])}"] if answer["flags"] else []),
        _known(answer),
    )


def _summary(answer: Answer) -> None:
    for journey in answer["journeys"]:
        stages = [
            (
                stage["name"],
                stage["reached"],
                _minutes(stage["median_minutes"]),
                _minutes(stage["p90_minutes"]),
                _minutes(stage["target_minutes"]),
                _share(stage["within_target"]),
                stage["within_target_of"],
            )
            for stage in journey["stages"]
        ]
        _print(
            f"{journey['journey']}: {journey['started']} started, {journey['completed']} completed "
            f"({_share(journey['completion_rate'])}), {journey['in_progress']} in progress, "
            f"{journey['expired']} expired, {journey['entered_late']} entered late",
            f"of the completed: median {_minutes(journey['median_minutes_of_completed'])} minutes, "
            f"p90 {_minutes(journey['p90_minutes_of_completed'])}, "
            f"mean score {_minutes(journey['mean_score_of_completed'])}; "
            f"within target {_share(journey['within_target'])} of {journey['within_target_of']}",
            _table(("stage", " reached", " median", " p90", " target", " within", " of"), stages),
        )
    _print(_known(answer))


def _stuck(answer: Answer) -> None:
    if not answer["items"]:
        _print(f"Nobody is stuck in {answer['journey']}, {_known(answer)}")
        return
    rows = [
        (
            " ".join([item["subject"], *item["key"]]),
            item["stage"],
            _minutes(item["minutes"]),
            _minutes(item["target_minutes"]),
            _second(item["since"]),
        )
        for item in answer["items"]
    ]
    _print(
        _table(("subject", "stage", " minutes", " target", "since"), rows),
        _known(answer, "; there are more, see the API's further pages" if answer["next"] else ""),
    )


def _seen(answer: Answer) -> None:
    if not answer["names"]:
        _print("No event or span has come in yet: try 'otel-ttf demo'.")
        return
    rows = [
        (
            name["name"],
            name["kind"],
            name["count"],
            _second(name["last_seen"]),
            ", ".join(name["milestones"]) or "-",
        )
        for name in answer["names"]
    ]
    _print(
        _table(("name", "kind", " count", "last seen", "milestones"), rows),
        _known(answer),
    )


def _dead_letters(answer: Answer) -> None:
    if not answer["items"]:
        _print("Nothing is set aside.")
        return
    rows = [
        (
            item["id"],
            item["consumer"],
            item["error"],
            item["place"],
            item["signal"],
            _second(item["arrived_at"]),
            _second(item["set_aside_at"]),
            item["records"],
            item["tries"],
        )
        for item in answer["items"]
    ]
    more = answer["count"] - len(rows)
    _print(
        _table(
            (" id", "of", "error", "place", "signal", "arrived", "set aside", " records", " retries"), rows
        ),
        f"{answer['records']} records are set aside" + (f"; {more} more lines are not shown" if more else ""),
    )


def _recomputed(answer: Answer) -> None:
    for journey in answer["journeys"]:
        rows = [
            (
                milestone["milestone"],
                _second(milestone["before"]),
                _second(milestone["after"]),
                milestone["event_id"] or "-",
            )
            for milestone in journey["milestones"]
        ]
        whose = " ".join([journey["subject"], *journey["key"]])
        _print(
            f"{whose} in {journey['journey']}: {'changed' if journey['changed'] else 'as it was'}",
            _table(("milestone", "before", "after", "first event"), rows),
        )


TABLES: Mapping[str, Callable[[Answer], None]] = {
    "user": _user,
    "summary": _summary,
    "stuck": _stuck,
    "seen": _seen,
    "dead letters": _dead_letters,
    "recomputed": _recomputed,
}
