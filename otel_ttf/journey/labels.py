"""How segments look as Prometheus labels."""

from __future__ import annotations

import re

# A label keeps the values that came first; the rest is OTHER (design.md, Prometheus).
LABEL_VALUES = 20
OTHER = "other"
# Labels that our metrics have beside the segments.
TAKEN = frozenset({"journey", "stage", "level", "le"})


def label_name(attribute: str) -> str:
    """A segment's attribute as a label: `app.plan` becomes `app_plan`."""
    name = re.sub(r"[^a-zA-Z0-9_]", "_", attribute)
    return f"_{name}" if name[:1].isdigit() else name
