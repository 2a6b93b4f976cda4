"""Docker, through docker-py's low-level client: the one file that imports it.

`DockerEngine` implements base.Engine. The client is synchronous, so every call takes a thread of
a lane. None waits for another's calls, but a burst of removals for what is being built:

    pulse      identify, which says whether the engine answers
    reads      list, find, inspect, environment, image_present, advisories
    builds     create, start, freeze, thaw, update_limits
    signals    signal_stop, kill
    removals   remove, remove_volume

Two calls stream: `events` and `pull` read with a thread each (`_Stream`), closable at once.
What is said to Docker and what it means is in dockerwords.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import posixpath
import tarfile
import threading
import uuid
from collections import defaultdict
from collections.abc import (
    AsyncGenerator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

import requests
import urllib3
from docker import APIClient, auth
from docker.errors import APIError, DockerException, InvalidRepository
from docker.transport import UnixHTTPAdapter
from docker.types import CancellableStream
from docker.utils import kwargs_from_env

from controller.core import names
from controller.core.names import Owner
from controller.core.reasons import Reason
from controller.core.state import Container, Holdings, Limits
from controller.engines import dockerwords as words
from controller.engines import pullpace, rootpaths
from controller.engines.base import (
    ContainerSpec,
    EngineEvent,
    EngineInfo,
    EngineRefused,
    EngineUnreachable,
    VolumeSpec,
)
from controller.engines.lanes import Answers, Lane, Removals
from controller.engines.pullpace import Pace
from controller.fairness import TENANT

T = TypeVar("T")
Rows = defaultdict[str, list[Any]]
"""Rows of one of Docker's lists, by Sandbox UID."""

_READERS = 4
_INSPECTIONS = 50
"""How many a thread does in one go: far below the timeout, and other reads get in between."""
_SIGNALLERS = 4
_PULL_SECONDS = 1200.0
"""Whatever the pull does meanwhile: at 10 MB/s it is an image of 12 GB."""
_PACE_CHECK_SECONDS = 1.0
_MAX_LINE = 1 << 20
"""Bytes of one line of a stream: events carry all labels, and a registry may say what it likes."""
_SILENT = "The engine does not answer"
_REMEMBERED = 1024
_GO_MODE_SYMLINK, _GO_MODE_DIRECTORY = 1 << 27, 1 << 31
"""fs.ModeSymlink and fs.ModeDir of Go, whose file modes Docker's API has."""
_ARCHIVE_BYTES = 32768
"""More than the headers of one file in an archive."""


class DockerEngine:
    """One Docker engine as one owner sees it. Connects with the first call, not before."""

    def __init__(
        self,
        owner: Owner,
        *,
        base_url: str | None = None,
        width: int = 8,
        timeout_seconds: float = 30.0,
        require_patched_runc: bool = False,
    ) -> None:
        """`base_url` None: DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH as Docker's CLI.

        `width` is how many builds run at once, and how many removals; of a burst of removals only
        a quarter as many while anything is built, since they keep Docker's disk busy.
        """
        self.owner = owner
        self._base_url = base_url
        self._timeout = timeout_seconds
        self._require_patched_runc = require_patched_runc
        self._runc_advisory: str | None = None
        self._images: dict[str, _EnginePaths] = {}
        self._new: dict[str, None] = {}
        """IDs of containers that were made with volumes that were made for them: while they have
        not run, Docker has filled those with what they hide, and so they hide nothing."""
        answers = Answers()
        self._pulse = Lane("docker-pulse", 1, answers)
        self._reads = Lane("docker-read", _READERS, answers)
        self._builds = Lane("docker-build", width, answers)
        self._signals = Lane("docker-signal", _SIGNALLERS, answers)
        self._removals = Removals("docker-remove", width, answers, self._builds)
        self._client: Any = None
        self._closed = False
        self._network_lock = threading.Lock()
        self._network_ready = False
        self._paces: set[Pace] = set()
        self._streams: set[_Stream] = set()

    # ------------------------------------------------------------ seeing

    async def identify(self) -> EngineInfo:
        info = await self._call(self._pulse, lambda client: client.info())
        return EngineInfo(
            id=info["ID"],
            version=info["ServerVersion"],
            runtimes=tuple(sorted(info.get("Runtimes") or ())),
        )

    async def list(self, known: Mapping[str, Holdings] | None = None) -> Mapping[str, Holdings]:
        labels = {names.OWNER_LABEL: self.owner.label}
        rows, volumes = await self._call(self._reads, lambda client: _labelled(client, labels))
        containers: dict[str, Container | None] = {}
        unseen: list[tuple[str, Any]] = []
        for uid, of_uid in rows.items():
            row = _own(self.owner, uid, of_uid)
            before = known[uid].container if known and uid in known else None
            if before is not None and _unchanged(row, before):
                containers[uid] = before
            else:
                unseen.append((uid, row))
        while unseen:
            batch, unseen = unseen[:_INSPECTIONS], unseen[_INSPECTIONS:]
            containers |= await self._call(self._reads, partial(_inspect, listed=batch))
        found = {
            uid: _holdings(containers.get(uid), volumes[uid], rows[uid] + volumes[uid])
            for uid in rows.keys() | volumes.keys()
        }
        return {uid: held for uid, held in found.items() if held != Holdings()}

    async def find(self, uid: str) -> Holdings:
        labels = {names.OWNER_LABEL: self.owner.label, names.UID_LABEL: uid}

        # One after the other in one thread: changing threads costs more than asking does.
        def find(client: Any) -> Holdings:
            rows = client.containers(all=True, filters=_label_filter(labels))
            container = _inspect(client, [(uid, _own(self.owner, uid, rows))] if rows else []).get(
                uid
            )
            volumes = _volumes_of(client, uid, labels)
            return _holdings(container, volumes, [*rows, *volumes])

        return await self._call(self._reads, find)

    async def inspect(self, container_id: str) -> Container | None:
        def inspect(client: Any) -> Container | None:
            with _tolerating(404):
                return words.container(client.inspect_container(container_id))
            return None

        return await self._call(self._reads, inspect)

    async def environment(self, container_id: str) -> Mapping[str, str]:
        details = await self._call(self._reads, lambda c: c.inspect_container(container_id))
        pairs = (entry.partition("=") for entry in details["Config"].get("Env") or ())
        return {name: value for name, _, value in pairs}

    async def advisories(self) -> tuple[str, ...]:
        advisory = await self._call(self._reads, self._ask_runc)
        return (advisory,) if advisory else ()

    async def image_present(self, image: str) -> bool:
        def inspect(client: Any) -> bool:
            words.check_image(image)
            with _tolerating(404):
                client.inspect_image(image)
                return True
            return False

        return await self._call(self._reads, inspect)

    # ------------------------------------------------------------ building

    async def create(self, spec: ContainerSpec) -> str:
        def create(client: Any) -> str:
            self._check_runc(client)
            if not self._network_ready:
                self._ensure_network(client)
            made = [self._ensure_volume(client, spec, volume) for volume in spec.volumes]
            container_id = self._create_container(client, spec)
            if all(made):
                self._remember(self._new, container_id, None)
            return container_id

        return await self._call(self._builds, create, secrets=spec.secrets)

    async def start(self, container_id: str) -> None:
        def start(client: Any) -> None:
            self._check_runc(client)
            details = client.inspect_container(container_id)
            state = details["State"]
            if state.get("Paused"):
                raise EngineRefused(Reason.START_FAILED, "The container is frozen: thaw it.")
            if state["Running"]:
                return  # should it end just now, then it would start without having been looked at
            if not (state.get("Dead") or state.get("RemovalInProgress")):  # these start never again
                self._check_paths(client, details)
            try:
                client.start(container_id)
            except APIError as error:
                told = error.explanation or ""
                if error.status_code == 409 and "marked for removal" in told:
                    # Someone removes it, or did not get through with that: it never starts again.
                    _remove_container(client, container_id)
                    raise words.refusal("no such container", Reason.CONTAINER_MISSING) from None
                if error.status_code != 404 or "network" not in told:
                    raise
                # Docker looks for the network only now: someone removed it.
                self._network_ready = False
                self._ensure_network(client)
                # One that ran before remembers the old network by its ID.
                network = names.network_name(self.owner)
                client.disconnect_container_from_network(container_id, network, force=True)
                client.connect_container_to_network(container_id, network)
                client.start(container_id)

        await self._call(self._builds, start, Reason.START_FAILED)

    async def freeze(self, container_id: str) -> None:
        def freeze(client: Any) -> None:
            with _tolerating(409, "already paused"):
                client.pause(container_id)

        await self._call(self._builds, freeze)

    async def thaw(self, container_id: str) -> None:
        def thaw(client: Any) -> None:
            with _tolerating(500, "is not paused"):
                client.unpause(container_id)
                return
            if not client.inspect_container(container_id)["State"]["Running"]:
                raise words.refusal("is not running", Reason.EXITED)

        await self._call(self._builds, thaw)

    async def update_limits(self, container_id: str, limits: Limits) -> None:
        def update(client: Any) -> None:
            # docker-py's own update_container lacks the limit of processes.
            url = client._url("/containers/{0}/update", container_id)
            client._raise_for_status(client._post_json(url, data=words.limits_body(limits)))

        await self._call(self._builds, update)

    # ------------------------------------------------------------ ending

    async def signal_stop(self, container_id: str) -> None:
        def signal(client: Any) -> None:
            with _tolerating(404), _tolerating(409, "is not running"):
                details = client.inspect_container(container_id)
                client.kill(container_id, details["Config"].get("StopSignal") or "SIGTERM")
                if details["State"]["Paused"]:
                    # Some versions thaw by themselves when the stop signal comes.
                    with _tolerating(500, "is not paused"):
                        client.unpause(container_id)

        await self._call(self._signals, signal)

    async def kill(self, container_id: str) -> None:
        def kill(client: Any) -> None:
            with _tolerating(404), _tolerating(409, "is not running"):
                client.kill(container_id, "SIGKILL")

        await self._call(self._signals, kill)

    async def remove(self, container_id: str) -> None:
        await self._call(
            self._removals,
            lambda client: _remove_container(client, container_id),
            Reason.CLEANUP_FAILED,
        )

    async def remove_volume(self, volume: str) -> None:
        def remove(client: Any) -> None:
            with _tolerating(404):
                labels = client.inspect_volume(volume).get("Labels") or {}
                # None at all: half made, and only `find` gives the name of such a one.
                if labels and labels.get(names.OWNER_LABEL) != self.owner.label:
                    raise _taken("volume", volume)
                client.remove_volume(volume)

        await self._call(self._removals, remove, Reason.CLEANUP_FAILED)

    # ------------------------------------------------------------ streaming

    async def pull(self, image: str) -> None:
        def request(client: Any) -> Any:
            words.check_image(image)
            name, tag = words.image_reference(image)
            try:
                registry, _ = auth.resolve_repository_name(name)
            except InvalidRepository as error:  # a DockerException, as is no answer at all
                raise words.refusal(str(error), Reason.INVALID_SPEC) from None
            login = auth.get_config_header(client, registry)
            try:
                # Docker answers once the registry has.
                response = client._post(
                    client._url("/images/create"),
                    params={"fromImage": name, "tag": tag},
                    headers={"X-Registry-Auth": login} if login else {},
                    stream=True,
                    timeout=(self._timeout, pullpace.SILENT_SECONDS),
                )
            except requests.ReadTimeout:
                fault = f"the registry did not answer within {pullpace.SILENT_SECONDS:.0f} s"
                raise words.pull_too_slow(image, fault) from None
            try:
                client._raise_for_status(response)
            except APIError as error:
                raise words.pull_refusal(image, error.explanation or "") from None
            # From here on it is the pace that says what is too slow.
            client._disable_socket_timeout(client._get_raw_response_socket(response))
            return response

        loop = asyncio.get_running_loop()
        pace = Pace(TENANT.get(), loop.time())
        self._paces.add(pace)
        try:
            async with asyncio.timeout(_PULL_SECONDS) as bound:
                watching = loop.create_task(self._watch(pace, bound))
                try:
                    async with contextlib.aclosing(self._stream(request)) as lines:
                        async for line in lines:
                            if line and "error" in line:
                                raise words.pull_refusal(image, str(line["error"]))
                            if line:
                                pace.line(line, loop.time())
                finally:
                    watching.cancel()
        except TimeoutError:
            fault = pace.given_up or f"it took over {_PULL_SECONDS / 60:.0f} minutes"
            raise words.pull_too_slow(image, fault) from None
        finally:
            self._paces.discard(pace)

    async def _watch(self, pace: Pace, bound: asyncio.Timeout) -> None:
        """End the pull that `bound` is the bound of, once its pace is at fault."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_PACE_CHECK_SECONDS)
            pace.given_up = pace.fault(loop.time(), self._paces - {pace})
            if pace.given_up is not None:
                bound.reschedule(loop.time())
                return

    async def events(self) -> AsyncGenerator[EngineEvent | None, None]:
        def request(client: Any) -> Any:
            # Docker sends the headers before it subscribes. Asking from the engine's own present
            # second on closes that gap; what this repeats does no harm.
            ping = client._get(client._url("/_ping", versioned_api=False))
            since = int(parsedate_to_datetime(ping.headers["Date"]).timestamp())
            filters = {
                "type": ["container"],
                "label": [f"{names.OWNER_LABEL}={self.owner.label}"],
                "event": list(words.EVENT_ACTIONS),
            }
            response = client._get(
                client._url("/events"),
                params={"since": since, "filters": json.dumps(filters)},
                stream=True,
            )
            client._raise_for_status(response)
            # Until here a timeout held; from here on silence is no fault.
            client._disable_socket_timeout(client._get_raw_response_socket(response))
            return response

        async with contextlib.aclosing(self._stream(request)) as lines:
            async for line in lines:
                if line is None:
                    yield None
                elif (event := words.event(line)) is not None:
                    yield event
        raise EngineUnreachable("The engine's event stream ended.")

    async def close(self) -> None:
        """End every stream and thread; a call in flight ends with its timeout at the latest."""
        self._closed = True  # What still waits for a thread ends as soon as it gets one.
        for stream in tuple(self._streams):
            stream.close()
        for lane in self._lanes:
            lane.threads.shutdown(wait=False)
        if self._client is not None:
            self._client.close()

    # ------------------------------------------------------------ calling

    @property
    def _lanes(self) -> tuple[Lane, ...]:
        return (self._pulse, self._reads, self._builds, self._signals, self._removals)

    async def _call(
        self,
        lane: Lane,
        verb: Callable[[Any], T],
        otherwise: Reason = Reason.ENGINE_REFUSED,
        secrets: frozenset[str] = frozenset(),
    ) -> T:
        """Run `verb` in a thread of `lane`, within the timeout from when it got one.

        A long queue is no outage, so waiting is not timed. But one call that finds the engine
        unreachable, while no other is answered, speaks for all that wait behind it: together they
        end within one timeout.
        """
        losses = lane.losses
        async with lane.turn():
            if self._closed or lane.losses != losses:
                raise EngineUnreachable("The engine did not answer the calls before this one.")
            loop = asyncio.get_running_loop()
            began = loop.time()
            running = loop.run_in_executor(lane.threads, self._translated, verb, otherwise, secrets)
            try:
                # The socket has the same timeout, so the thread is free at about the same time.
                answer = await asyncio.wait_for(running, self._timeout)
            except TimeoutError:
                lane.lost(began)
                raise EngineUnreachable(f"No answer within {self._timeout:g} s.") from None
            except EngineUnreachable:
                lane.lost(began)
                raise
            except EngineRefused:
                lane.answered()
                raise
            lane.answered()
            return answer

    def _translated(
        self, verb: Callable[[Any], T], otherwise: Reason, secrets: frozenset[str] = frozenset()
    ) -> T:
        """In a thread: `verb`, with its errors in base's words, and without its `secrets`.

        `from None` everywhere: the originals hold the request, which holds the environment.
        """
        try:
            try:
                return verb(self._connected())
            except requests.exceptions.ConnectionError:
                # A kept-alive connection that the engine closed, say in a restart. Every verb is
                # safe to repeat; a second failure is the engine's.
                return verb(self._connected())
        except APIError as error:
            explanation = error.explanation or ""
            if "client version" in explanation:
                self._client = None  # Another version of Docker came up: negotiate again.
                raise EngineUnreachable("The engine's API version changed.") from None
            if words.lost_engine(error.status_code, explanation):
                raise EngineUnreachable(words.told(explanation, secrets)) from None
            raise words.refusal(explanation, otherwise, secrets) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise EngineUnreachable(_unreachable(error)) from None
        except DockerException as error:  # How docker-py reports a failed version negotiation.
            raise EngineUnreachable(_unreachable(error)) from None

    def _connected(self) -> Any:
        """The client, negotiated on first use. No lock: at worst two threads negotiate at once."""
        if self._closed:
            raise EngineUnreachable("The connection to the engine was closed.")
        if self._client is None:
            place = kwargs_from_env()
            if self._base_url is not None:
                place["base_url"] = self._base_url
            over_socket = place.get("base_url", "unix://").startswith(("unix://", "http+unix://"))
            client = (_SocketClient if over_socket else APIClient)(
                version="auto",
                timeout=self._timeout,  # type: ignore[arg-type]  # A float is as good.
                max_pool_size=sum(lane.most for lane in self._lanes),
                **place,
            )
            # Reading proxies and netrc from the environment for each call costs more than the call.
            client.trust_env = False
            keep_connections(client)
            self._client = client
        return self._client

    async def _stream(
        self, request: Callable[[Any], Any]
    ) -> AsyncGenerator[dict[str, Any] | None, None]:
        """None once the answer has begun, then its JSON lines."""
        stream = _Stream(lambda: self._translated(request, Reason.ENGINE_REFUSED))
        self._streams.add(stream)
        try:
            while True:
                item = await stream.items.get()
                if isinstance(item, Exception):
                    raise item
                if item is _END:
                    return
                yield item
        finally:
            self._streams.discard(stream)
            stream.close()
            if stream.response is not None:
                await stream.ended.wait()

    # ------------------------------------------------------------ parts of verbs

    def _create_container(self, client: Any, spec: ContainerSpec) -> str:
        name = names.container_name(self.owner, spec.uid)
        if former := self._former_container(client, spec.uid):
            return former
        words.check_image(spec.image)
        image = _image(client, spec.image)
        config = image.get("Config") or {} if image else {}
        if complaint := words.image_complaint(config):
            raise EngineRefused(Reason.INVALID_SPEC, f"spec.image: {complaint}")
        body = words.container_body(self.owner, spec, config)
        for _ in range(2):
            with _tolerating(409, "already in use"):
                made = str(client.create_container_from_config(body, name)["Id"])
                # Its name may have moved meanwhile, to an image that nobody has looked at.
                if image is None or client.inspect_container(made)["Image"] != image["Id"]:
                    client.remove_container(made, v=True, force=True)
                    raise EngineRefused(
                        Reason.ENGINE_REFUSED, f"Image {spec.image} has just changed: tried again."
                    )
                return made
            with _tolerating(404):
                details = client.inspect_container(name)
                if not self._owns(details["Config"].get("Labels"), spec.uid):
                    raise _taken("container", name)
                return str(details["Id"])
        # Docker reserves a name before the container can be seen.
        raise EngineRefused(Reason.ENGINE_REFUSED, f"Container {name} is still being created.")

    def _former_container(self, client: Any, uid: str) -> str | None:
        """The ID of a container of ours that an earlier version made, perhaps with its last breath:
        the engine would not refuse a second one under the present name."""
        with _tolerating(404):
            details = client.inspect_container(names.former_container_name(uid))
            if self._owns(details["Config"].get("Labels"), uid):
                return str(details["Id"])
        return None

    def _ask_runc(self, client: Any) -> str:
        self._runc_advisory = words.runc_advisory(client.version())
        return self._runc_advisory

    def _check_runc(self, client: Any) -> None:
        """Only where the settings ask for it: with a runc that may lack a fix nothing is made or
        started. One that has it is asked for again with the next connection alone."""
        if not self._require_patched_runc or self._runc_advisory == "":
            return
        if advisory := self._ask_runc(client):
            raise EngineRefused(
                Reason.NOT_ALLOWED,
                f"{advisory} The setting require_patched_runc lets nothing start on it.",
            )

    def _check_paths(self, client: Any, details: Mapping[str, Any]) -> None:
        """Before every start: nothing that the engine resolves inside the container's root leads
        out of it (invariant 15). All mounts count, those of the image's VOLUME lines too."""
        container_id = details["Id"]
        if complaint := words.image_complaint(details["Config"], of_container=True):
            raise EngineRefused(Reason.INVALID_SPEC, f"spec.image: {complaint}")
        mounts, directory = words.resolved_paths(details)
        root = rootpaths.Root(partial(_ask, client, container_id))
        fresh = not words.has_run(details)
        trusted = not mounts or (fresh and container_id in self._new)
        known = self._images.get(details["Image"]) if fresh and trusted else None
        field = "spec.image: its file system"
        try:
            if known is None or mounts:
                # With mounts it is asked again where one of them changes what was seen before.
                known = known or _EnginePaths(rootpaths.check_engine(root), tuple(root.visited))
                places: dict[str, str] = {}
                for path, field in mounts.items():  # noqa: B007 - read below
                    places[path] = rootpaths.check_mount(root, path, known.files)
                is_mount = None if trusted else partial(_is_mount, client, container_id)
                rootpaths.check_together(root, places, is_mount)
                field = "spec.image: its file system"
                if rootpaths.disturbs(places.values(), known.visited):
                    rootpaths.check_engine(root)
                elif fresh and not mounts:
                    self._remember(self._images, details["Image"], known)
            if directory not in ("", "/"):
                field = "spec.workingDir (or the image's)"
                rootpaths.check_working_directory(root, directory)
        except rootpaths.UnsafePath as unsafe:
            if mounts and isinstance(unsafe, _Unfollowed):
                field = "spec.volumes"  # Docker mounts them to answer, whatever it is asked for
            field = mounts.get(unsafe.path, field)
            raise EngineRefused(Reason.INVALID_SPEC, f"{field}: {unsafe.why}.") from None

    @staticmethod
    def _remember(kept: dict[str, T], key: str, value: T) -> None:
        """Of the latest alone: a verb in another thread may have dropped one already."""
        kept[key] = value
        if len(kept) > _REMEMBERED:
            with contextlib.suppress(StopIteration, RuntimeError):
                kept.pop(next(iter(kept)), None)

    def _ensure_volume(self, client: Any, spec: ContainerSpec, volume: VolumeSpec) -> bool:
        """Docker answers with the volume that is there, if one is: whose it is, its labels tell.
        Returns whether there was none."""
        name = names.volume_name(spec.uid, volume.name)
        labels = words.volume_labels(self.owner, spec, volume)
        before = None
        with _tolerating(404):
            before = client.inspect_volume(name)
        found = client.create_volume(name, labels=labels)
        if not found.get("Labels"):  # half made: nothing has used it, or Docker would refuse
            client.remove_volume(name)
            found = client.create_volume(name, labels=labels)
        if not self._owns(found.get("Labels"), spec.uid):
            raise _taken("volume", name)
        return before is None

    def _ensure_network(self, client: Any) -> None:
        name = names.network_name(self.owner)
        with self._network_lock:
            if self._network_ready:
                return
            found = _networks(client, name)
            if not found:
                with _tolerating(409):
                    client.create_network(
                        name,
                        driver="bridge",
                        options={"com.docker.network.bridge.enable_icc": "false"},
                        labels={names.OWNER_LABEL: self.owner.label},
                        check_duplicate=True,
                    )
                found = _networks(client, name)
            for network in found:
                if (network.get("Labels") or {}).get(names.OWNER_LABEL) != self.owner.label:
                    raise _taken("network", name)
            # Older engines let two processes make two of one name, and then refuse the name.
            for network in found[1:]:
                client.remove_network(network["Id"])
            self._network_ready = True

    def _owns(self, labels: Mapping[str, str] | None, uid: str) -> bool:
        labels = labels or {}
        owner = labels.get(names.OWNER_LABEL)
        return owner == self.owner.label and labels.get(names.UID_LABEL) == uid


def _image(client: Any, image: str) -> Mapping[str, Any] | None:
    """An image's details; None where the engine has none of that name: then creating says so."""
    with _tolerating(404), _tolerating(400):
        return cast(Mapping[str, Any], client.inspect_image(image))
    return None


@dataclass(frozen=True, slots=True)
class _EnginePaths:
    """Of an image that was never run, without mounts: where the engine's own files are, and the
    paths that were looked at for it."""

    files: tuple[str, ...]
    visited: tuple[str, ...]


class _Unfollowed(rootpaths.UnsafePath):
    """The engine has no answer: a link leads to itself, or a file is where a directory should be,
    on the way to what was asked for or to a mount."""


def _stat(client: Any, container_id: str, path: str) -> dict[str, Any] | None:
    """What Docker says of a path of a stopped container: name, size, mode, mtime, linkTarget."""
    answer = client.head(
        client._url("/containers/{0}/archive", container_id),
        params={"path": path},
        timeout=client.timeout,
    )
    if answer.status_code == 404:
        return None
    if answer.status_code not in (200, 500):  # a 500 is for loops, and for files in the way
        client._raise_for_status(answer)
    stat = answer.headers.get("X-Docker-Container-Path-Stat")
    if answer.status_code != 200 or stat is None:
        raise _Unfollowed("has a path in it that the engine cannot follow to its end")
    return cast(dict[str, Any], json.loads(base64.b64decode(stat)))


def _ask(client: Any, container_id: str, path: str) -> rootpaths.Entry | None:
    """What is at a path whose directories hold no link."""
    stat = _stat(client, container_id, path)
    if stat is None:
        return None
    if stat["mode"] & _GO_MODE_SYMLINK:
        return rootpaths.Entry(_link_text(client, container_id, path))
    return rootpaths.Entry(directory=bool(stat["mode"] & _GO_MODE_DIRECTORY))


def _link_text(client: Any, container_id: str, path: str) -> str:
    """The text of a symlink. Docker's answer to HEAD says where it leads in the end, through links
    in /dev and /proc of the image too, which are hidden by the time the runtime follows it."""
    answer = client.get(
        client._url("/containers/{0}/archive", container_id),
        params={"path": path},
        stream=True,
        timeout=client.timeout,
    )
    with contextlib.closing(answer):
        client._raise_for_status(answer)
        read = b""
        for chunk in answer.iter_content(_ARCHIVE_BYTES):
            read += chunk
            if len(read) >= _ARCHIVE_BYTES:
                break
    with (
        contextlib.suppress(tarfile.TarError, StopIteration),
        tarfile.open(fileobj=io.BytesIO(read), mode="r:") as tar,
    ):
        first = next(iter(tar))
        if first.issym():
            return first.linkname
    raise rootpaths.UnsafePath("has a symbolic link in it that the engine cannot read")


def _is_mount(client: Any, container_id: str, place: str) -> bool:
    """Whether something is mounted right at this directory of a stopped container.

    Docker has no question for that. It is asked to unpack a hard link to a directory, which the
    kernel always refuses: across mounts with one word, and within one with another.
    """
    parent, name = posixpath.dirname(place), f".{uuid.uuid4().hex}"
    for directory, target in ((parent, place), (place, parent)):
        entry = tarfile.TarInfo(posixpath.join(directory, name).lstrip("/"))
        entry.type, entry.linkname = tarfile.LNKTYPE, target.lstrip("/")
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.addfile(entry)
        answer = client.put(
            client._url("/containers/{0}/archive", container_id),
            params={"path": "/"},
            data=archive.getvalue(),
            timeout=client.timeout,
        )
        if answer.status_code == 404:
            client._raise_for_status(answer)
        said = answer.text[:_ARCHIVE_BYTES]
        if "invalid cross-device link" in said:
            break
        if "operation not permitted" in said:
            return False
        if "read-only file system" in said:
            continue  # a link the other way round may be allowed
        raise rootpaths.UnsafePath("lies where the engine cannot say what is mounted")
    else:
        raise rootpaths.UnsafePath("lies in a volume that is read-only, and is read-only itself")
    # Docker before 23 leaves what it mounted over the root for these questions mounted there, and
    # from then on mounts it a second time for each of them, where its path leads to by then.
    stats = [_stat(client, container_id, path) or {} for path in ("/", place)]
    here, root = ({key: stat.get(key) for key in ("size", "mode", "mtime")} for stat in stats)
    return here != root


class _SocketClient(APIClient):
    """Requests over a Unix socket without what only the web needs: parsing the address, cookies,
    hooks, redirects, proxies, credentials. It is half of what a call costs here."""

    def request(  # type: ignore[override]
        self,
        method: str,
        url: str,
        params: Mapping[str, Any] | None = None,
        data: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: Any = None,
        stream: bool = False,
        allow_redirects: bool = True,  # the engine makes none
        **others: Any,
    ) -> requests.Response:
        if unknown := {name: value for name, value in others.items() if value is not None}:
            raise TypeError(f"not sent over a socket: {sorted(unknown)}")
        request = requests.PreparedRequest()
        request.method = method.upper()
        request.url = f"{url}?{urlencode(_told_params(params))}" if params else url
        request.headers = cast(Any, self.headers).copy()
        request.headers.update(headers or {})
        request.body = data.encode() if isinstance(data, str) else data
        if request.body is not None or request.method != "GET":
            request.headers["Content-Length"] = str(len(request.body or b""))
        answer = self.get_adapter(url).send(request, stream=True, timeout=timeout)
        if not stream:
            answer.content  # noqa: B018 - reads it, and gives the connection back
        return answer


def _told_params(params: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """As requests has them: one for each of several values, none for None."""
    pairs: list[tuple[str, Any]] = []
    for name, value in params.items():
        several = value if isinstance(value, list | tuple) else [value]
        pairs += ((name, one) for one in several if one is not None)
    return pairs


class _OnePool(UnixHTTPAdapter):
    """docker-py makes a pool of connections for each URL, and so uses hardly one of them twice."""

    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:
        return super().get_connection("http+docker://", proxies)


def keep_connections(client: Any) -> None:
    """Have a client that speaks to a Unix socket use its connections again."""
    place = "http+docker://"
    adapter = client.adapters.get(place)
    if isinstance(adapter, UnixHTTPAdapter):
        kept = _OnePool(
            adapter.socket_path, timeout=adapter.timeout, max_pool_size=adapter.max_pool_size
        )
        client.mount(place, kept)
        adapter.close()


_END = object()


class _Stream:
    """An answer that comes line by line, read by a thread of its own into `items`.

    `items` gets None (the answer has begun; later: a line was left out), JSON objects, then an
    EngineError or _END.
    """

    def __init__(self, request: Callable[[], Any]) -> None:
        self.items: asyncio.Queue[Any] = asyncio.Queue()
        self.ended = asyncio.Event()
        self.response: Any = None
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._closed = False
        # A daemon: one that still waits for the engine's first byte must not hold up the exit.
        threading.Thread(target=self._read, name="docker-stream", daemon=True).start()

    def close(self) -> None:
        """End the thread at once, from any thread."""
        with self._lock:
            self._closed = True
            if self.response is not None:
                with contextlib.suppress(OSError, AttributeError, DockerException):
                    CancellableStream(iter(()), self.response).close()

    def _read(self) -> None:
        end: Any = _END
        try:
            response = self._request()
            with self._lock:
                if self._closed:
                    response.close()
                    return
                self.response = response
            self._put(None)
            for line in _lines(response.iter_content(chunk_size=None)):
                # What is too long is left out: a None says that something was missed.
                self._put(None if line is None else json.loads(line))
        except (EngineRefused, EngineUnreachable) as error:
            end = error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            end = EngineUnreachable(_unreachable(error))
        except (ValueError, RecursionError, AttributeError):
            # Half a line; a nest of brackets; a response closed while it was read.
            end = EngineUnreachable("The engine's answer broke off.")
        finally:
            self._put(end)
            with contextlib.suppress(RuntimeError):  # The event loop is closed.
                self._loop.call_soon_threadsafe(self.ended.set)

    def _put(self, item: Any) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.items.put_nowait, item)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes | None]:
    """The lines of an answer that are not empty; None in place of each that is longer than
    _MAX_LINE. A line in many chunks is put together once, so it costs what its length does."""
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        for number, piece in enumerate(chunk.split(b"\n")):
            if number:  # a line ends before this piece
                if size > _MAX_LINE:
                    yield None
                elif line := b"".join(parts).strip():
                    yield line
                parts, size = [], 0
            size += len(piece)
            if size <= _MAX_LINE:
                parts.append(piece)
            else:
                parts.clear()
    if size > _MAX_LINE:
        yield None
    elif line := b"".join(parts).strip():
        yield line


@contextlib.contextmanager
def _tolerating(status: int, text: str = "") -> Iterator[None]:
    """Pass over Docker's answer `status` whose explanation holds `text`."""
    try:
        yield
    except APIError as error:
        if error.status_code != status or text not in (error.explanation or ""):
            raise


def _remove_container(client: Any, container_id: str) -> None:
    """By force, with its anonymous volumes. A removal that is under way is waited for, as one's own
    would be: told that it is done, the caller would ask again at once, and again."""
    with _tolerating(404):
        with _tolerating(409, "already in progress"):
            client.remove_container(container_id, v=True, force=True)
            return
        client.wait(container_id, timeout=client.timeout, condition="removed")


def _labelled(client: Any, labels: Mapping[str, str]) -> tuple[Rows, Rows]:
    """Rows of the lists of containers and of volumes that carry `labels`."""
    filters = _label_filter(labels)
    containers = client.containers(all=True, filters=filters)
    volumes = client.volumes(filters=filters)["Volumes"] or ()
    return _by_uid(containers), _by_uid(volumes)


def _volumes_of(client: Any, uid: str, labels: Mapping[str, str]) -> list[Any]:
    """Rows of the volumes of one UID: found by name, ours by their labels or without any. Docker
    stores the labels last, and a dockerd that is killed just before comes back with a volume that
    has none; then the name says whose it is."""
    prefix = names.volume_name(uid, "")
    rows = client.volumes(filters={"name": prefix})["Volumes"] or ()
    found = [
        row | {"Labels": row.get("Labels") or {}}
        for row in rows
        if row["Name"].startswith(prefix)
        and (not row.get("Labels") or labels.items() <= row["Labels"].items())
    ]
    return sorted(found, key=lambda row: not row["Labels"])  # who it is for, the first one tells


def _label_filter(labels: Mapping[str, str]) -> dict[str, list[str]]:
    return {"label": [f"{name}={value}" for name, value in labels.items()]}


def _by_uid(rows: Iterable[Any]) -> Rows:
    grouped = Rows(list)
    for row in rows:
        grouped[row["Labels"].get(names.UID_LABEL, "")].append(row)
    return grouped


def _own(owner: Owner, uid: str, rows: Sequence[Any]) -> Any:
    """The container of ours. A copy of its labels under another name is seen once ours is gone."""
    present = f"/{names.container_name(owner, uid)}"
    former = f"/{names.former_container_name(uid)}"
    return min(rows, key=lambda row: (present not in row["Names"], former not in row["Names"]))


def _inspect(client: Any, listed: Iterable[tuple[str, Any]]) -> dict[str, Container | None]:
    """By UID, in detail; None where one went after it was listed."""
    found: dict[str, Container | None] = {}
    for uid, row in listed:
        found[uid] = None
        with _tolerating(404):
            found[uid] = words.container(client.inspect_container(row["Id"]))
    return found


def _holdings(
    container: Container | None, volumes: Sequence[Any], labelled: Sequence[Any]
) -> Holdings:
    """`labelled`: the rows whose labels tell whose all this is."""
    if container is None and not volumes:
        return Holdings()
    labels = labelled[0]["Labels"]
    managed, retained = words.holdings_volumes(volumes)
    return Holdings(
        container=container,
        volumes=managed,
        retained=retained,
        namespace=labels.get(names.NAMESPACE_LABEL, ""),
        name=labels.get(names.SANDBOX_LABEL, ""),
    )


def _networks(client: Any, name: str) -> list[Any]:
    """Those of exactly this name (Docker's filter matches parts of names), the oldest first."""
    found = [n for n in client.networks(names=[name]) if n["Name"] == name]
    return sorted(found, key=lambda network: str(network["Created"]))


def _unchanged(row: Mapping[str, Any], before: Container) -> bool:
    return (
        bool(row["Id"] == before.id)
        and words.run_state(row["State"]) is before.run
        and words.listed_ports(row) == before.ports
    )


def _taken(kind: str, name: str) -> EngineRefused:
    return EngineRefused(
        Reason.NAME_CONFLICT,
        f"The engine has a {kind} {name} that is not this Sandbox's: remove or rename it.",
    )


def _unreachable(error: Exception) -> str:
    """The kind of the error and the system's word for it. Its own text may hold what came instead
    of an answer: half of a container's environment, or of the request's."""
    cause: BaseException | None = error
    while cause is not None and not getattr(cause, "strerror", None):
        cause = cause.__cause__ or cause.__context__
    why = f": {getattr(cause, 'strerror', '')}" if cause is not None else ""
    return words.plain(f"{_SILENT}: {type(error).__name__}{why}")
