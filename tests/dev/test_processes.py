"""Background processes: supervised ones end with their starter, detached ones do not."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dev.processes import Daemon, Supervised, detach, load

CHECKOUT = Path(__file__).parents[2]

START_TWO = """
import sys, pathlib
from dev.processes import Supervised, detach
folder = pathlib.Path(sys.argv[1])
child = Supervised(["sleep", "600"], log=folder / "log").daemon
print(child.pid, child.started, flush=True)
detach(["sleep", "600"], log=folder / "log", record=folder / "record")
print("started", flush=True)
sys.stdin.read()
"""


def test_a_supervised_process_ends_with_a_killed_starter_and_a_detached_one_does_not(
    tmp_path: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START_TWO, str(tmp_path)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as starter:
        assert starter.stdout
        supervised = Daemon(*(int(word) for word in starter.stdout.readline().split()))
        starter.stdout.readline()
        starter.send_signal(signal.SIGKILL)
    detached = load(tmp_path / "record")
    assert detached
    try:
        assert supervised.wait(10)
        assert detached.alive()
    finally:
        detached.kill()
    assert load(tmp_path / "record") is None


def test_a_supervised_process_ends_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    child = Supervised(["sleep", "600"], log=tmp_path / "log")
    parent = int(Path(f"/proc/{child.daemon.pid}/stat").read_text().rpartition(")")[2].split()[1])
    supervisor = Daemon.of(parent)
    assert supervisor
    supervisor.kill()
    assert child.daemon.wait(10)
    child.terminate()


def test_terminate_ends_a_process_that_ignores_sigterm(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"trap '' TERM; touch {ready}; while :; do read -t 1 < /dev/zero; done"
    child = Supervised(["bash", "-c", script], log=tmp_path / "log")
    while not ready.exists():
        assert child.alive()
    child.terminate(seconds=0.2)
    assert not child.alive()


def test_a_reused_pid_is_not_taken_for_the_process(tmp_path: Path) -> None:
    daemon = detach(["sleep", "600"], log=tmp_path / "log", record=tmp_path / "record")
    try:
        stranger = dataclasses.replace(daemon, started=daemon.started - 1)
        assert not stranger.alive()
        stranger.kill()
        assert daemon.alive()
    finally:
        daemon.kill()


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1}', '{"pid": 1, "started": -1}'])
def test_a_damaged_record_tells_of_no_process(tmp_path: Path, content: str) -> None:
    (tmp_path / "record").write_text(content)
    assert load(tmp_path / "record") is None
