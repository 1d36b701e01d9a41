"""The typed configuration: what each section means. Components bring their own classes; here they meet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from otel_ttf.access.config import AuthConfig
from otel_ttf.access.tls import GrpcTlsConfig, TlsConfig
from otel_ttf.api.config import ApiConfig
from otel_ttf.config.journeys import JourneyConfig, default_journeys
from otel_ttf.config.problems import Expected, one_of
from otel_ttf.config.section import Section
from otel_ttf.exporters.table import Exporters
from otel_ttf.journey.definition import Journey
from otel_ttf.log.sqlite import LogConfig
from otel_ttf.otlp.events import TimeConfig
from otel_ttf.otlp.subject import BESIDE
from otel_ttf.otlp.wire import SIGNALS, Signal
from otel_ttf.pii.pseudonym import SubjectConfig
from otel_ttf.processors.consent import ConsentConfig
from otel_ttf.processors.enrich import EnrichConfig
from otel_ttf.processors.filter import FilterConfig
from otel_ttf.processors.mask import MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig
from otel_ttf.processors.sample import SampleConfig
from otel_ttf.processors.validate import ValidateConfig
from otel_ttf.receivers.intake import IN_FLIGHT
from otel_ttf.receivers.otlp_grpc import GrpcConfig
from otel_ttf.receivers.otlp_http import HttpConfig
from otel_ttf.units import Duration, Size, duration
from otel_ttf.vault.config import MasterKeyConfig

ProcessorName = Literal["validate", "enrich", "pseudonymise", "consent", "mask", "filter", "sample"]
# The order of the way.
PROCESSORS: tuple[ProcessorName, ...] = get_args(ProcessorName)
SQLITE = "sqlite:///"
INSECURE = "Whether other machines may reach it although nobody is asked who they are."
TLS = "How it speaks TLS; without, it speaks in plain."
HOSTS = (
    "Names by which it may be called beside localhost and addresses. Where only this machine reaches it, a request by "
    "another name is refused: it comes from a web page that is none of yours. Elsewhere any name will do unless some "
    "are given."
)


_Given = BeforeValidator(lambda data: {} if data is None else data)  # `grpc:` is on, with its defaults


class GrpcListener(GrpcConfig):
    """OTLP/gRPC, and who may reach it."""

    tls: GrpcTlsConfig | None = Field(None, description=TLS)
    insecure: bool = Field(False, description=INSECURE)


class HttpListener(HttpConfig):
    """OTLP/HTTP, and who may reach it."""

    tls: TlsConfig | None = Field(None, description=TLS)
    hosts: tuple[str, ...] = Field((), description=HOSTS)
    insecure: bool = Field(False, description=INSECURE)


class ApiListener(ApiConfig):
    """The API, and who may reach it."""

    tls: TlsConfig | None = Field(None, description=TLS)
    hosts: tuple[str, ...] = Field((), description=HOSTS)
    insecure: bool = Field(False, description=INSECURE)


class Protocols(BaseModel):
    """By which protocols OTLP comes in. One that isn't named is off, once any is named."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grpc: Annotated[GrpcListener | None, _Given] = Field(None, description="OTLP/gRPC.")
    http: Annotated[HttpListener | None, _Given] = Field(None, description="OTLP/HTTP.")


class OtlpReceiverConfig(Section):
    """The OTLP receiver."""

    protocols: Protocols = Field(
        Protocols(grpc=GrpcListener(), http=HttpListener()), description="gRPC and HTTP; both by default."
    )
    trusted_tokens: bool = Field(
        False,
        description="Whether user ids that are tokens already are taken as they are: senders of OTLP are trusted, on "
        "the API's port, too. Those that come by REST never are.",
    )
    max_in_flight: Size = Field(
        IN_FLIGHT,
        ge=1 << 20,
        description="When requests of so many bytes wait for their answer, further ones are asked to come again; "
        "those over 1 MiB have a quarter of it.",
    )


class Receivers(Section):
    """Where telemetry comes in. The API port takes OTLP/HTTP and REST, too."""

    otlp: OtlpReceiverConfig = Field(OtlpReceiverConfig(), description="OTLP/gRPC and OTLP/HTTP.")


class Processors(Section):
    """What happens to a request before it is written down."""

    validate_: ValidateConfig = Field(
        ValidateConfig(), alias="validate", description="Refuses what breaks the rules."
    )
    enrich: EnrichConfig = Field(EnrichConfig(), description="Adds attributes.")
    pseudonymise: PseudonymiseConfig = Field(PseudonymiseConfig(), description="User ids become tokens.")
    consent: ConsentConfig = Field(ConsentConfig(), description="What people have said is done.")
    mask: MaskConfig = Field(MaskConfig(), description="Personal data is replaced.")
    filter: FilterConfig = Field(FilterConfig(), description="Which records go on.")
    sample: SampleConfig = Field(SampleConfig(), description="Which share goes on.")


def _way(names: tuple[ProcessorName, ...]) -> tuple[ProcessorName, ...]:
    missing = [name for name in ("pseudonymise", "mask") if name not in names]
    if missing:
        raise Expected(f"{one_of(missing, 'and')} in the list: nothing unmasked is written", "a list without")
    if list(names) != sorted(set(names), key=PROCESSORS.index):
        raise Expected(f"each once in the order {', '.join(PROCESSORS)}", ", ".join(names))
    return names


def _some(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise Expected("at least one name")
    return names


class Pipeline(Section):
    """The way of one signal."""

    receivers: Annotated[tuple[Literal["otlp"], ...], AfterValidator(_some)] = Field(
        ("otlp",), description="Names of receivers."
    )
    processors: Annotated[tuple[ProcessorName, ...], AfterValidator(_way)] = Field(
        PROCESSORS, description="Names of processors, in the order of the way; pseudonymise and mask always."
    )
    exporters: tuple[str, ...] = Field((), description="Names of exporters, as they stand in `exporters`.")


class Pipelines(Section):
    """One way per signal; a signal that isn't named goes the default way."""

    logs: Pipeline = Field(Pipeline(), description="The way of log records and events.")
    traces: Pipeline = Field(Pipeline(), description="The way of spans and span events.")
    metrics: Pipeline = Field(Pipeline(), description="The way of data points.")


class LogsConfig(Section):
    """Our own log lines, on standard error. They hold no personal data and no request lines."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that is logged."
    )
    format: Literal["console", "json"] = Field("console", description="For eyes, or one JSON object a line.")


class TelemetryConfig(Section):
    """What the server says about itself; its metrics are at /metrics of the API."""

    logs: LogsConfig = Field(LogsConfig(), description="Our own log lines.")


class ServiceConfig(Section):
    """How the parts are put together."""

    pipelines: Pipelines = Field(Pipelines(), description="Which way each signal takes.")
    telemetry: TelemetryConfig = Field(TelemetryConfig(), description="What the server says about itself.")


def _store_url(url: str) -> str:
    scheme = url.partition(":")[0].lower()
    if scheme.startswith("postgres"):
        raise Expected(f"{SQLITE}FILE: PostgreSQL comes with a later version", "a PostgreSQL URL")
    if not url.startswith(SQLITE) or not url.removeprefix(SQLITE).strip("/"):
        raise Expected(
            f"{SQLITE}FILE, relative to the data directory, or {SQLITE}/ABSOLUTE/FILE", "another text"
        )
    return url


class RetentionConfig(Section):
    """How long things are kept."""

    events: Duration = Field(duration("30d"), description="Stored events, by the time of the event.")


class StorageConfig(Section):
    """Where journeys and events are kept."""

    url: Annotated[str, AfterValidator(_store_url)] = Field(
        f"{SQLITE}store.db", description="sqlite:///FILE, relative to the data directory."
    )
    events: Literal["named", "milestones", "all", "none"] = Field(
        "named",
        description="Which events are kept: with a name and a user, only milestones, every line, or none.",
    )
    max_size: Size = Field(
        10 << 30,
        ge=32 << 20,
        description="What store.db may take, its write-ahead log too. Beyond it the oldest events go; journeys, "
        "transitions and figures never do.",
    )
    retention: RetentionConfig = Field(RetentionConfig(), description="How long things are kept.")

    def file(self, data_dir: Path) -> Path:
        """The SQLite file."""
        return data_dir / self.url.removeprefix(SQLITE)


class KeySource(Section):
    """Where a key is: an environment variable, or a file."""

    env: str | None = Field(
        None, pattern="^[A-Za-z_][A-Za-z0-9_]*$", description="Name of an environment variable."
    )
    file: str | None = Field(None, description="Path of a file.")

    @model_validator(mode="after")
    def _exactly_one(self) -> KeySource:
        if (self.env is None) == (self.file is None):
            raise Expected("either env or file", "both" if self.env is not None else "neither")
        return self


class PrivacyConfig(Section):
    """Keys by which user ids become tokens. Whoever loses them cannot find anybody again."""

    key_file: str | None = Field(
        None,
        description="From `otel-ttf keys new`; by default made in the data directory at the first start.",
    )
    subject_keys: tuple[KeySource, ...] = Field(
        (), description="Subject keys, newest first, instead of the `subject` lines of the key file."
    )
    subject: Literal["hmac", "encrypted", "keep"] = Field(
        "hmac",
        description="`encrypted`: user ids are kept beside their pseudonyms, encrypted, for `keys reveal`. `keep`: "
        "user ids stay in telemetry as they came, in plain, and are written down so.",
    )
    master_key: MasterKeyConfig | None = Field(
        None,
        description="What the keys of encrypted values are wrapped with; by default a file in the data directory.",
    )


def _any_journey(journeys: dict[str, JourneyConfig]) -> dict[str, JourneyConfig]:
    if not journeys:
        raise Expected("at least one journey")
    return journeys


class Config(Section):
    """Everything. No configuration at all is a good one: embedded, durable, bound to 127.0.0.1."""

    receivers: Receivers = Field(Receivers(), description="Where telemetry comes in.")
    processors: Processors = Field(Processors(), description="What happens to it before it is written down.")
    exporters: Annotated[Exporters, _Given] = Field(
        default_factory=Exporters, description="Where it goes to: `type` or `type/name` each."
    )
    service: ServiceConfig = Field(ServiceConfig(), description="How the parts are put together.")
    api: ApiListener = Field(ApiListener(), description="REST, figures, metrics, health.")
    auth: AuthConfig = Field(AuthConfig(), description="Who may send and ask.")
    journeys: Annotated[dict[str, JourneyConfig], AfterValidator(_any_journey)] = Field(
        default_factory=default_journeys,
        description="Who travels through which milestones; given ones take the place of the default one.",
    )
    subject: SubjectConfig = Field(SubjectConfig(), description="Which attributes name the user.")
    time: TimeConfig = Field(TimeConfig(), description="Which times are believed.")
    storage: StorageConfig = Field(StorageConfig(), description="Where journeys and events are kept.")
    log: LogConfig = Field(LogConfig(), description="The event log between receivers and tracker.")
    privacy: PrivacyConfig = Field(PrivacyConfig(), description="Keys for pseudonyms.")

    @property
    def masked_subject(self) -> tuple[str, ...]:
        """Attributes of masked records that may hold the subject's token, in order."""
        return (BESIDE,) if self.privacy.subject == "keep" else tuple(self.subject.from_)

    @property
    def followed_share(self) -> float | None:
        """The share of users that is followed; None: all."""
        pipelines = self.service.pipelines
        named = any("sample" in one.processors for one in (pipelines.logs, pipelines.traces))
        return self.processors.sample.subjects if named else None

    def domain_journeys(self) -> tuple[Journey, ...]:
        """The journeys as the domain knows them."""
        return tuple(journey.journey(name) for name, journey in self.journeys.items())

    def exported(self, exporter: str) -> tuple[Signal, ...]:
        """The signals of an exporter: those whose pipelines name it."""
        pipelines = self.service.pipelines
        return tuple(signal for signal in SIGNALS if exporter in getattr(pipelines, signal).exporters)

    def processor_configs(self, signal: Signal) -> dict[str, BaseModel]:
        """The processors of a signal's pipeline by name, in order."""
        pipeline: Pipeline = getattr(self.service.pipelines, signal)
        known: dict[str, BaseModel] = {
            "validate": self.processors.validate_,
            "enrich": self.processors.enrich,
            "pseudonymise": self.processors.pseudonymise,
            "consent": self.processors.consent,
            "mask": self.processors.mask,
            "filter": self.processors.filter,
            "sample": self.processors.sample,
        }
        return {name: known[name] for name in pipeline.processors}
