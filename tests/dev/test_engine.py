"""A private dockerd: apart from the machine's, and as mortal as a test needs it."""

import contextlib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import engine
from dev.images import ensure_busybox


@pytest.fixture(scope="module")
def own() -> Iterator[engine.OwnEngine]:
    with engine.OwnEngine() as running:
        yield running


def test_it_is_another_engine_than_the_machines(own: engine.OwnEngine) -> None:
    machine = engine.ensure_engine()
    assert engine.info(own.host)["ID"] != engine.info(machine)["ID"]
    container = _start_httpd(own)
    with engine.client(machine) as client:
        assert container not in [c["Id"] for c in client.containers(all=True)]


def test_a_port_published_on_loopback_answers(own: engine.OwnEngine) -> None:
    container = _start_httpd(own)
    with engine.client(own.host) as client:
        (published,) = client.port(container, 8000)
    with urllib.request.urlopen(f"http://127.0.0.1:{published['HostPort']}/ready") as answer:
        assert answer.status == 200


def test_containers_are_found_dead_after_kill9(own: engine.OwnEngine) -> None:
    container = _start_httpd(own)
    own.kill9()
    assert not engine.answers(own.host)
    own.start()
    assert _state(own, container) == "exited"


def test_containers_end_with_a_stopped_engine(own: engine.OwnEngine) -> None:
    container = _start_httpd(own)
    own.restart()
    assert _state(own, container) == "exited"


def test_a_closed_engine_leaves_nothing() -> None:
    before = _links()
    with engine.OwnEngine() as closed:
        _start_httpd(closed)
        _make_network(closed)
        assert len(_links() - before) == 2
        directory = closed.directory
    assert _links() == before
    assert not directory.exists()
    assert str(directory) not in Path("/proc/mounts").read_text()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert str(directory) not in process.read_text()


def test_what_a_killed_process_left_goes_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _links()
    abandoned = engine.OwnEngine()
    abandoned.start()
    _make_network(abandoned)
    abandoned._namespaces.kill()  # as with its process
    dead = {
        abandoned._bridge.removeprefix("sbx"),
        abandoned.directory.name.removeprefix(engine.PREFIX),
    }
    monkeypatch.setattr(engine, "_lives", lambda name: name not in dead)
    engine._remove_abandoned()
    monkeypatch.undo()
    assert not abandoned.directory.exists()
    assert _links() == before


def test_the_machines_own_bridge_stays(own: engine.OwnEngine) -> None:
    """Some options of dockerd make it remove docker0, whoever's that is."""
    with engine.client(engine.ensure_engine()) as client:
        image = ensure_busybox(engine.ensure_engine())
        container = client.create_container(image, host_config=client.create_host_config())["Id"]
        try:
            own.restart()
            client.start(container)
        finally:
            client.remove_container(container, force=True)


def _links() -> set[str]:
    """Bridges of the machine; those of containers come and go."""
    return {path.parent.name for path in Path("/sys/class/net").glob("*/bridge")}


def _make_network(own: engine.OwnEngine) -> None:
    with engine.client(own.host) as client:
        client.create_network("net", driver="bridge")


def _start_httpd(own: engine.OwnEngine) -> str:
    image = ensure_busybox(own.host)
    with engine.client(own.host) as client:
        settings = client.create_host_config(port_bindings={8000: ("127.0.0.1", None)}, init=True)
        container = client.create_container(image, ports=[8000], host_config=settings)
        client.start(container["Id"])
        return str(container["Id"])


def _state(own: engine.OwnEngine, container: str) -> str:
    with engine.client(own.host) as client:
        found = client.containers(all=True, filters={"id": container})
        return str(found[0]["State"])
