"""What plain docker-py needs for the same containers: same body, same network, no inspection.

The containers belong to an owner of their own, so the operator neither sees nor sweeps them. The
client is pooled and reads no proxies from the environment; else it is docker-py as it comes, which
makes a connection for nearly every call where the operator keeps its own (some tenths of a
millisecond).
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
from docker.errors import APIError

from controller.core import names
from controller.core.names import Owner
from controller.core.subject import Subject
from controller.engines.base import ContainerSpec
from controller.engines.dockerwords import container_body
from controller.entries import Entry
from controller.kube.environment import Environment
from controller.operations import container_spec
from controller.settings import Settings
from dev.progress import DevError

INSTANCE = "bench-baseline"
_CONNECTIONS = 128


class Baseline:
    """Containers by docker-py alone."""

    def __init__(self, docker_host: str, cluster_uid: str) -> None:
        self._owner = Owner(cluster_uid, INSTANCE)
        self._client: Any = docker.APIClient(
            docker_host, version="auto", timeout=600, max_pool_size=_CONNECTIONS
        )
        self._client.trust_env = False
        self._rules = Settings().rules()
        self._numbers = itertools.count()
        self._gate = Gate()
        self._client.create_network(
            names.network_name(self._owner),
            driver="bridge",
            options={"com.docker.network.bridge.enable_icc": "false"},
            labels={names.OWNER_LABEL: self._owner.label},
        )

    def close(self) -> None:
        """Nothing is created any more, by threads of an interrupted scenario either."""
        self._gate.shut()
        self._client.close()

    def create(self, spec: dict[str, Any]) -> tuple[str, float]:
        """Create and start what a Sandbox of this spec gets; its ID, and how many seconds."""
        uid = str(uuid.uuid4())
        body = self.body(spec, uid)
        with self._gate:
            began = time.monotonic()
            made = self._client.create_container_from_config(
                body, names.container_name(self._owner, uid)
            )["Id"]
            self._client.start(made)
            return made, time.monotonic() - began

    def create_all(self, count: int, spec: dict[str, Any], width: int) -> tuple[list[str], float]:
        """Create and start so many by `width` threads; their IDs, and how many seconds in all."""
        with ThreadPoolExecutor(width) as pool:
            began = time.monotonic()
            made = list(pool.map(lambda _: self.create(spec)[0], range(count)))
            return made, time.monotonic() - began

    def pull(self, image: str) -> float:
        """Pull `repository:tag`; how many seconds. Raises DevError if the engine could not."""
        repository, _, tag = image.rpartition(":")
        began = time.monotonic()
        answer = self._client.pull(repository, tag=tag)
        if '"error"' in answer:
            raise DevError(f"docker-py could not pull {image}: {answer[-300:]}")
        return time.monotonic() - began

    def stop_and_remove(self, container_id: str, grace_seconds: int) -> None:
        """As an application does that deletes a sandbox: wait out the grace period, remove."""
        self._client.stop(container_id, timeout=grace_seconds)
        self._client.remove_container(container_id, v=True, force=True)

    def live(self, spec: dict[str, Any], grace_seconds: int) -> None:
        """A whole life: create, start, stop, remove."""
        made, _ = self.create(spec)
        self.stop_and_remove(made, grace_seconds)

    def delete_as_applications_do(self, container_id: str, grace_seconds: int) -> float:
        """OpenHands' order of calls in the request that deletes: look at the container, stop it,
        remove it; look at its volume, remove it. How many seconds the request takes."""
        began = time.monotonic()
        seen = self._client.inspect_container(container_id)
        if seen["State"]["Status"] in ("running", "paused"):
            self._client.stop(container_id, timeout=grace_seconds)
        self._client.remove_container(container_id)
        for volume in (mount["Name"] for mount in seen["Mounts"] if mount["Type"] == "volume"):
            self._client.inspect_volume(volume)
            self._client.remove_volume(volume)
        return time.monotonic() - began

    def leave_stopped(self, spec: dict[str, Any]) -> str:
        """A container that ran and ended by itself, without network; its ID. `spec`'s command must
        end."""
        uid = str(uuid.uuid4())
        body = self.body(spec, uid)
        body["HostConfig"]["NetworkMode"] = "none"
        with self._gate:
            made = self._client.create_container_from_config(
                body, names.container_name(self._owner, uid)
            )["Id"]
            self._client.start(made)
            self._client.wait(made)
            return str(made)

    def stop_and_remove_all(self, ids: Iterable[str], grace_seconds: int) -> Ending:
        """A thread for each, since each waits out its grace period in one."""
        return Ending(self, list(ids), grace_seconds)

    def remove(self, container_id: str) -> None:
        try:
            self._client.remove_container(container_id, v=True, force=True)
        except APIError as error:
            if error.status_code not in (404, 409):  # gone, or its removal is under way
                raise

    def remove_all(self, ids: Iterable[str], width: int) -> None:
        with ThreadPoolExecutor(width) as pool:
            list(pool.map(self.remove, ids))

    def start_over(self) -> None:
        """After a scenario that failed: end its threads, and remove all containers made here."""
        self._gate.shut()
        mine = {"label": f"{names.OWNER_LABEL}={self._owner.label}"}
        self.remove_all((c["Id"] for c in self._client.containers(all=True, filters=mine)), 8)
        self._gate.open()

    def body(self, spec: dict[str, Any], uid: str = "") -> dict[str, Any]:
        """The body of the container's creation, as the operator makes it."""
        return container_body(self._owner, self.wanted(spec, uid))

    def wanted(self, spec: dict[str, Any], uid: str) -> ContainerSpec:
        """What the operator asks an engine to create for a Sandbox of this spec."""
        metadata = {
            "name": f"baseline-{next(self._numbers)}",
            "namespace": "default",
            "uid": uid,
            "resourceVersion": "1",
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        subject = Subject.read({"metadata": metadata, "spec": spec})
        if subject.spec is None:
            raise ValueError(f"not a valid spec: {subject.problem}")
        key = secrets.token_urlsafe(32)
        variables = dict.fromkeys(subject.spec.session_key.env_names, key)
        environment = Environment(variables, key, frozenset({key}))
        return container_spec(
            Entry(uid, subject), subject.spec, environment, self._rules, Settings().publish_address
        )


class Gate:
    """Held by whoever creates a container. Shut, it lets nobody in, and nobody is within."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._within = 0
        self._shut = False

    def __enter__(self) -> None:
        """Raises RuntimeError when shut."""
        with self._changed:
            if self._shut:
                raise RuntimeError("the scenario is over")
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._within -= 1
            self._changed.notify_all()

    def shut(self) -> None:
        """Returns when the last is out."""
        with self._changed:
            self._shut = True
            self._changed.wait_for(lambda: self._within == 0)

    def open(self) -> None:
        with self._changed:
            self._shut = False


class Ending:
    """Containers that are being stopped and removed."""

    def __init__(self, baseline: Baseline, ids: list[str], grace_seconds: int) -> None:
        self._pool = ThreadPoolExecutor(len(ids))
        self._lock = threading.Lock()
        self.began = time.monotonic()
        self.ends: list[float] = []
        """When each was gone, monotonic."""

        def end(container_id: str) -> None:
            baseline.stop_and_remove(container_id, grace_seconds)
            with self._lock:
                self.ends.append(time.monotonic())

        self._futures = [self._pool.submit(end, container_id) for container_id in ids]

    @property
    def over(self) -> bool:
        return all(future.done() for future in self._futures)

    def wait(self) -> None:
        for future in self._futures:
            future.result()
        self._pool.shutdown()
