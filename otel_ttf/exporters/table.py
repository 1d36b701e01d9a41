"""All types of exporters by name, and the section `exporters` of the configuration: `type` or `type/name` each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, core_schema

from otel_ttf.exporters.config import ExporterConfig
from otel_ttf.exporters.otlp_grpc import OtlpGrpcConfig
from otel_ttf.exporters.otlp_http import OtlpHttpConfig

GROUP = "otel_ttf.exporters"
EXPORTERS: Mapping[str, type[ExporterConfig]] = {
    "otlp_grpc": OtlpGrpcConfig,
    "otlp_http": OtlpHttpConfig,
    # As the Collector called them before.
    "otlp": OtlpGrpcConfig,
    "otlphttp": OtlpHttpConfig,
}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:/[^\s/:]+)?")  # NAME:SIGNAL is who reads the log


@cache
def types() -> Mapping[str, type[ExporterConfig]]:
    """Type -> its configuration: ours, and those of packages that are installed beside."""
    found: dict[str, type[ExporterConfig]] = {}
    for point in entry_points(group=GROUP):
        with suppress(ImportError, AttributeError):  # a package that is broken brings no type
            found[point.name] = point.load()
    return {**found, **EXPORTERS}


def type_of(name: str) -> str:
    """`otlp_grpc` of `otlp_grpc/backend`."""
    return name.partition("/")[0]


class Exporters(dict[str, ExporterConfig]):
    """Exporters by name, each with the configuration of its type."""

    @classmethod
    def by_name(cls) -> Mapping[str, type[ExporterConfig]]:
        """What may stand in the section, by type; translate.py asks."""
        return types()

    @classmethod
    def read(cls, data: object) -> Self:
        """Raises ValidationError with all that is wrong, at its place."""
        if isinstance(data, cls):
            return data
        wrong: list[InitErrorDetails] = []
        made = cls()
        if not isinstance(data, Mapping):
            raise ValidationError.from_exception_data("exporters", [{"type": "dict_type", "input": data}])
        for name, given in data.items():
            known = types().get(type_of(name)) if NAME.fullmatch(str(name)) else None
            if known is None:
                wrong.append({"type": "extra_forbidden", "loc": (name,), "input": given})
                continue
            try:
                made[name] = known.model_validate({} if given is None else given)
            except ValidationError as error:
                wrong += [_placed(name, each) for each in error.errors(include_url=False)]
        if wrong:
            raise ValidationError.from_exception_data("exporters", wrong)
        return made

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.read,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda made: {name: config.model_dump() for name, config in made.items()}
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        kinds = {
            rf"^{name}(/[^\s/:]+)?$": handler(config.__pydantic_core_schema__)
            for name, config in EXPORTERS.items()
        }
        return {"type": ["object", "null"], "patternProperties": kinds, "additionalProperties": True}


def _placed(name: str, error: Any) -> InitErrorDetails:
    placed: InitErrorDetails = {"type": error["type"], "loc": (name, *error["loc"]), "input": error["input"]}
    if "ctx" in error:
        placed["ctx"] = error["ctx"]
    return placed
