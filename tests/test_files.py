"""Where permissions are wrong an operator reads whose a file is, who runs, and what to type: never to go elsewhere."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from otel_ttf.cli import _data_dir
from otel_ttf.cli_options import Stop, existing
from otel_ttf.files import barred, write_secret
from otel_ttf.log.lock import DirectoryLocked, lock_directory

NOBODY = 65534
ME = pwd.getpwuid(os.geteuid()).pw_name
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")


@pytest.fixture
def data() -> Iterator[Path]:
    """A data directory that everybody may use."""
    with TemporaryDirectory() as above:  # pytest keeps its own to itself
        Path(above).chmod(0o755)
        folder = Path(above) / "data"
        folder.mkdir()
        folder.chmod(0o777)
        for name in ("log.db", "store.db"):
            (folder / name).touch()
            (folder / name).chmod(0o666)
        yield folder


@pytest.fixture
def as_nobody() -> Callable[..., str | None]:
    """`barred` as another user sees it."""

    def asked(path: Path, *, write: bool = True) -> str | None:
        os.seteuid(NOBODY)
        try:
            return barred(path, write=write)
        finally:
            os.seteuid(0)

    return asked


@needs_root
@pytest.mark.parametrize(
    ("closed", "mode", "asked", "way"),
    [
        pytest.param("data", 0o700, "data", "sudo chmod a+x", id="a folder above may not be passed"),
        pytest.param("data", 0o755, "data", "sudo chown -R nobody", id="data directory"),
        pytest.param("data", 0o755, "data/store.db", "sudo chown -R nobody", id="no file beside it"),
        pytest.param("data/store.db", 0o600, "data/store.db", "sudo chown nobody", id="file"),
        pytest.param("data/store.db-wal", 0o644, "data/store.db", "sudo chown nobody", id="write-ahead log"),
        pytest.param(
            "data/new", 0o755, "data/new/x/store.db", "sudo chown nobody", id="to be made, no data in it"
        ),
    ],
)
def test_whose_it_is_and_what_lets_us(data, as_nobody, closed, mode, asked, way):
    path = data.parent / closed
    if closed == "data" and mode == 0o700:
        (data / "below").mkdir()
        asked = "data/below"
    if not path.exists():
        path.mkdir() if "." not in path.name else path.touch()
    path.chmod(mode)
    said = as_nobody(data.parent / asked)
    assert said is not None
    assert said.startswith(f"{path} belongs to {ME}, mode {mode:04o}, and this runs as nobody")
    assert f"`{way} {path}`" in said
    assert barred(data.parent / asked) is None, "root may"


@needs_root
def test_what_is_open_to_us_bars_nobody(data, as_nobody):
    assert as_nobody(data) is None
    assert as_nobody(data / "store.db") is None
    assert as_nobody(data / "not" / "there.db") is None
    (data / "keys").touch()
    (data / "keys").chmod(0o644)
    data.chmod(0o755)
    assert as_nobody(data / "keys", write=False) is None


@needs_root
def test_a_start_sends_nobody_to_an_empty_directory(data):
    data.chmod(0o755)
    os.seteuid(NOBODY)
    try:
        with pytest.raises(Stop) as refused:
            _data_dir(data)
        with pytest.raises(DirectoryLocked) as locked, lock_directory(data):
            pass
    finally:
        os.seteuid(0)
    data.chmod(0o700)
    os.seteuid(NOBODY)
    try:
        with pytest.raises(Stop) as unreadable:
            existing(data)
    finally:
        os.seteuid(0)
    assert str(unreadable.value).startswith(
        f"the data directory cannot be read: {data} belongs to {ME}, mode 0700"
    )
    for error in (refused, locked):
        assert f"run it as {ME}, or `sudo chown -R nobody {data}`" in str(error.value)
        assert "choose another" not in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_what_is_our_own_we_may_open_ourselves(tmp_path):
    tmp_path.chmod(0o500)
    said = barred(tmp_path)
    assert said == f"{tmp_path} belongs to {ME}, mode 0500, and this runs as {ME}: `chmod u+rwX {tmp_path}`"
    tmp_path.chmod(0o700)


@needs_root
def test_what_root_writes_for_a_server_the_server_can_read(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    secret = tmp_path / "secret"

    def written(*, group: bool = False) -> tuple[int, int, int]:
        write_secret(secret, "two", group=group)
        found = secret.stat()
        return found.st_uid, found.st_gid, found.st_mode & 0o777

    assert written() == (NOBODY, NOBODY, 0o600)
    os.chown(secret, 0, NOBODY)
    secret.chmod(0o644)
    assert written(group=True) == (0, NOBODY, 0o640)
    assert written() == (0, NOBODY, 0o600)
    assert secret.read_text() == "two"
