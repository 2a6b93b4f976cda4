"""Long steps told in plain words: a spinner on a terminal, a line now and then elsewhere."""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 15

console = Console(highlight=False, soft_wrap=True)


class DevError(Exception):
    """Something that the user can put right; the text names what to do next."""


class _Spinners:
    """One live display however many steps run at once, since a terminal has room for one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0
        self._display: Progress | None = None

    @contextmanager
    def spin(self, text: str) -> Iterator[None]:
        with self._lock:
            if self._display is None:
                columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
                self._display = Progress(*columns, console=console, transient=True)
                self._display.start()
            display = self._display
            self._open += 1
            task = display.add_task(text, total=None)
        try:
            yield
        finally:
            with self._lock:
                display.remove_task(task)
                self._open -= 1
                if not self._open:
                    display.stop()
                    self._display = None


_spinners = _Spinners()


@contextmanager
def step(text: str, expect: str = "") -> Iterator[None]:
    """Show that `text` is going on, and how long it took; `expect` says how long it may take."""
    began = time.monotonic()
    told = f"{text} ({expect})" if expect else text
    if console.is_terminal:
        with _spinners.spin(told):
            yield
    else:
        with _lines(text, f" ({expect})" if expect else "", began):
            yield
    console.print(f"{text}: done in {time.monotonic() - began:.0f} s")


@contextmanager
def _lines(text: str, note: str, began: float) -> Iterator[None]:
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(SECONDS_BETWEEN_LINES):
            print(f"{text} ... {time.monotonic() - began:.0f} s{note}", flush=True)

    print(f"{text} ...{note}", flush=True)
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    advice: str = "",
) -> str:
    """Run a command quietly and return its output; on failure raise DevError with its end."""
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        try:
            ended = subprocess.run(
                [str(arg) for arg in argv],
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        except FileNotFoundError as error:
            raise DevError(f"{argv[0]} is not installed. {advice}".strip()) from error
        output.seek(0)
        text = output.read()
    if ended.returncode:
        print(text[-4000:], file=sys.stderr)
        what = " ".join(str(arg) for arg in argv[:4])
        raise DevError(f"`{what} ...` failed with status {ended.returncode}. {advice}".strip())
    return text
