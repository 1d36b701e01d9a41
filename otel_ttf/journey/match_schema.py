"""The match language as a JSON Schema, for editors. What it can't say, parse() does: a range upside down."""

from __future__ import annotations

from typing import Any

SPAN_KINDS = ("internal", "server", "client", "producer", "consumer")
SPAN_STATUSES = ("unset", "ok", "error")


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _any_of(*schemas: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": list(schemas)}


def _list_of(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


def _mapping(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "minProperties": 1,
    }


def _word(words: tuple[str, ...]) -> dict[str, Any]:
    word = {"enum": list(words)}
    return _any_of(word, _list_of(word), _mapping({"not": _any_of(word, _list_of(word))}))


_NUMBER_OR_OPEN = {"type": ["number", "null"]}
_FORM = _mapping(
    {
        "glob": {"type": "string", "minLength": 1, "description": "Text in which * and ? stand for any."},
        "range": {
            "type": "array",
            "items": _NUMBER_OR_OPEN,
            "minItems": 2,
            "maxItems": 2,
            "description": "Lowest and highest number, both included; null is open.",
        },
        "exists": {"type": "boolean", "description": "Whether the attribute is there at all."},
        "not": _ref("match_value") | {"description": "True where the value is not so, or is missing."},
    }
)
_SCALAR = {"type": ["string", "number", "boolean"]}
_NAME = {"type": ["string", "number"], "minLength": 1}
_ATTRIBUTES = {
    "type": "object",
    "additionalProperties": _ref("match_value"),
    "propertyNames": {"minLength": 1},
    "minProperties": 1,
}

JSON_SCHEMA: dict[str, Any] = {
    **_ref("match"),
    "$defs": {
        "match": {
            "description": "Which records are meant. A list means any of them, a mapping all of its keys.",
            **_any_of(
                _list_of(_ref("match")),
                _mapping(
                    {
                        "event": _ref("match_name")
                        | {"description": "The name of a log record, or of a span event."},
                        "span": _mapping(
                            {
                                "name": _ref("match_name"),
                                "kind": _word(SPAN_KINDS),
                                "status": _word(SPAN_STATUSES),
                            }
                        ),
                        "attributes": _ATTRIBUTES | {"description": "Attributes of the record itself."},
                        "resource": _ATTRIBUTES | {"description": "Attributes of its resource."},
                        "any": _list_of(_ref("match")),
                        "all": _list_of(_ref("match")),
                        "not": _ref("match"),
                    }
                ),
            ),
        },
        "match_name": _any_of(_NAME, _list_of(_NAME), _FORM),
        "match_value": _any_of(_SCALAR, _list_of(_SCALAR), _FORM),
    },
}
"""JSON Schema (draft 2020-12) of a match. It stands alone. Inside a larger schema, put its `$defs` (match,
match_name, match_value) among those at that schema's root, and {"$ref": "#/$defs/match"} at the field."""
