"""Background processes, known by pid and start time so that a reused pid is never signalled.

detach     outlives this process; a record file lets a later command find and end it
supervise  never outlives this process, even one ended by kill -9: a supervisor (this file, run as
           a script) holds the other end of a pipe and ends the process when the pipe closes
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1  # linux/prctl.h
SECONDS_TO_END = 30


@dataclass(frozen=True)
class Daemon:
    """A background process; `started` is its start time in clock ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Daemon | None":
        """The process that has `pid` now."""
        started = _start_time(pid)
        return None if started is None else cls(pid, started)

    def alive(self) -> bool:
        return _start_time(self.pid) == self.started

    def wait(self, seconds: float) -> bool:
        """Wait for its end; True if it has ended."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            return not self.alive() or bool(select.select([handle], [], [], seconds)[0])
        finally:
            os.close(handle)

    def terminate(self, seconds: float = SECONDS_TO_END) -> None:
        """SIGTERM, and SIGKILL if it has not ended after `seconds`."""
        self.signal(signal.SIGTERM)
        if not self.wait(seconds):
            self.kill()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait(SECONDS_TO_END)

    def signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def detach(argv: Sequence[str | Path], *, log: Path, record: Path) -> Daemon:
    """Start a process in a session of its own, and write `record` for `load`."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            [str(arg) for arg in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    daemon = Daemon(child.pid, _start_time(child.pid) or 0)
    child.returncode = 0  # it is meant to be left running: no ResourceWarning
    record.write_text(json.dumps(asdict(daemon)))
    return daemon


def load(record: Path) -> Daemon | None:
    """The living process that `record` tells of, if any."""
    try:
        daemon = Daemon(**json.loads(record.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return daemon if daemon.alive() else None


class Supervised:
    """A process that ends with this one. `stop_signal` is what it is sent then."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        stop_signal: signal.Signals = signal.SIGTERM,
        env: Mapping[str, str] | None = None,
    ) -> None:
        with log.open("ab") as output:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, str(int(stop_signal)), *map(str, argv)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=env,
                start_new_session=True,
            )
        self._watched = _pipe(self._supervisor.stdin)
        with _pipe(self._supervisor.stdout) as told:
            pid, started = (int(word) for word in told.readline().split())
        self.daemon = Daemon(pid, started)

    def alive(self) -> bool:
        return self.daemon.alive()

    def terminate(self, seconds: float = SECONDS_TO_END) -> None:
        self.daemon.terminate(seconds)
        self._reap()

    def kill(self) -> None:
        self.daemon.kill()
        self._reap()

    def _reap(self) -> None:
        self._watched.close()
        self._supervisor.wait(SECONDS_TO_END)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("started without a pipe")
    return stream


def _start_time(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat (proc(5)); None for a process that is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _supervise(stop_signal: int, argv: Sequence[str]) -> None:
    """Run argv until it ends or standard input closes. The end of a killed supervisor is argv's."""

    def end_with_supervisor() -> None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, stop_signal)

    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        start_new_session=True,
        preexec_fn=end_with_supervisor,
    )
    print(child.pid, _start_time(child.pid) or 0, flush=True)
    ended = os.pidfd_open(child.pid)
    select.select([sys.stdin.buffer, ended], [], [])
    if child.poll() is None:
        child.send_signal(stop_signal)
        deadline = time.monotonic() + SECONDS_TO_END
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


if __name__ == "__main__":
    _supervise(int(sys.argv[1]), sys.argv[2:])
