"""The cache folder: entries keyed by version, made once even when two checkouts ask at once."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def root() -> Path:
    """`$XDG_CACHE_HOME/sandbox-operator`, created if need be."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "sandbox-operator"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file lock at `path`; the kernel releases it when the process ends in any way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def entry(name: str, build: Callable[[Path], None]) -> Path:
    """The folder `name`; when absent, `build` fills a temporary one that is then renamed.

    So a folder of that name is always complete, and what an interrupted build left is removed by
    the next one, which holds the lock and therefore knows that nobody is at work in it.
    """
    target = root() / name
    if target.is_dir():
        return target
    with locked(root() / "locks" / name):
        if target.is_dir():
            return target
        for abandoned in root().glob(f".building-{name}-*"):
            shutil.rmtree(abandoned)
        work = Path(tempfile.mkdtemp(prefix=f".building-{name}-", dir=root()))
        try:
            build(work)
            work.chmod(0o755)
            work.rename(target)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return target
