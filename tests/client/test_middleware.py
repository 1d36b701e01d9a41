"""Who is the current user of a request: in Starlette, FastAPI, Flask and Django as they are."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any
from wsgiref.util import FileWrapper

import flask
import httpx2
import pytest
from answering import FakeServer
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from otel_ttf.client import TelemetryClient, asgi, bind_user, wsgi
from otel_ttf.client.user import current_user

ClientOf = Callable[..., TelemetryClient]


@pytest.fixture
def client(fake: FakeServer, client_of: ClientOf) -> TelemetryClient:
    return client_of(fake.url)


def users(client: TelemetryClient, fake: FakeServer) -> dict[str, str | None]:
    """Event name -> its user."""
    assert client.flush_events()
    return {
        record.event_name: next((a.value.string_value for a in record.attributes if a.key == "user.id"), None)
        for record in fake.records
    }


class ByHeader(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        name = conn.headers.get("x-test-user")
        return None if name is None else (AuthCredentials(), SimpleUser(name))


def starlette_user(scope: Any) -> str | None:
    user = scope["user"]
    return user.display_name if user.is_authenticated else None


def test_starlette_s_authenticated_user_in_views_streams_and_websockets(
    client: TelemetryClient, fake: FakeServer
) -> None:
    async def view(request: Request) -> PlainTextResponse:
        client.track_event("in a view")
        return PlainTextResponse("")

    def in_a_thread(request: Request) -> PlainTextResponse:
        client.track_event("in a thread")
        return PlainTextResponse("")

    async def stream(request: Request) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            client.track_event("in a stream")
            yield b""

        return StreamingResponse(parts())

    async def socket(socket: WebSocket) -> None:
        await socket.accept()
        client.track_event("in a websocket")
        await socket.close()

    app = Starlette(
        routes=[
            Route("/", view),
            Route("/thread", in_a_thread),
            Route("/stream", stream),
            WebSocketRoute("/ws", socket),
        ],
        middleware=[
            Middleware(asgi.UserMiddleware, user_of=starlette_user),
            Middleware(AuthenticationMiddleware, backend=ByHeader()),
        ],
    )
    with TestClient(app, headers={"x-test-user": "ada"}) as http:
        for path in ("/", "/thread", "/stream"):
            assert http.get(path).status_code == 200
        with http.websocket_connect("/ws"):
            pass
    client.track_event("outside")
    assert users(client, fake) == {
        "in a view": "ada",
        "in a thread": "ada",
        "in a stream": "ada",
        "in a websocket": "ada",
        "outside": None,
    }


async def test_requests_at_the_same_time_have_each_its_own_user() -> None:
    seen: list[tuple[str, Any]] = []

    async def view(request: Request) -> PlainTextResponse:
        bind_user(request.query_params["user"])
        await asyncio.sleep(0.01)
        seen.append((request.query_params["user"], current_user()))
        return PlainTextResponse("")

    app = asgi.UserMiddleware(Starlette(routes=[Route("/", view)]))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test") as http:
        await asyncio.gather(*(http.get(f"/?user=user-{number}") for number in range(50)))
    assert len(seen) == 50
    assert all(asked == found for asked, found in seen)


@pytest.mark.parametrize("kind", ["async", "in a thread"])
def test_a_dependency_of_fastapi_binds_the_user_for_the_whole_request(
    client: TelemetryClient, fake: FakeServer, kind: str
) -> None:
    async def of_loop() -> None:
        bind_user("ada")

    def of_thread() -> None:
        bind_user("ada")

    app = FastAPI(dependencies=[Depends(of_loop if kind == "async" else of_thread)])
    app.add_middleware(asgi.UserMiddleware)

    @app.get("/")
    async def view() -> None:
        client.track_event("in the loop")

    @app.get("/thread")
    def in_a_thread() -> None:
        client.track_event("in a thread")

    with TestClient(app) as http:
        assert http.get("/").status_code == http.get("/thread").status_code == 200
    assert users(client, fake) == {"in the loop": "ada", "in a thread": "ada"}


def test_a_function_that_fails_costs_the_user_and_not_the_request(
    client: TelemetryClient, fake: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def view(request: Request) -> PlainTextResponse:
        client.track_event("e")
        return PlainTextResponse("")

    app = Starlette(
        routes=[Route("/", view)],
        middleware=[Middleware(asgi.UserMiddleware, user_of=lambda scope: scope["user"])],
    )
    assert TestClient(app).get("/").status_code == 200
    assert users(client, fake) == {"e": None}
    assert [
        r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and r.name == "otel_ttf.client"
    ] == ["the current user cannot be told: KeyError in user_of (said once)"]


def test_flask_s_session_and_what_is_bound_in_views_and_streams(
    client: TelemetryClient, fake: FakeServer
) -> None:
    app = flask.Flask("shop")
    app.secret_key = "k"
    app.wsgi_app = wsgi.UserMiddleware(app.wsgi_app, lambda environ: flask.session.get("user"))  # type: ignore[method-assign]

    @app.get("/login")
    def login() -> str:
        client.track_event("before")
        flask.session["user"] = "ada"
        client.track_event("logged in")
        return ""

    @app.get("/view")
    def view() -> str:
        client.track_event("in a view")
        return ""

    @app.get("/stream")
    def stream() -> Any:
        bind_user("grace")

        def parts() -> Iterator[str]:
            client.track_event("in a stream")
            yield "x"

        return parts()

    http = app.test_client()
    assert [http.get(path).status_code for path in ("/login", "/view", "/stream")] == [200] * 3
    assert current_user() is None
    assert users(client, fake) == {
        "before": None,
        "logged in": "ada",
        "in a view": "ada",
        "in a stream": "grace",
    }


def test_a_file_is_left_to_the_wsgi_server_which_has_the_kernel_send_it() -> None:
    file = FileWrapper(io.BytesIO(b"a picture"))
    for environ, same in (({"wsgi.file_wrapper": FileWrapper}, True), ({}, False)):
        answer = wsgi.UserMiddleware(lambda *_: file)(environ, print)
        assert (answer is file) is same
        assert same or b"".join(answer) == b"a picture"


def test_threads_of_a_wsgi_server_forget_the_user_of_the_last_request() -> None:
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(current_user())
        bind_user(environ["user"])
        return []

    within = wsgi.UserMiddleware(app)
    with ThreadPoolExecutor(1) as thread:
        for number in range(3):
            thread.submit(within, {"user": f"user-{number}"}, None).result()
        seen.append(thread.submit(current_user).result())
    assert seen == [None] * 4


@pytest.fixture(scope="module")
def django_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A project of one file, with Django's own users and sessions."""
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    module = ModuleType("shop_of_django")
    sys.modules[module.__name__] = module
    settings.configure(
        SECRET_KEY="k" * 50,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=module.__name__,
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": tmp_path_factory.mktemp("django") / "db",
            }
        },
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "otel_ttf.client.django.UserMiddleware",
        ],
    )
    django.setup()
    call_command("migrate", verbosity=0)
    yield module
    connections.close_all()
    del sys.modules[module.__name__]


def test_django_s_user_in_views_of_both_kinds(
    django_app: Any, client: TelemetryClient, fake: FakeServer
) -> None:
    from django.contrib.auth.models import User
    from django.http import HttpResponse
    from django.test import AsyncClient, Client
    from django.urls import path

    def view(request: Any) -> Any:
        client.track_event(request.GET["event"])
        return HttpResponse()

    async def aview(request: Any) -> Any:
        client.track_event(request.GET["event"])
        return HttpResponse()

    django_app.urlpatterns = [path("view", view), path("aview", aview)]
    user = User.objects.create_user("ada")
    known = Client()
    known.force_login(user)
    for place in ("/view", "/aview"):
        assert known.get(place, {"event": f"wsgi {place}"}).status_code == 200
        assert Client().get(place, {"event": f"nobody {place}"}).status_code == 200

    async def ask() -> None:
        http = AsyncClient()
        await http.aforce_login(user)
        for place in ("/view", "/aview"):
            assert (await http.get(place, {"event": f"asgi {place}"})).status_code == 200

    asyncio.run(ask())
    ada = str(user.pk)
    assert users(client, fake) == {
        "wsgi /view": ada,
        "wsgi /aview": ada,
        "nobody /view": None,
        "nobody /aview": None,
        "asgi /view": ada,
        "asgi /aview": ada,
    }
