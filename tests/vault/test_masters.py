"""What every master key does, wherever it is kept; and what each does beyond that."""

from __future__ import annotations

import base64
import builtins
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from otel_ttf.pii.sealed import CannotOpen, Tampered, UnknownKey, VaultUnavailable
from otel_ttf.vault import Vault
from otel_ttf.vault import transit as transit_module
from otel_ttf.vault.aws_kms import AwsKms, AwsKmsConfig
from otel_ttf.vault.file import VaultFile
from otel_ttf.vault.local import LocalMaster, add_newest, new_line
from otel_ttf.vault.master import MasterKey, MasterRefused, MasterUnavailable, Wrapped
from otel_ttf.vault.rotate import rotate
from otel_ttf.vault.transit import Transit, TransitConfig

from .conftest import JANE, JOHN, token
from .transit_server import TransitServer

DATA_KEY = bytes(range(32))
AWS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-test",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
SECRETS = (
    *("the-secret-of-the-test", "s.the-token-of-the-test"),
    *(base64.b64encode(DATA_KEY).decode(), DATA_KEY.hex(), str(DATA_KEY)),
)


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class MasterContract:
    """Brings `master`, and `unreachable`: one that cannot be asked any more, after it could.

    changed  what it may raise for changed bytes
    """

    changed: tuple[type[Exception], ...] = (CannotOpen,)

    def test_a_data_key_comes_back(self, master: MasterKey):
        wrapped = master.wrap(DATA_KEY, JANE)
        assert DATA_KEY not in wrapped.data
        assert master.unwrap(wrapped, JANE) == DATA_KEY

    def test_no_two_wraps_are_alike(self, master: MasterKey):
        assert master.wrap(DATA_KEY, JANE).data != master.wrap(DATA_KEY, JANE).data

    def test_it_knows_what_it_wrapped_and_names_the_key(self, master: MasterKey):
        wrapped = master.wrap(DATA_KEY, JANE)
        assert master.knows(wrapped.key_id)
        assert master.newest() in (None, wrapped.key_id)

    def test_another_context_is_refused(self, master: MasterKey):
        with pytest.raises(Tampered):
            master.unwrap(master.wrap(DATA_KEY, JANE), JOHN)

    def test_changed_bytes_are_refused(self, master: MasterKey):
        name, data = master.wrap(DATA_KEY, JANE)
        for place in {*range(0, len(data), max(1, len(data) // 12)), len(data) - 3}:
            changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            with pytest.raises(self.changed):
                master.unwrap(Wrapped(name, changed), JANE)
        for cut in (b"", data[:20], data[:-4]):
            with pytest.raises(CannotOpen):
                master.unwrap(Wrapped(name, cut), JANE)

    @pytest.mark.parametrize(
        "name", ["local:0123456789abcdef", "aws_kms:arn:x", "vault:transit/other:v1", ""]
    )
    def test_a_key_of_another_name_is_unknown(self, master: MasterKey, name: str):
        if not master.knows(name):
            with pytest.raises(UnknownKey):
                master.unwrap(Wrapped(name, master.wrap(DATA_KEY, JANE).data), JANE)

    def test_who_cannot_be_asked_is_said_to_be_so(
        self, master: MasterKey, unreachable: Callable[[], MasterKey]
    ):
        wrapped = master.wrap(DATA_KEY, JANE)
        gone = unreachable()
        for call in (lambda: gone.wrap(DATA_KEY, JANE), lambda: gone.unwrap(wrapped, JANE)):
            with pytest.raises(VaultUnavailable) as caught:
                call()
            if gone.remote:
                assert isinstance(caught.value, MasterUnavailable)
            assert caught.value.retry_after > 0
            assert not any(secret in repr(caught.value) for secret in SECRETS)
        gone.close()

    def test_threads_share_one(self, master: MasterKey):
        with ThreadPoolExecutor(6) as pool:
            keys = [bytes([n]) * 32 for n in range(30)]
            wraps = list(pool.map(lambda key: master.wrap(key, JANE), keys))
            assert list(pool.map(lambda wrapped: master.unwrap(wrapped, JANE), wraps)) == keys

    def test_a_vault_works_with_it_and_is_rotated(self, master: MasterKey, tmp_path: Path):
        vault = Vault(VaultFile(tmp_path / "vault.db"), master)
        subjects = [token(n) for n in range(12)]
        vault.prepare(subjects)
        sealed = {subject: vault.seal(subject, "p", subject) for subject in subjects}
        assert rotate(vault.file, master).rewrapped == 12
        other = Vault(VaultFile(tmp_path / "vault.db"), master)
        assert {subject: other.open(subject, "p", text) for subject, text in sealed.items()} == {
            subject: subject for subject in subjects
        }
        vault.file.close()
        other.file.close()


class TestFile(MasterContract):
    @pytest.fixture
    def master(self, tmp_path):
        (tmp_path / "master").write_text("# ours\n" + new_line() + "\n" + new_line())
        return LocalMaster(file=tmp_path / "master")

    @pytest.fixture
    def unreachable(self, master):
        def gone():
            master.file.unlink()
            return master

        return gone

    def test_a_new_first_line_is_used_at_once_and_old_ones_unwrap(self, master):
        old = master.wrap(DATA_KEY, JANE)
        ids = master.ids()
        add_newest(master.file)
        assert master.ids()[1:] == ids
        assert master.wrap(DATA_KEY, JANE).key_id == master.newest() == master.ids()[0] != old.key_id
        assert master.unwrap(old, JANE) == DATA_KEY
        assert master.file.stat().st_mode & 0o077 == 0


class TestEnvironment(MasterContract):
    @pytest.fixture
    def environ(self):
        return {"KEYS": new_line() + new_line()}

    @pytest.fixture
    def master(self, environ):
        return LocalMaster(env="KEYS", environ=environ)

    @pytest.fixture
    def unreachable(self, master, environ):
        return lambda: environ.clear() or master

    def test_a_vault_works_with_it_and_is_rotated(self, tmp_path, environ, master):
        vault = Vault(VaultFile(tmp_path / "vault.db"), master)
        sealed = vault.seal(JANE, "p", "text")
        with pytest.raises(MasterRefused, match="put a new one"):
            rotate(vault.file, master)
        environ["KEYS"] = new_line() + environ["KEYS"]
        vault.prepare([JOHN])  # the restarted server wraps with it already
        assert rotate(vault.file, master).rewrapped == 2
        environ["KEYS"] = environ["KEYS"].splitlines()[0]
        fresh = Vault(VaultFile(tmp_path / "vault.db"), master)
        assert fresh.open(JANE, "p", sealed) == "text"
        vault.close()
        fresh.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "expected at least one line", id="nothing"),
        pytest.param("c2hvcnQ=\n", "line 1: expected base64 of 32 bytes", id="too short"),
        pytest.param("# x\n" + "A" * 43 + "=\n" + "A" * 43 + "=\n", "line 3: expected another", id="twice"),
    ],
)
def test_a_bad_master_key_is_said_with_its_line_and_without_its_content(text, said):
    with pytest.raises(MasterRefused, match=said) as caught:
        LocalMaster(env="KEYS", environ={"KEYS": text})
    assert "c2hvcnQ" not in str(caught.value)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def kms(moto: str) -> Iterator[AwsKms]:
    """One for all: a new one takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in AWS.items():
            patch.setenv(name, value)
        with closing(boto3.session.Session().client("kms", endpoint_url=moto)) as client:
            key = client.create_key(Description="ttf")["KeyMetadata"]["KeyId"]
        with closing(AwsKms(AwsKmsConfig(key_id=key, endpoint=moto))) as master:
            yield master


class TestAwsKms(MasterContract):
    # The key's id stands in the ciphertext, and who may not use a key is not told whether it is there.
    changed = (CannotOpen, MasterRefused)

    @pytest.fixture
    def master(self, kms):
        return kms

    @pytest.fixture
    def unreachable(self):
        endpoint = f"http://127.0.0.1:{closed_port()}"
        return lambda: AwsKms(AwsKmsConfig(key_id="k", endpoint=endpoint))

    def test_the_key_is_named_by_its_arn(self, master):
        assert master.wrap(DATA_KEY, JANE).key_id.startswith("aws_kms:arn:aws:kms:eu-central-1:")

    def test_a_key_that_is_not_there_is_refused(self, moto, master):
        with closing(AwsKms(AwsKmsConfig(key_id="alias/nope", endpoint=moto))) as other:
            with pytest.raises(MasterRefused, match="NotFoundException"):
                other.wrap(DATA_KEY, JANE)
            with pytest.raises(UnknownKey):
                other.unwrap(Wrapped("aws_kms:" + "0" * 36, master.wrap(DATA_KEY, JANE).data), JANE)

    @pytest.mark.parametrize(
        ("code", "status", "raised"),
        [
            ("AccessDeniedException", 400, MasterRefused),
            ("ExpiredTokenException", 400, MasterRefused),
            ("DisabledException", 409, MasterRefused),
            ("InvalidCiphertextException", 400, Tampered),
            ("IncorrectKeyException", 400, UnknownKey),
            ("ThrottlingException", 400, MasterUnavailable),
            ("KMSInternalException", 500, MasterUnavailable),
            ("KMSInvalidStateException", 409, MasterUnavailable),
        ],
    )
    def test_errors_of_the_service_say_what_they_mean(self, master, monkeypatch, code, status, raised):
        """The stand-in knows no permissions and no quotas: botocore's own parser gets the documented answer."""
        answers = []

        def answer(request, **_):
            from botocore.awsrequest import AWSResponse

            class Raw:
                def stream(self, *_, **__):
                    yield b'{"__type": "%s", "message": "the-secret-of-the-test"}' % code.encode()

            answers.append(code)
            return AWSResponse(request.url, status, {"x-amzn-requestid": "r"}, Raw())

        wrapped = master.wrap(DATA_KEY, JANE)
        monkeypatch.setattr("time.sleep", lambda _: None)  # between tries
        events = master._client.meta.events
        events.register("before-send.kms", answer)
        try:
            with pytest.raises(raised) as caught:
                master.unwrap(wrapped, JANE)
        finally:
            events.unregister("before-send.kms", answer)
        assert len(answers) == (3 if code in ("ThrottlingException", "KMSInternalException") else 1)
        assert "the-secret" not in str(caught.value)

    def test_without_credentials_it_is_said_so(self, moto, monkeypatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with (
            closing(AwsKms(AwsKmsConfig(key_id="k", endpoint=moto))) as master,
            pytest.raises(MasterRefused, match="no credentials"),
        ):
            master.wrap(DATA_KEY, JANE)

    def test_without_boto3_the_extra_is_named(self, moto, monkeypatch):
        real = builtins.__import__

        def without(name, *rest):
            if name.partition(".")[0] == "boto3":
                raise ImportError(name)
            return real(name, *rest)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(MasterRefused, match=r"otel-ttf\[aws\]"):
            AwsKms(AwsKmsConfig(key_id="k", endpoint=moto))


class TestTransit(MasterContract):
    @pytest.fixture
    def server(self):
        with TransitServer() as server:
            yield server

    @pytest.fixture
    def connect(self, server) -> Iterator[Callable[..., Transit]]:
        opened: list[Transit] = []

        def connect(**given: str) -> Transit:
            config = TransitConfig(**{"address": server.url, "key": "ttf"} | given)
            opened.append(Transit(config, {"VAULT_TOKEN": server.token, "OTHER": "wrong"}))
            return opened[-1]

        yield connect
        for each in opened:
            each.close()

    @pytest.fixture
    def master(self, connect):
        return connect()

    @pytest.fixture
    def unreachable(self, connect):
        return lambda: connect(address=f"http://127.0.0.1:{closed_port()}")

    def test_versions_of_the_key_are_named_and_a_rotation_takes_the_current_one(
        self, server, master, tmp_path
    ):
        vault = Vault(VaultFile(tmp_path / "vault.db"), master)
        sealed = vault.seal(JANE, "p", "text")
        assert vault.file.counts().masters == {"vault:transit/ttf:v1": 1}
        server.rotate()
        rotate(vault.file, master)
        assert vault.file.counts().masters == {"vault:transit/ttf:v2": 1}
        server.min_decryption_version = 2
        fresh = Vault(VaultFile(tmp_path / "vault.db"), master)
        assert fresh.open(JANE, "p", sealed) == "text"
        vault.file.close()
        fresh.file.close()

    def test_a_version_that_is_gone_or_not_there_yet_is_unknown(self, server, master):
        wrapped = master.wrap(DATA_KEY, JANE)
        newer = Wrapped(wrapped.key_id, wrapped.data.replace(b":v1:", b":v7:"))
        with pytest.raises(UnknownKey):
            master.unwrap(newer, JANE)
        server.min_decryption_version = 2
        with pytest.raises(UnknownKey):
            master.unwrap(wrapped, JANE)
        server.keys.clear()
        with pytest.raises(UnknownKey):
            master.unwrap(wrapped, JANE)

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            pytest.param({"token_env": "OTHER"}, "403", id="a wrong token"),
            pytest.param({"namespace": "elsewhere"}, "403", id="another namespace"),
            pytest.param({"mount": "nowhere"}, "404.*mount", id="another mount"),
        ],
    )
    def test_who_is_refused_is_told_why_at_once(self, server, connect, given, said):
        with pytest.raises(MasterRefused, match=said) as caught:
            connect(**given).wrap(DATA_KEY, JANE)
        assert server.asked.total() == 1
        assert not any(secret in str(caught.value) for secret in SECRETS)

    def test_mount_and_namespace_are_used(self, server, connect):
        server.mount, server.namespace = "other", "team"
        master = connect(mount="/other/", namespace="team")
        assert master.unwrap(master.wrap(DATA_KEY, JANE), JANE) == DATA_KEY

    def test_a_sealed_server_is_asked_some_times_and_then_it_is_said(self, server, master):
        server.sealed = True
        with pytest.raises(MasterUnavailable, match="sealed"):
            master.wrap(DATA_KEY, JANE)
        assert server.asked["encrypt"] == transit_module.TRIES

    @pytest.mark.parametrize("status", [429, 500, 502, 503])
    def test_what_passes_is_tried_again(self, server, master, status):
        server.broken = [status, status]
        assert master.wrap(DATA_KEY, JANE).key_id == "vault:transit/ttf:v1"
        assert server.asked["encrypt"] == 3

    def test_a_server_that_says_nothing_is_given_up(self, connect, monkeypatch):
        monkeypatch.setattr(transit_module, "TIMEOUT", 0.05)
        with socket.create_server(("127.0.0.1", 0)) as mute:
            master = connect(address=f"http://127.0.0.1:{mute.getsockname()[1]}")
            with pytest.raises(MasterUnavailable, match="ReadTimeout"):
                master.wrap(DATA_KEY, JANE)

    def test_without_a_token_the_variable_is_named(self):
        with pytest.raises(MasterRefused, match="VAULT_TOKEN"):
            Transit(TransitConfig(address="http://127.0.0.1:1", key="ttf"), {})
