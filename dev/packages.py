"""Debian packages, installed when something they bring is missing."""

import os
import shutil
from collections.abc import Sequence

from dev import cache
from dev.progress import DevError, run, step


def ensure_commands(packages: dict[str, str]) -> None:
    """Install the package of every command that is not there: {"debootstrap": "debootstrap"}."""
    missing = sorted({pkg for command, pkg in packages.items() if not _which(command)})
    if missing:
        install(missing)


def install(names: Sequence[str]) -> None:
    """Install Debian packages; needs root and apt."""
    listed = " ".join(names)
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise DevError(f"missing: {listed}. Install them (`sudo apt-get install {listed}`).")
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with cache.locked(cache.root() / "locks" / "apt"), step(f"installing {listed}"):
        run([*apt, "update"], env=env, advice="Check apt's sources and the network.")
        run([*apt, "install", "-y", "--no-install-recommends", *names], env=env)


def _which(command: str) -> str | None:
    # A user's PATH may lack the folders that hold dockerd and debootstrap.
    return shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
