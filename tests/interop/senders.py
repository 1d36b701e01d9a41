"""Programs that send by the official SDKs, one folder a language; scripts/get-senders builds them.

Each takes PROTOCOL URL USERS PREFIX. For every user, PREFIX and a number, it sends

    the events user_signed_up, half an hour ago, and project_created, 4 minutes later: log records with user.id and
    plan, which is pro
    a plain log line with an e-mail address in its body
    the span POST /agents with user.id, and in it the event agent_created, 10 minutes after the first

then one more user_signed_up of a user whose id is 600 characters long, and counts one click. It ends with 0 when its
SDK says that all has been delivered, and prints on stderr what the SDK has to say.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from server_process import ServerProcess

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TOOLS = ROOT / ".tools" / "interop"
LOGS_OF_A_USER = 3


@dataclass(frozen=True, slots=True)
class Sender:
    """One language's SDK.

    needs        what has to be there
    command      how it is called, without arguments
    protocols    that it is made for
    tells        whether the SDK prints what a partial success says
    environment  beside ours
    """

    needs: Path
    command: tuple[str, ...]
    protocols: tuple[str, ...]
    tells: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> str | None:
        """Why it cannot run."""
        if self.needs.exists():
            return None
        return (
            f"{self.needs.relative_to(ROOT)} is not built: ./scripts/get-senders, which needs its toolchain"
        )

    def send(self, protocol: str, url: str, users: int, prefix: str) -> str:
        """What it printed. Raises AssertionError."""
        done = subprocess.run(
            [*self.command, protocol, url, str(users), prefix],
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=90,
        )
        if done.returncode:
            raise AssertionError(f"{self.command[0]} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout


SENDERS = {
    "go": Sender(TOOLS / "go-sender", (str(TOOLS / "go-sender"),), ("grpc", "http/protobuf"), tells=True),
    "java": Sender(
        TOOLS / "java-libs" / "classes",
        ("java", "-cp", f"{TOOLS}/java-libs/*:{TOOLS}/java-libs/classes", "Sender"),
        ("grpc", "http/protobuf"),
    ),
    "node": Sender(
        TOOLS / "node" / "node_modules",
        ("node", str(HERE / "node" / "send.cjs")),
        ("grpc", "http/protobuf", "http/json"),
        tells=True,
        environment={"NODE_PATH": str(TOOLS / "node" / "node_modules")},
    ),
    "python": Sender(
        Path(sys.executable), (sys.executable, str(HERE / "python" / "send.py")), ("grpc", "http/protobuf")
    ),
    "rust": Sender(
        TOOLS / "rust-sender", (str(TOOLS / "rust-sender"),), ("grpc", "http/protobuf", "http/json")
    ),
}


def taken(server: ServerProcess) -> dict[str, float]:
    """Records by signal, those that were rejected, and requests that were asked to come again."""
    metrics = server.metrics()
    return {
        **{one: metrics.total("telemetry_events_total", signal=one) for one in ("logs", "traces", "metrics")},
        **{why: metrics.total("telemetry_errors_total", reason=why) for why in ("rejected", "refused")},
    }


def assert_followed(server: ServerProcess, prefix: str, users: int) -> None:
    """Each user's journey is what was sent."""
    for number in range(users):
        journey = server.get(f"/api/v1/ttf/{prefix}{number}").json
        assert journey["ttf_project_minutes"] == pytest.approx(4)
        assert journey["ttf_agent_minutes"] == pytest.approx(6)
        assert (journey["state"], journey["segments"]) == ("in_progress", {"plan": "pro"})
