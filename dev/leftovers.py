"""What operators leave in an engine that others use too: removed when their work is done.

Each cluster at work has a record, locked while its process lives. What a killed process left, and
what Docker would not let go of, is removed by the next that comes: networks above all, of which
Docker's default subnets allow some thirty.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from docker.errors import APIError, DockerException

from controller.core.names import OWNER_LABEL
from dev import cache, engine
from dev.progress import console

REMOVED_AT_ONCE = 8


@contextmanager
def removed_at_end(docker_host: str, uid: str, instance: str = "") -> Iterator[None]:
    """At the end, `remove_owned`. First, the same for those whose process was killed."""
    remove_abandoned(docker_host)
    record = _records() / f"{uid}-{instance}-{os.getpid()}.json"
    with record.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        json.dump([docker_host, uid, instance], handle)
        handle.flush()
        try:
            yield
        finally:
            if remove_owned(docker_host, uid, instance):
                record.unlink()


def remove_abandoned(docker_host: str) -> None:
    """Remove from an engine what is recorded by processes that live no more."""
    for record in _records().glob("*.json"):
        with contextlib.suppress(FileNotFoundError), record.open() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its process lives
            try:
                host, uid, instance = json.load(handle)
            except ValueError:  # killed before a word was written, so before anything was made
                record.unlink()
                continue
            if host == docker_host:
                with contextlib.suppress(DockerException, OSError):
                    if remove_owned(host, uid, instance):
                        record.unlink()


def remove_owned(docker_host: str, uid: str, instance: str = "") -> bool:
    """Remove from an engine all that the operator `instance` of cluster `uid` owns, or that any
    operator of it does; returns whether nothing of it is left."""
    removed = kept = 0
    with engine.client(docker_host) as docker:
        only = {"label": OWNER_LABEL}
        containers = [
            container["Id"]
            for container in docker.containers(all=True, filters=only)
            if _owned(container, uid, instance)
        ]
        with ThreadPoolExecutor(REMOVED_AT_ONCE) as pool:
            remove = partial(docker.remove_container, force=True, v=True)
            removed += len(list(pool.map(remove, containers)))
        for volume in docker.volumes(filters=only)["Volumes"] or []:
            if _owned(volume, uid, instance):
                docker.remove_volume(volume["Name"])
                removed += 1
        for network in docker.networks(filters=only):
            if _owned(network, uid, instance):
                try:
                    docker.remove_network(network["Id"])
                except APIError as error:
                    # Starts that fail side by side may leave Docker's count of endpoints too high
                    # until its next start, though no container is left on the network.
                    if "has active endpoints" not in str(error.explanation):
                        raise
                    console.print(f"Docker keeps the network {network['Name']} until it restarts")
                    kept += 1
                    continue
                removed += 1
    if removed:
        console.print(f"removed what the operator left in the Docker engine: {removed}")
    return not kept


def _owned(thing: dict[str, dict[str, str]], uid: str, instance: str) -> bool:
    label = thing["Labels"].get(OWNER_LABEL, "")
    return label == f"{uid}.{instance}" if instance else label.startswith(f"{uid}.")


def _records() -> Path:
    folder = cache.root() / "engine-users"
    folder.mkdir(exist_ok=True)
    return folder
