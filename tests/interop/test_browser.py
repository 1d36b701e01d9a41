"""The official SDK in a page of a real browser sends across origins, where the server lets the page's origin."""

from __future__ import annotations

import shutil
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from senders import LOGS_OF_A_USER, TOOLS, assert_followed, taken
from server_process import ServerProcess

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]

PAGE = TOOLS / "browser" / "page.js"
USERS = 20


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """Origin of the page."""
    if not PAGE.exists():
        pytest.skip(".tools/interop/browser is not built: ./scripts/get-senders browser, which needs npm")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(PAGE.parent))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory, page: str) -> Iterator[ServerProcess]:
    """A server that lets this page send."""
    allowed = f'receivers.otlp.protocols.http.cors.allowed_origins=["{page}"]'
    with ServerProcess(tmp_path_factory.mktemp("open") / "data", settings=[allowed]) as running:
        yield running


def shown(url: str, profile: Path) -> str:
    """What a browser shows of a page when it has come to rest."""
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if browser is None:
        pytest.skip("there is no Chromium: apt-get install --no-install-recommends chromium")
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=30000", "--dump-dom", url]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90)
    assert "done" in done.stdout, done.stderr[-2000:]
    return done.stdout


def address(page: str, protocol: str, url: str, prefix: str) -> str:
    asked = {"protocol": protocol, "url": url, "users": str(USERS), "prefix": prefix}
    return f"{page}/index.html?{urllib.parse.urlencode(asked)}"


@pytest.mark.parametrize("protocol", ["http/json", "http/protobuf"])
def test_a_page_of_an_allowed_origin_sends(
    open_server: ServerProcess, page: str, tmp_path: Path, protocol: str
) -> None:
    prefix = f"page-{protocol.replace('/', '-')}-"
    before = taken(open_server)
    shown(address(page, protocol, open_server.http_url, prefix), tmp_path)
    open_server.wait_caught_up()
    after = taken(open_server)
    assert {name: after[name] - before[name] for name in after} == {
        "logs": LOGS_OF_A_USER * USERS,
        "traces": USERS,
        "metrics": 0,
        "rejected": 1,
        "refused": 0,
    }
    assert_followed(open_server, prefix, USERS)


def test_a_page_of_another_origin_is_kept_out_by_the_browser(
    server: ServerProcess, page: str, tmp_path: Path
) -> None:
    before = taken(server)
    said = shown(address(page, "http/json", server.http_url, "stranger-"), tmp_path)
    assert taken(server) == before
    assert said.partition("done")[2].strip()  # the SDK says that it could not
