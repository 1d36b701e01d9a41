"""The client in processes of its own: what it imports, how it ends, and forks."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path

import pytest
import requests
from answering import Answering, FakeServer
from server_process import ROOT, free_ports, wait_for

SERVER = (
    "click cryptography fastapi google grpc httptools httpx2 hyperscan numpy prometheus_client pydantic re2 rich"
    " starlette structlog tenacity uvicorn uvloop yaml zstandard"
)
LATER = "asyncio opentelemetry requests ssl urllib3"

BEGIN = """
import os, sys, threading, time
from otel_ttf.client import TelemetryClient
client = TelemetryClient(api_url=os.environ["FAKE"], exit_timeout=float(os.environ.get("EXIT_TIMEOUT", 30)))
"""


def run(code: str, url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(code)],
        cwd=ROOT,
        env=os.environ | {"FAKE": url} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )


def names(fake: FakeServer) -> Counter[str]:
    return Counter(record.event_name for record in fake.records)


def test_the_import_brings_nothing_of_the_server_and_the_sdk_later() -> None:
    code = "import sys, otel_ttf.client; print(*(name.partition('.')[0] for name in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(loaded) & {*SERVER.split(), *LATER.split()} == set()


def test_tracking_imports_nothing_of_the_server_either(fake: FakeServer) -> None:
    code = """
        client.track_event("e")
        assert client.flush_events()
        modules = {name for name in sys.modules if name.startswith("otel_ttf.")}
        print(*(name.partition(".")[0] for name in sys.modules), *modules)
    """
    loaded = set(run(code, fake.url).stdout.split())
    assert loaded & {*SERVER.split()} - {"google"} == set()
    assert {
        name for name in loaded if name.startswith("otel_ttf.") and not name.startswith("otel_ttf.client")
    } == set()


@pytest.mark.parametrize("seconds", [0, 0.05, 0.2, 1])
def test_what_is_tracked_last_is_sent_however_soon_the_process_ends(fake: FakeServer, seconds: float) -> None:
    run(f'client.track_event("last"); time.sleep({seconds})', fake.url)
    assert names(fake) == {"last": 1}


def test_what_is_tracked_while_the_process_ends_is_sent(fake: FakeServer) -> None:
    code = """
        import atexit
        atexit.register(client.track_event, "at exit")
        class Late:
            def __del__(self): client.track_event("in del")
        late = [Late()]
        del late
    """
    run(code, fake.url)
    assert names(fake) == {"at exit": 1, "in del": 1}


def test_a_dead_server_and_one_that_does_not_answer_do_not_keep_a_process(fake: FakeServer) -> None:
    dead = f"http://127.0.0.1:{free_ports(1)[0]}"
    never = threading.Event()
    fake.always = Answering(hold=never)
    for url in (dead, fake.url):
        said = run('client.track_event("e")', url, EXIT_TIMEOUT="1").stderr
        assert "1 events are lost: they could not be sent within 1 s at the end" in said
        assert "Traceback" not in said
    never.set()


def test_a_fork_sends_its_own_events_and_not_its_parent_s(fake: FakeServer) -> None:
    code = """
        for number in range(20):
            client.track_event("parent")
        if not (child := os.fork()):
            client.track_event("child")
            if not (grandchild := os.fork()):
                client.track_event("grandchild")
                sys.exit()
            os.waitpid(grandchild, 0)
            sys.exit()
        os.waitpid(child, 0)
        client.track_event("parent")
    """
    run(code, fake.url)
    assert names(fake) == {"parent": 21, "child": 1, "grandchild": 1}


def test_forks_at_any_moment_of_the_sender_s_imports_can_send(fake: FakeServer) -> None:
    code = """
        client.track_event("parent")
        children = []
        for number in range(12):
            time.sleep(0.02)
            if not (child := os.fork()):
                client.track_event("child")
                assert client.flush_events(20)
                sys.exit()
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 12
    """
    run(code, fake.url)
    assert names(fake) == {"parent": 1, "child": 12}


def test_a_fork_while_others_track_does_not_lock(fake: FakeServer) -> None:
    code = """
        stop = False
        def track():
            while not stop:
                client.track_event("parent")
                time.sleep(0.0001)
        threads = [threading.Thread(target=track) for _ in range(4)]
        [thread.start() for thread in threads]
        for number in range(20):
            if not (child := os.fork()):
                client.track_event("child")
                client.close(10)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        stop = True
        [thread.join() for thread in threads]
    """
    run(code, fake.url)
    assert names(fake)["child"] == 20


@pytest.mark.parametrize("module", ["multiprocessing", "billiard"])  # the latter is Celery's
def test_children_that_end_without_python_s_end_send_before(fake: FakeServer, module: str) -> None:
    code = f"""
        import {module} as multiprocessing
        def work(): client.track_event("child")
        client.track_event("parent")
        children = [multiprocessing.get_context("fork").Process(target=work) for _ in range(3)]
        [child.start() for child in children]
        [child.join() for child in children]
    """
    run(code, fake.url)
    assert names(fake) == {"parent": 1, "child": 3}


def test_a_signal_s_handler_may_track_in_the_midst_of_tracking(fake: FakeServer) -> None:
    code = """
        import signal
        signal.signal(signal.SIGALRM, lambda *_: client.track_event("handler"))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for number in range(20_000):
            client.track_event("main")
            if number % 1000 == 0:
                client.flush_events()
        signal.setitimer(signal.ITIMER_REAL, 0)
        client.flush_events()
        counts = client.counts
        assert counts.dropped == counts.wrong == 0, counts
    """
    run(code, fake.url)
    found = names(fake)
    assert found["main"] == 20_000
    assert found["handler"] > 10


def test_many_threads_lose_nothing(fake: FakeServer) -> None:
    code = """
        def work(number):
            for _ in range(500): client.track_event(f"thread {number}")
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    """
    run(code, fake.url)
    assert names(fake) == {f"thread {number}": 500 for number in range(8)}


APPLICATION = """
import os
from otel_ttf.client import TelemetryClient

client = TelemetryClient(api_url=os.environ["FAKE"], exit_timeout=20)
client.track_event("loaded")

def app(environ, start_response):
    client.track_event("request", properties={"pid": os.getpid()})
    start_response("200 OK", [("Content-Length", "0"), ("Connection", "close")])
    return [b""]
"""


@pytest.mark.parametrize("preload", [True, False])
@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_workers_of_gunicorn_send_also_those_forked_from_a_loaded_application(
    fake: FakeServer, tmp_path: Path, kind: str, preload: bool
) -> None:
    if kind == "gevent":
        pytest.importorskip("gevent")
    (tmp_path / "shop.py").write_text(APPLICATION)
    (port,) = free_ports(1)
    arguments = f"--workers 2 --worker-class {kind} --graceful-timeout 3 --bind 127.0.0.1:{port}"
    output = tmp_path / "out"
    with output.open("wb") as file:
        gunicorn = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gunicorn",
                *["--preload"] * preload,
                *arguments.split(),
                "--pythonpath",
                str(tmp_path),
                "shop:app",
            ],
            cwd=ROOT,
            env=os.environ | {"FAKE": fake.url},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        wait_for(lambda: output.read_text().count("Booting worker") == 2, "gunicorn", 20)
        for _ in range(30):
            assert requests.get(f"http://127.0.0.1:{port}/", timeout=20).status_code == 200
        if kind == "gevent":
            # One of its workers that is told to end right after its start sleeps on, whatever the application is.
            wait_for(lambda: names(fake)["request"] == 30, "all events", 20)
        gunicorn.terminate()
        assert gunicorn.wait(20) == 0
    finally:
        if gunicorn.poll() is None:
            gunicorn.kill()
            gunicorn.wait()
    assert names(fake) == {"loaded": 1 if preload else 2, "request": 30}
