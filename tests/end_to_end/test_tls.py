"""TLS on every door: who gets a connection, and certificates that change while the server runs."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from certs import Authority, Pair, serial_of
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as ByGrpc
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as ByHttp
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from server_process import ROOT, ServerProcess, wait_for
from test_access import EVENT, EXPORT, OWN, PROTOBUF, one

DOORS = ("receivers.otlp.protocols.grpc", "receivers.otlp.protocols.http", "api")
CA = Authority()


class Secured:
    """A server that speaks TLS on all its doors, each with files of its own."""

    def __init__(self, folder: Path, *, clients: Authority | None = None) -> None:
        self.folder = folder
        self.clients = folder / "clients.pem"
        self.pair = CA.sign("the server")
        self.put(self.pair)
        cert, key = str(folder / "server.crt"), str(folder / "server.key")
        settings = {"cert_file": cert, "key_file": key, "reload_interval": "1s"}
        if clients is not None:
            self.clients.write_bytes(clients.pem)
            settings["client_ca_file"] = str(self.clients)
        self.server = ServerProcess(
            folder / "data",
            settings=[f"{door}.tls.{name}={value}" for door in DOORS for name, value in settings.items()],
        )
        own = clients.sign("a client") if clients is not None else None
        self.own = own
        self.server.tls = CA.trusting(folder, own)

    def put(self, pair: Pair) -> None:
        pair.put(self.folder, "server")

    def ports(self) -> tuple[int, int, int]:
        return self.server.grpc_port, self.server.http_port, self.server.api_port

    def serials(self) -> set[int]:
        assert self.server.tls is not None
        return {serial_of(self.server.tls, port) for port in self.ports()}

    def channel(self, ca: Authority = CA, own: Pair | None = None) -> grpc.Channel:
        own = own or self.own
        shown = (own.key, own.cert) if own is not None else (None, None)
        return grpc.secure_channel(
            f"localhost:{self.server.grpc_port}",
            grpc.ssl_channel_credentials(ca.pem, *shown),
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)],
        )

    def call(self, ca: Authority = CA, own: Pair | None = None) -> bytes | grpc.StatusCode:
        with self.channel(ca, own) as channel:
            try:
                return bytes(channel.unary_unary(EXPORT)(one(), timeout=10))
            except grpc.RpcError as error:
                return error.code()

    def metric(self, name: str) -> float:
        body = self.server.get("/metrics").body.decode()
        (value,) = re.findall(rf"^{re.escape(name)} (\S+)$", body, re.MULTILINE)
        return float(value)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    running = Secured(tmp_path_factory.mktemp("tls"))
    with running.server:
        yield running


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Only who shows a certificate of this authority comes in."""
    running = Secured(tmp_path_factory.mktemp("mtls"), clients=CLIENTS)
    with running.server:
        yield running


CLIENTS = Authority("of clients")


def test_all_doors_speak_tls(secured):
    server = secured.server
    assert secured.call() == b""
    answer = server.request(
        "POST", "/v1/logs", one(), headers={"content-type": PROTOBUF}, port=server.http_port
    )
    assert answer.status == 200
    assert server.post_json("/api/v1/events", EVENT).status == 200
    assert server.get("/api/v1/ttf").status == 200
    assert f"https://127.0.0.1:{server.api_port}/api/v1" in server.printed()
    ends = secured.metric('otel_ttf_tls_certificate_end_seconds{listener="grpc"}')
    assert abs(ends - time.time() - 5 * 86400) < 3600


def test_large_bodies_and_answers_come_through_whole(secured):
    server = secured.server
    events = {"events": [EVENT["events"][0] | {"properties": {"text": "a b " * 100}} for _ in range(5000)]}
    assert server.post_json("/api/v1/events", events).json["accepted"] == 5000
    assert len(server.get("/docs/swagger-ui-bundle.js").body) > 1_000_000


def test_who_speaks_no_tls_hears_nothing(secured):
    for port in secured.ports():
        with socket.create_connection(("127.0.0.1", port), 10) as peer:
            peer.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert b"HTTP/1.1" not in peer.recv(1000)
    with grpc.insecure_channel(secured.server.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(EXPORT)(one(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_client_that_trusts_another_goes_away(secured):
    other = Authority("another")
    context = other.trusting(secured.folder)
    for port in secured.ports():
        with pytest.raises(ssl.SSLCertVerificationError):
            serial_of(context, port)
    assert secured.call(other) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_are_not_spoken(secured, version):
    context = CA.trusting(secured.folder)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    for port in secured.ports():
        with pytest.raises((ssl.SSLError, ConnectionError)):
            serial_of(context, port)


def test_only_new_versions_where_that_is_set(tmp_path):
    running = Secured(tmp_path)
    running.server.settings = (*running.server.settings, "api.tls.min_version='1.3'")
    with running.server:
        context = CA.trusting(tmp_path)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            serial_of(context, running.server.api_port)
        serial_of(context, running.server.http_port)
        assert running.server.get("/health").status == 200


@contextlib.contextmanager
def kept(secured: Secured) -> Iterator[http.client.HTTPSConnection]:
    """A connection to the API that stays open."""
    connection = http.client.HTTPSConnection(
        "127.0.0.1", secured.server.api_port, timeout=10, context=secured.server.tls
    )
    with contextlib.closing(connection):
        connection.connect()
        yield connection


def asked(connection: http.client.HTTPSConnection) -> int:
    connection.request("GET", "/health")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_a_changed_certificate_is_shown_to_new_connections_and_harms_no_open_one(secured):
    before = secured.pair
    assert secured.serials() == {before.serial}
    with kept(secured) as connection, secured.channel() as channel:
        call = channel.unary_unary(EXPORT)
        socket_of = connection.sock
        assert asked(connection) == 200
        assert call(one(), timeout=10) == b""
        secured.pair = CA.sign("the server, anew")
        secured.put(secured.pair)
        wait_for(lambda: secured.serials() == {secured.pair.serial}, "the new certificate", 20, 0.2)
        assert asked(connection) == 200
        assert connection.sock is socket_of
        assert call(one(), timeout=10) == b""
    assert secured.call() == b""


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        pytest.param(
            lambda good, _: Pair(CA.sign().cert, good.key, 0), "expected the key of", id="another's key"
        ),
        pytest.param(
            lambda good, _: Pair(b"no PEM", good.key, 0), "expected a certificate in PEM", id="no PEM"
        ),
        pytest.param(
            lambda good, _: Pair(good.cert, good.key[:90], 0), "expected a key in PEM", id="half a key"
        ),
        pytest.param(
            lambda _g, ca: ca.sign(days=-1), "the certificate has ended at", id="one that has ended"
        ),
        pytest.param(
            lambda _g, ca: ca.sign(password=b"zq-pw"), "expected a key without a password", id="locked"
        ),
    ],
)
def test_a_pair_that_cannot_be_used_leaves_the_old_one_and_is_said_once(secured, harm, said):
    names = [
        f'otel_ttf_files_last_reload_successful{{what="{door}_tls"}}' for door in ("grpc", "http", "api")
    ]
    before = len(secured.server.printed())
    secured.put(harm(secured.pair, CA))
    wait_for(lambda: {secured.metric(name) for name in names} == {0.0}, "the metric", 20, 0.2)
    assert secured.serials() == {secured.pair.serial}
    assert secured.call() == b""
    time.sleep(2.5)
    told = [line for line in secured.server.printed()[before:].splitlines() if "cannot be used" in line]
    assert len(told) == 3
    assert all(said in line for line in told)
    secured.put(secured.pair)
    wait_for(lambda: {secured.metric(name) for name in names} == {1.0}, "the metric", 20, 0.2)


def test_a_pair_that_is_written_in_two_steps_is_no_error(secured):
    before = len(secured.server.printed())
    new = CA.sign("in two steps")
    (secured.folder / "server.crt").write_bytes(new.cert)
    time.sleep(1.2)
    (secured.folder / "server.key").write_bytes(new.key)
    secured.pair = new
    wait_for(lambda: secured.serials() == {new.serial}, "the new certificate", 20, 0.2)
    assert secured.server.printed()[before:].count("cannot be used") <= 3


def refusals(secured: Secured) -> tuple[float, ...]:
    names = (f'otel_ttf_tls_handshakes_failed_total{{listener="{door}"}}' for door in ("http", "api"))
    return tuple(map(secured.metric, names))


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


def stranger(secured: Secured, own: Pair | None) -> None:
    """Raises: somebody is not let in."""
    context = CA.trusting(secured.folder, own)
    for port in (secured.server.http_port, secured.server.api_port):
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
        with (
            contextlib.closing(connection),
            pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)),
        ):
            asked(connection)  # with TLS 1.3 a client hears of it with its first answer
    with (
        grpc.secure_channel(
            f"localhost:{secured.server.grpc_port}",
            grpc.ssl_channel_credentials(CA.pem, *((own.key, own.cert) if own else ())),
            options=[("grpc.use_local_subchannel_pool", 1)],
        ) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary(EXPORT)(one(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "own",
    [
        pytest.param(lambda: None, id="no certificate"),
        pytest.param(lambda: Authority("of clients").sign(), id="one of another authority of that name"),
        pytest.param(lambda: CA.sign(), id="one of the server's authority"),
        pytest.param(lambda: CLIENTS.sign(days=-1), id="one that has ended"),
    ],
)
def test_without_a_good_certificate_nobody_comes_in_where_one_is_asked_for(mutual, own):
    before = refusals(mutual)
    stranger(mutual, own())
    assert refusals(mutual) == tuple(count + 1 for count in before)
    assert mutual.call() == b""
    assert mutual.server.get("/health").status == 200


def test_rubbish_in_the_place_of_a_greeting_costs_nobody_anything(mutual):
    before = refusals(mutual)
    for data in (
        HELLO + b"\x00" * 600,
        os.urandom(300),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
    ):
        for port in mutual.ports():
            with socket.create_connection(("127.0.0.1", port), 10) as peer:
                peer.sendall(data)
                peer.settimeout(2)
                with contextlib.suppress(OSError):
                    peer.recv(1000)
    for port in mutual.ports():  # a probe that only looks whether somebody listens
        socket.create_connection(("127.0.0.1", port), 10).close()
    failed = [now - then for now, then in zip(refusals(mutual), before, strict=True)]
    assert all(3 <= count <= 4 for count in failed)
    assert mutual.call() == b""
    printed = mutual.server.printed()
    assert "Traceback" not in printed
    assert " [error " not in printed
    assert re.search(r"^[IWEF]\d{4} ", printed, re.MULTILINE) is None  # as gRPC writes by itself


def test_silent_connections_take_nobodys_place(tmp_path):
    running = Secured(tmp_path)
    running.server.settings = (*running.server.settings, "api.max_connections=20")
    with running.server, contextlib.ExitStack() as held:
        peers = [
            held.enter_context(socket.create_connection(("127.0.0.1", running.server.api_port), 10))
            for _ in range(100)
        ]
        for _ in range(30):
            assert running.server.get("/health").status == 200
        closed = 0
        for peer in peers:
            peer.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                closed += peer.recv(1) == b""
        assert closed >= 80


def test_clients_of_another_authority_come_in_when_the_file_changes_and_those_of_the_old_one_do_not(mutual):
    new = Authority("of new clients")
    old = mutual.own
    mutual.clients.write_bytes(new.pem)
    mutual.own = new.sign("a new client")
    try:
        context = CA.trusting(mutual.folder, mutual.own)
        mutual.server.tls = context
        wait_for(lambda: comes_in(mutual), "new clients", 20, 0.2)
        wait_for(lambda: mutual.call() == b"", "new clients by gRPC", 20, 0.2)
        stranger(mutual, old)
    finally:
        mutual.clients.write_bytes(CLIENTS.pem)
        mutual.own = old
        mutual.server.tls = CA.trusting(mutual.folder, old)
        wait_for(lambda: comes_in(mutual) and mutual.call() == b"", "the old clients", 20, 0.2)


def comes_in(mutual: Secured) -> bool:
    try:
        return mutual.server.get("/health").status == 200
    except (OSError, http.client.HTTPException):
        return False


def test_connections_that_wait_hold_up_no_stop(tmp_path):
    running = Secured(tmp_path)
    with running.server, contextlib.ExitStack() as held:
        connections = [held.enter_context(kept(running)) for _ in range(3)]
        assert [asked(connection) for connection in connections] == [200, 200, 200]
        silent = [socket.create_connection(("127.0.0.1", port), 10) for port in running.ports()]
        assert running.server.terminate() == 0
        for peer in silent:
            peer.close()
    printed = running.server.printed()
    assert "timeout graceful shutdown exceeded" not in printed
    assert " [error " not in printed


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_sdk_sends_by_tls_with_a_key(tmp_path, monkeypatch):
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    running = Secured(tmp_path)
    running.server.environment = {"TELEMETRY_API_KEY": OWN}
    running.server.headers = {"x-api-key": OWN}
    (tmp_path / "ca.pem").write_bytes(CA.pem)
    credentials = grpc.ssl_channel_credentials(CA.pem)
    shown = {"x-api-key": OWN}
    with running.server as server:
        for exporter in (
            ByGrpc(f"localhost:{server.grpc_port}", credentials=credentials, headers=shown),
            ByHttp(
                f"https://localhost:{server.http_port}/v1/logs",
                certificate_file=str(tmp_path / "ca.pem"),
                headers=shown,
            ),
        ):
            provider = LoggerProvider()
            provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
            provider.get_logger("shop").emit(LogRecord(event_name="signup", attributes={"user.id": "ada"}))
            provider.shutdown()
        taken = 'telemetry_events_total{signal="logs"}'
        wait_for(lambda: running.metric(taken) == 2, "both records", 15, 0.2)


# Starts, and our own commands.


def test_a_door_to_others_needs_no_insecure_where_certificates_are_asked_for(tmp_path):
    cert, key = CA.sign().put(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(CLIENTS.pem)
    tls = f"api.tls={{cert_file: {cert}, key_file: {key}, client_ca_file: {tmp_path}/ca.pem}}"
    done = command("validate", "--set", "api.endpoint=0.0.0.0:8080", "--set", tls)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        pytest.param(Pair(b"", b"", 0), "expected a certificate in PEM", id="empty files"),
        pytest.param(CA.sign(days=-1), "the certificate has ended", id="one that has ended"),
        pytest.param(None, "no such file or directory", id="no files"),
    ],
)
def test_a_start_without_a_good_certificate_is_refused(tmp_path, pair, said):
    cert, key = pair.put(tmp_path, "server") if pair is not None else ("/nowhere/c", "/nowhere/k")
    server = ServerProcess(tmp_path / "data", settings=[f"api.tls={{cert_file: {cert}, key_file: {key}}}"])
    code, printed = server.refusal()
    assert code == 2
    assert "api.tls: " in printed
    assert said in printed


def command(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "otel_ttf", *arguments],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_commands_ask_a_server_that_speaks_tls(secured, tmp_path):
    (tmp_path / "ca.pem").write_bytes(CA.pem)
    url = f"https://127.0.0.1:{secured.server.api_port}"
    done = command(
        "ttf", "--summary", "--format", "json", "--url", url, "--ca-file", str(tmp_path / "ca.pem")
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["journeys"]
    done = command("stuck", env={"TELEMETRY_API_URL": url, "TELEMETRY_CA_FILE": str(tmp_path / "ca.pem")})
    assert done.returncode == 0, done.stderr
    done = command("seen", "--url", url)
    assert done.returncode == 1
    assert "is not trusted" in done.stderr
    assert "--ca-file" in done.stderr


def test_commands_show_a_certificate_where_one_is_asked_for(mutual, tmp_path):
    (tmp_path / "ca.pem").write_bytes(CA.pem)
    cert, key = CLIENTS.sign().put(tmp_path, "own")
    url = f"https://127.0.0.1:{mutual.server.api_port}"
    trust = ("--url", url, "--ca-file", str(tmp_path / "ca.pem"))
    done = command("seen", *trust, "--cert-file", cert, "--key-file", key)
    assert done.returncode == 0, done.stderr
    done = command("seen", *trust)
    assert done.returncode == 1
    assert "--cert-file" in done.stderr
