"""The cache: an entry is there complete or not at all, and is made once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dev import cache

CHECKOUT = Path(__file__).parents[2]

BUILD_SLOWLY = """
import sys, pathlib
from dev import cache
def build(work):
    (work / "half").write_text("made")
    with open(sys.argv[1], "a") as builds:
        builds.write("building\\n")
    print("building", flush=True)
    sys.stdin.readline()
    (work / "whole").write_text("made")
cache.entry("thing-v1", build)
"""


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_an_entry_is_built_once() -> None:
    builds: list[Path] = []
    first = cache.entry("thing-v1", builds.append)
    assert cache.entry("thing-v1", builds.append) == first
    assert len(builds) == 1


def test_a_failed_build_leaves_nothing() -> None:
    def fail(work: Path) -> None:
        (work / "half").touch()
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        cache.entry("thing-v1", fail)
    assert [path.name for path in cache.root().iterdir()] == ["locks"]


def test_a_killed_build_leaves_no_entry_and_its_remains_are_cleared(tmp_path: Path) -> None:
    with _builder(tmp_path) as builder:
        _wait_for_line(builder)
        builder.send_signal(signal.SIGKILL)
    assert not (cache.root() / "thing-v1").exists()
    assert list(cache.root().glob(".building-*"))
    entry = cache.entry("thing-v1", lambda work: (work / "whole").touch())
    assert [path.name for path in entry.iterdir()] == ["whole"]
    assert not list(cache.root().glob(".building-*"))


def test_two_processes_at_once_build_once(tmp_path: Path) -> None:
    with _builder(tmp_path) as one, _builder(tmp_path) as other:
        for builder in (one, other):
            assert builder.stdin
            builder.stdin.write(b"go on\n")
            builder.stdin.close()
        assert (one.wait(60), other.wait(60)) == (0, 0)
    assert (tmp_path / "builds").read_text() == "building\n"
    assert (cache.root() / "thing-v1" / "whole").exists()


def _builder(tmp_path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD_SLOWLY, str(tmp_path / "builds")],
        cwd=CHECKOUT,
        env=os.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _wait_for_line(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout
    assert process.stdout.readline()
