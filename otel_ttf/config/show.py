"""The configuration that results, as YAML; and the JSON schema of configuration files."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Collection, Mapping
from datetime import date
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr

from otel_ttf import units
from otel_ttf.config.load import Loaded
from otel_ttf.config.model import Config
from otel_ttf.config.problems import Path
from otel_ttf.config.sources import SCALARS, Tree
from otel_ttf.journey.match import JSON_SCHEMA
from otel_ttf.otlp.conditions import MATCH

REDACTED = "[redacted]"
_SECRET_NAME = re.compile(r"password|passwd|secret|token$|api_?key$|credential|authorization", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")


class _Dumper(yaml.SafeDumper):
    """Quotes what our reader would take for a number, too: YAML 1.1 and 1.2 differ."""


for _tag, _pattern, _first in SCALARS:
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def as_yaml(loaded: Loaded) -> str:
    """All settings, defaults included; a configuration file that means the same.

    Secrets are redacted; a value that the environment supplied is shown as its reference.
    """
    data = _shown(loaded.config, Config, (), (), loaded.tree)
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _shown(value: object, annotation: Any, metadata: typing.Sequence[Any], path: Path, tree: Tree) -> object:
    if given := tree.nearest(path).reference:
        return given
    match value:
        case BaseModel():
            shown: dict[str, object] = {}
            for name, field in type(value).model_fields.items():
                entry = getattr(value, name)
                if entry is not None:
                    key = field.alias or name
                    shown[key] = _shown(entry, field.annotation, field.metadata, (*path, key), tree)
            return shown
        case Mapping():
            return {
                key: _shown(entry, annotation, metadata, (*path, key), tree) for key, entry in value.items()
            }
        case list() | tuple():
            return [
                _shown(item, annotation, metadata, (*path, place), tree) for place, item in enumerate(value)
            ]
        case SecretStr():
            return REDACTED
        case str():
            hidden = isinstance(path[-1], str) and _SECRET_NAME.search(path[-1])
            return REDACTED if hidden else _USER_INFO.sub(f"{REDACTED}@", value).replace("${", "$${")
        case bool() | None:
            return value
        case int():
            return _number(value, units.readers(annotation, metadata))
        case date():
            return value.isoformat()
        case other:
            return other


def _number(value: int, readers: Collection[object]) -> object:
    if units.duration in readers:
        return units.duration_text(value)
    if units.size in readers:
        for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if value and value % size == 0:
                return f"{value // size}{unit}"
    return value


def schema() -> dict[str, Any]:
    """The JSON schema (2020-12) of a configuration file.

    Beyond pydantic's: a section may be empty, and a number or a word may be a `${env:...}` reference.
    """
    made = _lenient(Config.model_json_schema())
    made["$defs"] |= JSON_SCHEMA["$defs"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "otel_ttf configuration",
        **{key: value for key, value in made.items() if key != "title"},
    }


def schema_text() -> str:
    """The schema as it is committed in docs/config.schema.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


_ENV = {"type": "string", "pattern": r"\$\{env:"}
_INHERENT = ("description", "title", "default", "examples")


def _lenient(node: Any) -> Any:
    if isinstance(node, list):
        return [_lenient(item) for item in node]
    if not isinstance(node, dict):
        return node
    # What stands under `default`, `const`, `enum` or `examples` is data, not schema.
    data = ("default", "const", "enum", "examples", "required")
    out = {key: value if key in data else _lenient(value) for key, value in node.items()}
    if out.get("format") == MATCH:
        return {**{key: out[key] for key in _INHERENT if key in out}, "$ref": JSON_SCHEMA["$ref"]}
    kind = out.get("type")
    if kind in ("integer", "number", "boolean") or (kind == "string" and ("enum" in out or "const" in out)):
        rest = {key: out.pop(key) for key in _INHERENT if key in out}
        return {**rest, "anyOf": [out, _ENV]}
    if kind == "object" and "properties" in out:
        out["type"] = ["object", "null"]
    return out
