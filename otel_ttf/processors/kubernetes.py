"""Attributes of the pod that this server runs in, by Kubernetes' downward API: environment variables and files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

# Attribute of the semantic conventions: variables that a pod's definition commonly puts it in; the first that is set.
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "k8s.pod.name": ("K8S_POD_NAME", "POD_NAME"),
    "k8s.pod.uid": ("K8S_POD_UID", "POD_UID"),
    "k8s.namespace.name": ("K8S_NAMESPACE_NAME", "K8S_NAMESPACE", "POD_NAMESPACE"),
    "k8s.node.name": ("K8S_NODE_NAME", "NODE_NAME"),
    "k8s.container.name": ("K8S_CONTAINER_NAME",),
    "k8s.deployment.name": ("K8S_DEPLOYMENT_NAME",),
    "k8s.cluster.name": ("K8S_CLUSTER_NAME",),
}
# Attribute: file of the volume.
FILES = {"k8s.pod.name": "name", "k8s.pod.uid": "uid", "k8s.namespace.name": "namespace"}
# File of the volume with a key="value" in each line: what stands before the key in an attribute's name.
LISTS = {"labels": "k8s.pod.label.", "annotations": "k8s.pod.annotation."}
MAX_BYTES = 1 << 20


class KubernetesConfig(BaseModel):
    """The pod that this server runs in: for a sidecar, whose pod is that of the application. Read at the start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(
        "/etc/podinfo",
        description="Where a volume of the downward API is mounted; without one it adds nothing.",
    )
    annotations: bool = Field(
        False, description="Whether annotations of the pod are added, too; labels always are."
    )


def attributes(config: KubernetesConfig, environment: Mapping[str, str]) -> dict[str, str]:
    """What variables and files tell. A file that is not there, or can't be read, tells nothing."""
    found = {
        attribute: next((environment[name] for name in names if environment.get(name)), "")
        for attribute, names in VARIABLES.items()
    }
    folder = Path(config.path)
    for attribute, name in FILES.items():
        found[attribute] = found[attribute] or _text(folder / name).strip()
    for name, before in LISTS.items():
        if name == "labels" or config.annotations:
            found |= {before + key: value for key, value in entries(_text(folder / name))}
    return {attribute: value for attribute, value in found.items() if value}


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode(errors="replace")
    except OSError:
        return ""


def entries(text: str) -> Iterator[tuple[str, str]]:
    """Lines key="value", escaped as Go quotes; other lines are passed over."""
    for line in text.splitlines():
        key, equals, quoted = line.partition("=")
        if key and equals:
            try:
                value = json.loads(quoted)  # Go's escapes that JSON lacks (\\x, \\U) are for what is no text
            except ValueError:
                continue
            if isinstance(value, str):
                yield key, value
