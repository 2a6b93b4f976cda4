"""What a killed process left in the engine is removed by the next; what a living one has is not."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.core.names import OWNER_LABEL
from dev import cache, engine
from dev.cluster import CHECKOUT
from dev.images import ensure_busybox
from dev.leftovers import remove_abandoned, removed_at_end

WORK = """
import sys
from dev.leftovers import removed_at_end
with removed_at_end(*sys.argv[1:]):
    print("works", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The machine's engine, with records of this test's own."""
    found = engine.ensure_engine()
    ensure_busybox(found)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return found


@pytest.fixture
def uid(host: str) -> Iterator[str]:
    """One that nobody else has."""
    uid = str(uuid.uuid4())
    yield uid
    with removed_at_end(host, uid):
        pass
    assert _left(host, uid) == 0


def _make(host: str, uid: str) -> None:
    """A container, a volume and a network, as of an operator of this cluster."""
    labels = {OWNER_LABEL: f"{uid}.some"}
    with engine.client(host) as client:
        client.create_network(f"net-{uid}", driver="bridge", labels=labels)
        client.create_volume(f"vol-{uid}", labels=labels)
        client.create_container(ensure_busybox(host), name=f"box-{uid}", labels=labels)


def _left(host: str, uid: str) -> int:
    with engine.client(host) as client:
        only = {"label": f"{OWNER_LABEL}={uid}.some"}
        volumes = client.volumes(filters=only)["Volumes"] or []
        containers = client.containers(all=True, filters=only)
        return len(containers) + len(volumes) + len(client.networks(filters=only))


def _records() -> list[Path]:
    return list((cache.root() / "engine-users").iterdir())


def test_it_is_removed_at_the_end(host: str, uid: str) -> None:
    with removed_at_end(host, uid):
        _make(host, uid)
        assert _left(host, uid) == 3
    assert _left(host, uid) == 0
    assert _records() == []


def test_a_killed_process_leaves_it_to_the_next(host: str, uid: str) -> None:
    argv = [sys.executable, "-c", WORK, host, uid]
    with subprocess.Popen(
        argv, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"works\n"
        _make(host, uid)
        remove_abandoned(host)
        assert _left(host, uid) == 3, "its process lives"
        worker.kill()
        worker.wait()
    remove_abandoned("unix:///of/another.sock")
    assert _left(host, uid) == 3, "it is in another engine"
    remove_abandoned(host)
    assert _left(host, uid) == 0
    assert _records() == []


def test_what_nobody_has_recorded_stays(host: str, uid: str) -> None:
    _make(host, uid)
    remove_abandoned(host)
    assert _left(host, uid) == 3


def test_a_record_without_a_word_is_dropped(host: str) -> None:
    with removed_at_end(host, "nobody"):
        pass
    (cache.root() / "engine-users" / "half.json").touch()
    remove_abandoned(host)
    assert _records() == []
