"""Rules over several settings at once, and warnings.

They look at the plain data and pass over what has the wrong type, so that they tell beside pydantic's errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from otel_ttf.access.hosts import loopback
from otel_ttf.access.keys import VARIABLE
from otel_ttf.config import masking
from otel_ttf.config.journeys import stage_of
from otel_ttf.config.masking import Finding
from otel_ttf.config.model import Config, Processors
from otel_ttf.config.problems import Path, did_you_mean, one_of
from otel_ttf.journey.definition import LEVELS, Journey, Milestone, Segment, check
from otel_ttf.journey.match import Match, parse
from otel_ttf.otlp.events import NAME_ATTRIBUTES
from otel_ttf.otlp.identity import EVENT_ID
from otel_ttf.otlp.subject import BESIDE, SubjectKeys
from otel_ttf.otlp.wire import SIGNALS
from otel_ttf.pii.pseudonym import SubjectConfig
from otel_ttf.processors.mask import changes
from otel_ttf.receivers.endpoint import split
from otel_ttf.units import DAY, duration

T = TypeVar("T")

PROTOCOLS: Path = ("receivers", "otlp", "protocols")
GRPC: Path = (*PROTOCOLS, "grpc")
HTTP: Path = (*PROTOCOLS, "http")
API: Path = ("api",)
DESTINATIONS = ("endpoint", *(f"{signal}_endpoint" for signal in SIGNALS))
ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - of listeners
ENRICH: Path = ("processors", "enrich")
IDS_IN_PLAIN = (
    "user ids are not masked: they stand in the event log, the store, its backups and all answers as senders wrote "
    "them, for whoever can read these; destroying a key forgets nobody"
)


def findings(plain: object, env: Mapping[str, str]) -> Iterator[Finding]:
    """What is wrong across settings. env: the environment of the server."""
    yield from _endpoints(plain, env)
    yield from _ways_out(plain)
    yield from _derived(plain)
    mask = _at(plain, masking.MASK)
    if isinstance(mask, dict):
        subject = _at(plain, ("subject", "from"))
        yield from masking.findings(mask, map(str, _list(subject)) if subject else SubjectConfig().from_)
    journeys = _at(plain, ("journeys",))
    if isinstance(journeys, dict):
        for name, journey in journeys.items():
            if isinstance(journey, dict):
                yield from _journey(str(name), journey)


def _derived(plain: object) -> Iterator[Finding]:
    """What enrich derives must not tell whose or which event a record is: that is read from records as they came."""
    subject = _at(plain, ("subject", "from"))
    taken = {*_list(subject)} if isinstance(subject, list) else {*SubjectConfig().from_}
    taken |= {*NAME_ATTRIBUTES, EVENT_ID, BESIDE}
    lookups = _at(plain, (*ENRICH, "lookups"))
    places: list[Path] = [
        ("country", "to"),
        ("user_agent", "browser"),
        ("user_agent", "os"),
        ("email_domain", "to"),
    ]
    for name in lookups if isinstance(lookups, dict) else ():
        columns = _at(lookups, (name, "columns"))
        places += [
            ("lookups", name, "columns", one) for one in (columns if isinstance(columns, dict) else ())
        ]
    for place in places:
        if _at(plain, (*ENRICH, *place)) in taken:
            yield (*ENRICH, *place), "another attribute: users and events are what was sent", None


def _at(plain: object, path: Path) -> object:
    """What stands at the path, or None."""
    for part in path:
        if isinstance(plain, dict):
            plain = plain.get(part)
        elif isinstance(plain, list) and isinstance(part, int) and part < len(plain):
            plain = plain[part]
        else:
            return None
    return plain


def _listeners(plain: object) -> Iterator[tuple[Path, str, int]]:
    """(section, host, port) of each that is configured, or is there by default."""
    protocols = _at(plain, PROTOCOLS)
    for section, default in ((GRPC, "127.0.0.1:4317"), (HTTP, "127.0.0.1:4318"), (API, "127.0.0.1:8080")):
        if section != API and isinstance(protocols, dict) and section[-1] not in protocols:
            continue
        endpoint = _at(plain, (*section, "endpoint"))
        listener = _address(endpoint if endpoint is not None else default)
        if listener is not None:
            yield section, *listener


def _endpoints(plain: object, env: Mapping[str, str]) -> Iterator[Finding]:
    asked = _asked(plain, env)
    taken: dict[tuple[str, int], Path] = {}
    for section, host, port in _listeners(plain):
        certified = _at(plain, (*section, "tls", "client_ca_file"))
        if not (loopback(host) or asked or certified or _at(plain, (*section, "insecure")) is True):
            yield (
                (*section, "endpoint"),
                "a loopback address, or `auth: {required: true}` with keys of `otel-ttf api-keys new`, or "
                "`tls: {client_ca_file}` beside it, or `insecure: true` beside it, since nobody is asked who they are",
                None,
            )
        other = taken.setdefault((host, port), section) if port else section
        if other != section:
            yield (*section, "endpoint"), f"another endpoint than that of {'.'.join(map(str, other))}", None


def _asked(plain: object, env: Mapping[str, str]) -> bool:
    """Whether callers are asked who they are, whatever there is in a data directory."""
    required = _at(plain, ("auth", "required"))
    others = bool(env.get(VARIABLE)) or bool(_at(plain, ("auth", "oidc")))
    return required is True or (required is None and others)


def _ways_out(plain: object) -> Iterator[Finding]:
    """Exporters that pipelines name and nobody has configured, or that would send to this server itself."""
    configured = _at(plain, ("exporters",))
    if not isinstance(configured, dict):
        configured = {}
    for name in configured:
        for setting in DESTINATIONS:
            url = _at(configured, (name, setting))
            if isinstance(url, str) and (section := _own(url, plain)) is not None:
                wanted = (
                    f"the address of another server: this one listens there ({'.'.join(map(str, section))})"
                )
                yield ("exporters", name, setting), wanted, f'"{url}"'
    names = [str(name) for name in configured]
    for signal in SIGNALS:
        path: Path = ("service", "pipelines", signal, "exporters")
        given = _list(_at(plain, path))
        for place, name in enumerate(given):
            if not isinstance(name, str):
                continue
            if name not in names:
                wanted = one_of(names) or "a name that stands in `exporters`"
                yield (*path, place), wanted, f'"{name}"' + did_you_mean(name, names)
            elif name in given[:place]:
                yield (*path, place), "each once", f'"{name}"'


def _own(url: str, plain: object) -> Path | None:
    """Which of our listeners an address means: what is sent there comes back as somebody else's, without end."""
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        host, wanted = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    for section, ours, port in _listeners(plain):
        near = loopback(host) and (host == "localhost" or ours == "localhost" or ours in ANY_ADDRESS)
        if port == wanted and (host == ours or (near and (loopback(ours) or ours in ANY_ADDRESS))):
            return section
    return None


def _address(endpoint: object) -> tuple[str, int] | None:
    try:
        return split(endpoint) if isinstance(endpoint, str) else None
    except ValueError:
        return None


def _journey(name: str, data: dict[str, object]) -> Iterator[Finding]:
    """The domain's own rules; what cannot be read is given a harmless value, since pydantic names it."""
    entries = [entry if isinstance(entry, dict) else {} for entry in _list(data.get("milestones"))]
    key = data.get("key")
    journey = Journey(
        name=name,
        milestones=tuple(_milestone(place, entry) for place, entry in enumerate(entries)),
        key=tuple(map(str, key)) if isinstance(key, list) else ("subject",),
        segments=tuple(_segment(place, entry) for place, entry in enumerate(_list(data.get("segments")))),
        timezone=str(data.get("timezone") or "UTC"),
        settle=_duration(data.get("settle")) or 0,
        target=_duration(data.get("target")),
        overdue={
            level: after
            for level in LEVELS
            if (after := _duration(_at(data.get("overdue"), (level,)))) is not None
        },
        give_up_after=_read(duration, data.get("give_up_after"), 30 * DAY),
    )
    wrong = {path: (expected, found) for path, expected, found in check(journey)}
    for path, (expected, found) in wrong.items():
        if path == ("milestones",) and not isinstance(data.get("milestones"), list):
            continue
        if path[0] == "milestones" and path[-1] == "stage" and "stage" not in entries[int(path[1])]:
            named = (*path[:2], "name")  # the stage goes by the milestone's name
            if named in wrong:
                continue
            path = named
        written = isinstance(_at(data, path), str | int | float)  # is shown as it was written
        yield ("journeys", name, *(() if path == ("name",) else path)), expected, None if written else found


def _milestone(place: int, entry: dict[str, object]) -> Milestone:
    name = entry.get("name")
    stage = entry.get("stage")
    known = name if isinstance(name, str) else f"milestone {place}"
    return Milestone(
        name=known,
        match=_NOTHING,
        stage=stage_of(place, stage if isinstance(stage, str) else None, known),
        target=_duration(entry.get("target")),
    )


_NOTHING = parse({"event": "any"})


def _segment(place: int, entry: object) -> Segment:
    if isinstance(entry, dict):
        attribute, limit = entry.get("attribute", f"segment {place}"), entry.get("limit", 1)
        return Segment(str(attribute), limit if isinstance(limit, int) else 1)
    return Segment(str(entry))


def _list(data: object) -> list[object]:
    return data if isinstance(data, list) else []


def _duration(text: object) -> int | None:
    return None if text is None else _read(duration, text, None)


def _read(read: Callable[[object], T], data: object, otherwise: T) -> T:
    try:
        return read(data)
    except ValueError:
        return otherwise


def warnings(config: Config, env: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    """What is allowed and probably not meant: (path, sentence). env: the environment of the server."""
    protocols = config.receivers.otlp.protocols
    asked = _asked(config.model_dump(include={"auth"}), env)
    for section, listener in ((GRPC, protocols.grpc), (HTTP, protocols.http), (API, config.api)):
        if listener is None or loopback(split(listener.endpoint)[0]):
            continue
        certified = listener.tls is not None and listener.tls.client_ca_file is not None
        if not asked and not certified:
            yield (
                (*section, "endpoint"),
                "other machines reach it, and nobody is asked who they are (insecure: true)",
            )
        elif listener.tls is None and not listener.insecure:
            yield (
                (*section, "endpoint"),
                "other machines reach it, and keys and telemetry travel in plain: set tls, or insecure: true where "
                "something before it speaks TLS",
            )
    for signal in SIGNALS:
        if "consent" not in getattr(config.service.pipelines, signal).processors:
            yield (
                ("service", "pipelines", signal, "processors"),
                "consent is not in the list, so nobody's denial counts there",
            )
    for exporter, settings in config.exporters.items():
        if not (config.exported(exporter) or settings.journey_events or settings.journey_traces):
            yield ("exporters", exporter), "no pipeline names it in service.pipelines, so nothing goes there"
    if config.privacy.subject == "keep":
        yield ("privacy", "subject"), IDS_IN_PLAIN
    named = {name for signal in SIGNALS for name in config.processor_configs(signal)}
    for name, field in Processors.model_fields.items():
        if getattr(config.processors, name) != field.default and name.rstrip("_") not in named:
            yield ("processors", name.rstrip("_")), "it is configured, and no pipeline names it"
    users = SubjectKeys(tuple(config.subject.from_))
    for setting in ("attributes", "environment"):
        for added in getattr(config.processors.enrich, setting):
            if users.rank(added) is not None:
                yield (
                    (*ENRICH, setting, added),
                    "it names a user: every record that names nobody becomes this user's",
                )
    pipelines = config.service.pipelines
    if config.followed_share is not None:
        for signal in ("logs", "traces"):
            if "sample" not in getattr(pipelines, signal).processors:
                yield (
                    ("service", "pipelines", signal, "processors"),
                    "sample is not in the list: of users who are sampled out this signal goes on",
                )
    for place, rule in enumerate(config.processors.filter.rules):
        word = "keep" if rule.drop is None else "drop"
        where: Path = ("processors", "filter", "rules", place, word)
        yield from _asks(where, getattr(rule, word), config)
    for exporter, settings in config.exporters.items():
        if settings.only is not None:
            yield from _asks(("exporters", exporter, "only"), settings.only, config)
    for name, journey in config.journeys.items():
        path: Path = ("journeys", name)
        conditions = [
            ((*path, "milestones", place, "match"), one.match) for place, one in enumerate(journey.milestones)
        ]
        if journey.only is not None:
            conditions.append(((*path, "only"), journey.only))
        for where, condition in conditions:
            yield from _asks(where, condition, config)
        for place, part in enumerate(journey.key[1:], 1):
            if changes(config.processors.mask, part):
                yield (
                    (*path, "key", place),
                    f"{part} will not tell journeys apart: the mask processor replaces it",
                )
        for place, segment in enumerate(journey.segments):
            if why := _changed(segment.attribute, config):
                yield (
                    (*path, "segments", place),
                    f"{segment.attribute} will not tell users apart: {why}",
                )


def _asks(where: Path, condition: object, config: Config) -> Iterator[tuple[Path, str]]:
    """About a condition on what is masked."""
    for attribute in sorted(_reads(parse(condition))):
        if why := _changed(attribute, config):
            yield where, f"it asks for {attribute}, but {why}"


def _reads(match: Match) -> frozenset[str]:
    return match.attributes() | match.resource_attributes()


def _changed(attribute: str, config: Config) -> str | None:
    """Why conditions and segments do not see the attribute as it was sent; None if they do."""
    if attribute in config.subject.from_:
        if config.privacy.subject == "keep":
            return None
        return "as a user id it becomes a token; derive what is needed with the enrich processor"
    if changes(config.processors.mask, attribute):
        return "the mask processor replaces it; derive what is needed with the enrich processor"
    return None
