"""KubernetesSandboxService: what an application does with sandboxes.

    search_sandboxes, get_sandbox, batch_get_sandboxes, get_sandbox_by_session_api_key
    start_sandbox, pause_sandbox, resume_sandbox, delete_sandbox
    wait_for_sandbox_running

Verbs and the shapes of their calls follow OpenHands's SandboxService. Writes return when the API
server has accepted them; the operator does the rest.
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from kubernetes.aio.client.api_client import ApiClient

from controller.client import ids, keys, objects
from controller.client.api import Api, Json
from controller.client.connection import connect
from controller.client.errors import (
    SandboxConflict,
    SandboxFailed,
    SandboxNotFound,
    SandboxRefused,
    SandboxTimeout,
)
from controller.client.following import follow
from controller.client.models import SandboxInfo, SandboxPage, SandboxStatus
from controller.client.objects import Object
from controller.client.paging import Place, objects_from
from controller.core.names import (
    API_VERSION,
    KEY_HASH_LABEL,
    KIND,
    NAME_LABEL,
    RESUME_REQUESTED_AT,
    key_hash,
)

AT_ONCE = 16
"""Requests that one call makes at the same time."""
NAMES_PER_LIST = 100
"""Names in one set selector: at 63 characters each a URL of 7 KB, and proxies stop at 8."""
ATTEMPTS = 5
"""Of a write that found another object under the name than the one it had read."""

T = TypeVar("T")


class KubernetesSandboxService:
    """Sandboxes of one namespace. Use it as an async context manager.

    Every method may raise SandboxForbidden, SandboxUnavailable and SandboxRefused beside what it
    names itself.
    """

    def __init__(
        self,
        namespace: str,
        client: ApiClient | None = None,
        *,
        kubeconfig: str | Path | None = None,
        context: str | None = None,
        default_spec: Mapping[str, Any] | None = None,
        request_timeout: float = 30.0,
    ) -> None:
        """Connects on entry: by `client`, which stays the caller's to close, by `kubeconfig` and
        `context`, or by the service account of the Pod. `default_spec` is a Sandbox's spec in the
        API's words (camelCase), for what start_sandbox is not told; seconds bound each request.
        """
        self._namespace = namespace
        self._client = client
        self._own = client is None
        self._kubeconfig, self._context = kubeconfig, context
        self._default_spec = copy.deepcopy(dict(default_spec or {}))
        self._request_timeout = request_timeout
        self._connected: Api | None = None

    async def __aenter__(self) -> Self:
        if self._client is None:
            self._client = await connect(self._kubeconfig, self._context)
        self._connected = Api(self._client, self._namespace, self._request_timeout)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connected = None
        if self._own and self._client is not None:
            client, self._client = self._client, None
            await client.close()

    @property
    def _api(self) -> Api:
        if self._connected is None:
            raise RuntimeError("use the service inside `async with`")
        return self._connected

    # --- reading -----------------------------------------------------------------------------

    async def search_sandboxes(
        self,
        page_id: str | None = None,
        limit: int = 100,
        *,
        created_by_user_id: str | None = None,
    ) -> SandboxPage:
        """Up to `limit` (>= 1) sandboxes in the order of their objects' names.

        Those being deleted are left out, and the page is filled past them. So are objects that
        no id leads to (ids.id_of). Pass `page_id` with the same user. Raises InvalidPageId.
        """
        if limit < 1:
            raise ValueError("limit should be 1 or more")
        place = Place.parse(page_id)
        selector = "status.phase!=DELETING"
        if created_by_user_id is not None:
            selector += f",spec.createdByUserId={_selectable(created_by_user_id)}"
        found: list[Object] = []
        while True:
            objs, place = await objects_from(self._api, place, limit - len(found), selector)
            # A deletion the operator has not marked yet has no phase to select by.
            found += [
                obj for obj in objs if objects.is_live(obj) and objects.identity(obj) is not None
            ]
            if len(found) >= limit or not place.token:
                break
        items = await _together(self._info, found)
        return SandboxPage(items=items, next_page_id=place.page_id())

    async def get_sandbox(self, sandbox_id: str) -> SandboxInfo | None:
        """None if there is none, or it is being deleted."""
        obj = await self._live(sandbox_id)
        return None if obj is None else await self._info(obj)

    async def batch_get_sandboxes(self, sandbox_ids: Sequence[str]) -> list[SandboxInfo | None]:
        """One for each id, in their order; None where get_sandbox says None."""
        names = list(dict.fromkeys(ids.object_name(i) for i in sandbox_ids))
        chunks = [names[i : i + NAMES_PER_LIST] for i in range(0, len(names), NAMES_PER_LIST)]
        found = {
            obj["metadata"]["name"]: obj
            for objs in await _together(self._labelled, chunks)
            for obj in objs
        }
        # The operator writes the label with its finalizer, so a young sandbox lacks it.
        rest = await _together(self._api.get, [name for name in names if name not in found])
        found |= {obj["metadata"]["name"]: obj for obj in rest if obj is not None}
        known = {objects.identity(obj): obj for obj in found.values() if objects.is_live(obj)}
        wanted = [i for i in dict.fromkeys(sandbox_ids) if i in known]
        infos = dict(
            zip(wanted, await _together(self._info, [known[i] for i in wanted]), strict=True)
        )
        return [infos.get(i) for i in sandbox_ids]

    async def get_sandbox_by_session_api_key(self, session_api_key: str) -> SandboxInfo | None:
        """The sandbox this key opens, in any phase but DELETING; None if there is none.

        Found by a label that holds the key's hash, and verified against the Secret. Raises
        SandboxForbidden where the caller may not read it: an unverified hit is no answer.
        """
        if not session_api_key.isascii():
            return None  # no header can carry it, and encoding it may fail with it in the error
        selector = f"{KEY_HASH_LABEL}={key_hash(session_api_key)}"
        listing = await self._api.list(labelSelector=selector)
        for obj in listing["items"]:
            if (
                objects.is_live(obj)
                and objects.identity(obj) is not None
                and await keys.belongs(self._api, obj, session_api_key)
            ):
                return await self._info(obj)
        return None

    # --- writing -----------------------------------------------------------------------------

    async def start_sandbox(
        self,
        sandbox_spec_id: str | None = None,
        sandbox_id: str | None = None,
        extra_env: Mapping[str, str] | None = None,
        *,
        created_by_user_id: str | None = None,
        spec: Mapping[str, Any] | None = None,
    ) -> SandboxInfo:
        """Ask for a sandbox; it is STARTING when this returns.

        sandbox_spec_id     the image; without it, the one of `spec` or of the default spec
        sandbox_id          any text; without it, a new random one
        extra_env           variables that win over the spec's of the same name
        created_by_user_id  for search_sandboxes; a claim that nobody verifies
        spec                fields of a Sandbox's spec in the API's words (camelCase); each
                            replaces the default spec's field of that name as a whole

        Asking again with the id of a living sandbox of the same user and image returns that one,
        so a call whose answer was lost can be repeated. Raises SandboxConflict where the id is
        another's or still being deleted, SandboxRefused with the field's path where the spec is
        invalid, ValueError for an id that is not valid Unicode.
        """
        sandbox_id = uuid.uuid4().hex if sandbox_id is None else sandbox_id
        sandbox_id.encode()  # a lone surrogate would reach the API server as another id
        wanted = copy.deepcopy({**self._default_spec, **(spec or {})})
        if sandbox_spec_id is not None:
            wanted["image"] = sandbox_spec_id
        if created_by_user_id is not None:
            wanted["createdByUserId"] = created_by_user_id
        if extra_env:
            kept = [entry for entry in wanted.get("env", []) if entry["name"] not in extra_env]
            wanted["env"] = kept + [{"name": n, "value": v} for n, v in extra_env.items()]
        name = ids.object_name(sandbox_id)
        metadata = {"name": name, "annotations": ids.annotations_of(sandbox_id)}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": wanted}
        for _ in range(ATTEMPTS):
            try:
                return await self._info(await self._api.create(body))
            except SandboxRefused as error:
                if error.reason != "AlreadyExists":
                    raise
            if (present := await self._api.get(name)) is not None:
                _same(sandbox_id, present, wanted)
                return await self._info(present)
        raise SandboxConflict(sandbox_id, "is created and deleted by others all the time")

    async def pause_sandbox(self, sandbox_id: str) -> bool:
        """Ask for a pause. False if there is no such sandbox, or it is being deleted."""

        def pause(obj: Object) -> Json | None:
            paused = obj["spec"].get("operatingMode") == "Paused"
            return None if paused else {"spec": {"operatingMode": "Paused"}}

        return await self._change(sandbox_id, pause)

    async def resume_sandbox(self, sandbox_id: str) -> bool:
        """Ask to run again, also where the operator suspended it by a policy. False as above."""

        def resume(obj: Object) -> Json:
            return {
                "metadata": {"annotations": {RESUME_REQUESTED_AT: _after_suspension(obj)}},
                "spec": {"operatingMode": "Running"},
            }

        return await self._change(sandbox_id, resume)

    async def delete_sandbox(self, sandbox_id: str) -> bool:
        """Ask to delete it; never waits for its container. False if there is no such sandbox.

        True also for one that is being deleted already, so a call can be repeated.
        """
        for _ in range(ATTEMPTS):
            obj = await self._object(sandbox_id)
            if obj is None:
                return False
            if not objects.is_live(obj):
                return True
            try:
                metadata = obj["metadata"]
                return await self._api.delete(metadata["name"], metadata["uid"]) is not None
            except SandboxRefused as error:
                if error.status != 409:
                    raise
        raise SandboxConflict(sandbox_id, "is replaced by others all the time")

    # --- waiting -----------------------------------------------------------------------------

    async def wait_for_sandbox_running(
        self, sandbox_id: str, timeout: float = 120.0
    ) -> SandboxInfo:
        """Wait, at most `timeout` seconds, until it is RUNNING; returns it with its key.

        A status from before the last pause or resume does not count. A PAUSED one is waited for,
        since another may resume it. Raises SandboxFailed with the reason as soon as it is in
        ERROR or MISSING, SandboxNotFound when it does not exist or is deleted meanwhile, and
        SandboxTimeout. One connection is held while it waits.
        """
        status: SandboxStatus | None = None
        try:
            async with (
                asyncio.timeout(timeout),
                aclosing(follow(self._api, ids.object_name(sandbox_id))) as states,
            ):
                async for obj in states:
                    if obj is None or objects.identity(obj) != sandbox_id:
                        raise SandboxNotFound(
                            sandbox_id, "was deleted" if status else "does not exist"
                        )
                    status = objects.status(obj)
                    if status is SandboxStatus.DELETING:
                        raise SandboxNotFound(sandbox_id, "is being deleted")
                    if not objects.is_current(obj):
                        continue
                    if status in (SandboxStatus.ERROR, SandboxStatus.MISSING):
                        raise SandboxFailed(sandbox_id, status, *objects.cause(obj))
                    if status is SandboxStatus.RUNNING:
                        return await self._info(obj)
        except TimeoutError:
            pass
        raise SandboxTimeout(sandbox_id, timeout, status)

    # --- inside ------------------------------------------------------------------------------

    async def _object(self, sandbox_id: str) -> Json | None:
        """The object of this id, live or not; None also where its annotation is another id."""
        obj = await self._api.get(ids.object_name(sandbox_id))
        return obj if obj is not None and objects.identity(obj) == sandbox_id else None

    async def _live(self, sandbox_id: str) -> Json | None:
        obj = await self._object(sandbox_id)
        return obj if obj is not None and objects.is_live(obj) else None

    async def _labelled(self, names: Sequence[str]) -> Sequence[Object]:
        listing = await self._api.list(labelSelector=f"{NAME_LABEL} in ({','.join(names)})")
        # A label is written by whoever writes the object: what it says is not who it is.
        return [obj for obj in listing["items"] if obj["metadata"]["name"] in names]

    async def _info(self, obj: Object) -> SandboxInfo:
        """Of an object that has an id."""
        sandbox_id = objects.identity(obj)
        assert sandbox_id is not None  # noqa: S101 - for the type checker
        return objects.info(obj, sandbox_id, await keys.key_of(self._api, obj))

    async def _change(self, sandbox_id: str, change: Callable[[Object], Json | None]) -> bool:
        """Patch the very object that was read. `change` returns None where nothing is to do."""
        for _ in range(ATTEMPTS):
            obj = await self._live(sandbox_id)
            if obj is None:
                return False
            patch = change(obj)
            if patch is None:
                return True
            metadata = obj["metadata"]
            patch["metadata"] = {**patch.get("metadata", {}), "uid": metadata["uid"]}
            try:
                return await self._api.patch(metadata["name"], patch) is not None
            except SandboxRefused as error:
                if error.status != 409:
                    raise
        raise SandboxConflict(sandbox_id, "is changed by others all the time")


def _same(sandbox_id: str, present: Object, wanted: Mapping[str, Any]) -> None:
    """Raises SandboxConflict unless `present` is what start_sandbox was asked for."""
    if objects.identity(present) != sandbox_id:
        raise SandboxConflict(sandbox_id, "cannot be made: its object's name is another's")
    if not objects.is_live(present):
        raise SandboxConflict(sandbox_id, "is being deleted; use another id, or try again later")
    if objects.user(present) != wanted.get("createdByUserId"):
        raise SandboxConflict(sandbox_id, "is another user's; use another id")
    if present["spec"].get("image") != wanted.get("image"):
        raise SandboxConflict(sandbox_id, "exists with another image; use another id")


def _after_suspension(obj: Object) -> str:
    """Now, or just after the operator's suspension where its clock is ahead of this one."""
    moment = datetime.now(UTC)
    suspended = (obj.get("status") or {}).get("suspended")
    if suspended:
        moment = max(moment, datetime.fromisoformat(suspended["at"]) + timedelta(microseconds=1))
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _selectable(value: str) -> str:
    """Escaped as field selectors want it (k8s.io/apimachinery/pkg/fields EscapeValue)."""
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


S = TypeVar("S")


async def _together(verb: Callable[[S], Coroutine[Any, Any, T]], of: Iterable[S]) -> list[T]:
    """The verb's results in order, AT_ONCE at a time; the first failure ends the others."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(item: S) -> T:
        async with slots:
            return await verb(item)

    tasks = [asyncio.create_task(one(item)) for item in of]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
