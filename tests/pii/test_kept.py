"""What Hyperscan compiled is kept between starts, and only what is surely ours is loaded."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from otel_ttf.pii import kept, scanner
from otel_ttf.pii.scanner import Pattern, Scanner

hyperscan = pytest.importorskip("hyperscan")

# As many as a real configuration has, and quick to compile.
WORDS = [f"word{number:03}" for number in range(scanner._WORTH_KEEPING)]
TEXTS = [b"nothing", b"a Word042 and", b"word007"]
HITS = {1: 1 << 42, 2: 1 << 7}
FILE = b"what was compiled"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where databases are kept; not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "otel-ttf"


@pytest.fixture
def compiled(monkeypatch) -> list[int]:
    """Numbers of patterns, one for each database that was compiled."""
    counts: list[int] = []

    class Counting(hyperscan.Database):
        def compile(self, **options):
            counts.append(options["elements"])
            super().compile(**options)

    monkeypatch.setattr(hyperscan, "Database", Counting)
    return counts


def start(words=WORDS) -> None:
    """Makes a scanner as a process does that starts, and looks whether it finds."""
    scanner._database.cache_clear()
    made = Scanner([Pattern(1 << number, word) for number, word in enumerate(words)], "hyperscan")
    assert made.hits(TEXTS) == HITS


def test_the_second_start_loads_what_the_first_one_kept(folder, compiled):
    start()
    start()
    assert compiled == [len(WORDS)]
    (file,) = folder.iterdir()
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(file.stat().st_mode)) == (0o700, 0o600)


def test_the_order_in_which_patterns_come_is_none_of_the_name(folder, compiled):
    """Some of them come out of sets, whose order is another one at each start."""
    start()
    scanner._database.cache_clear()
    Scanner([Pattern(1, word) for word in reversed(WORDS)], "hyperscan")
    assert compiled == [len(WORDS)]


def test_other_patterns_another_build_and_another_cpu_have_files_of_their_own(folder, compiled, monkeypatch):
    start()
    start([*WORDS[:-1], "other"])
    with monkeypatch.context() as changed:
        changed.setattr(hyperscan, "__version__", "0.0.0")
        start()
    with monkeypatch.context() as changed:
        changed.setattr(kept, "_cpu", lambda: b"another")
        start()
    assert (len(compiled), len(list(folder.iterdir()))) == (4, 4)
    start()
    assert len(compiled) == 4


def test_a_few_patterns_are_compiled_as_soon_as_read(folder, compiled):
    start(WORDS[:50])
    assert (compiled, folder.exists()) == ([50], False)


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda good: b"", id="empty"),
        pytest.param(lambda good: good[:20], id="within the digest"),
        pytest.param(lambda good: good[:-1], id="cut off"),
        pytest.param(lambda good: good + b"\0", id="too long"),
        pytest.param(lambda good: good[:5000] + bytes([good[5000] ^ 1]) + good[5001:], id="one bit"),
    ],
)
def test_a_damaged_file_is_compiled_anew_and_replaced(folder, compiled, harm):
    start()
    (file,) = folder.iterdir()
    good = file.read_bytes()
    file.write_bytes(harm(good))
    start()
    assert (len(compiled), file.read_bytes()) == (2, good)


def test_what_hyperscan_does_not_load_is_compiled(folder, compiled, monkeypatch):
    monkeypatch.setattr(kept, "read", lambda name: b"a right digest over nonsense")
    start()
    assert compiled == [len(WORDS)]


def test_the_file_of_other_patterns_is_not_taken_under_this_name(folder):
    kept.write("a", FILE)
    (folder / "a").rename(folder / "b")
    assert kept.read("b") is None


def forbidden(path, monkeypatch):
    (path / "otel-ttf").mkdir(mode=0o700)
    monkeypatch.setattr(kept.tempfile, "mkstemp", refuse)


def refuse(*_arguments, **_options):
    raise PermissionError


def a_file(path, monkeypatch):
    (path / "otel-ttf").write_text("")


def a_link(path, monkeypatch):
    (path / "elsewhere").mkdir()
    (path / "otel-ttf").symlink_to("elsewhere")


def no_home(path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)


def home_is_missing(path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(path / "missing"))


def home_is_of_another(path, monkeypatch):
    no_home(path, monkeypatch)
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)


@pytest.mark.parametrize(
    "trouble",
    [forbidden, a_file, a_link, no_home, home_is_missing, home_is_of_another],
    ids=lambda f: f.__name__,
)
def test_without_a_folder_every_start_compiles_and_leaves_nothing(
    tmp_path, compiled, monkeypatch, trouble, capfd
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    trouble(tmp_path, monkeypatch)
    there = sorted(tmp_path.rglob("*"))
    start()
    start()
    assert (len(compiled), sorted(tmp_path.rglob("*"))) == (2, there)
    assert capfd.readouterr() == ("", "")


def test_the_cache_folder_of_a_home_is_made(tmp_path, compiled, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the specification says to ignore
    monkeypatch.setenv("HOME", str(tmp_path))
    start()
    start()
    assert len(compiled) == 1
    assert len(list((tmp_path / ".cache" / "otel-ttf").iterdir())) == 1


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_is_not_trusted(folder, mode):
    kept.write("a", FILE)
    assert kept.read("a") == FILE
    (folder / "a").chmod(mode)
    assert kept.read("a") is None


def test_a_folder_that_others_may_write_is_not_trusted(folder):
    kept.write("a", FILE)
    folder.chmod(0o770)
    assert kept.read("a") is None
    kept.write("b", FILE)
    assert [path.name for path in folder.iterdir()] == ["a"]


@pytest.mark.parametrize("whose", ["folder", "file"])
def test_what_belongs_to_somebody_else_is_not_trusted(folder, monkeypatch, whose):
    kept.write("a", FILE)
    lstat, fstat = Path.lstat, os.fstat

    def foreign(told):
        fields = list(told)
        fields[stat.ST_UID] += 1
        return os.stat_result(fields)

    if whose == "folder":
        monkeypatch.setattr(Path, "lstat", lambda path: foreign(lstat(path)))
    else:
        monkeypatch.setattr(os, "fstat", lambda file: foreign(fstat(file)))
    assert kept.read("a") is None


def test_neither_links_nor_pipes_are_read(folder):
    kept.write("a", FILE)
    (folder / "link").symlink_to("a")
    os.mkfifo(folder / "pipe")
    assert (kept.read("link"), kept.read("pipe")) == (None, None)


def test_those_that_were_not_used_for_longest_go(folder):
    for number in range(kept.MOST):
        kept.write(f"{number}", FILE)
        os.utime(folder / f"{number}", (number, number))
    assert kept.read("0") == FILE
    kept.write("new", FILE)
    assert kept.read("1") is None
    assert {kept.read(name) for name in ("0", "2", "new")} == {FILE}
    assert len(list(folder.iterdir())) == kept.MOST
