"""The part of the Kubernetes API that controller.client uses, in memory, on loopback.

FakeApi keeps objects and the log of their changes; lists with `continue` are answered from the
state of their version, watches from the log. `tests/unit/client/contract.py` holds it to what the
real API server does. Faults: `forbidden`, `failures`, `expire`, `drop_watches`.
"""

import asyncio
import base64
import copy
import itertools
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiohttp import web

Json = dict[str, Any]

_PATH = re.compile(
    r"/apis?/.*namespaces/[^/]+/(?P<kind>[a-z]+)(/(?P<name>[^/]+))?(?P<sub>/status)?"
)


class Refused(Exception):
    def __init__(self, code: int, reason: str, message: str, **metadata: str) -> None:
        self.status: Json = {
            "kind": "Status",
            "code": code,
            "reason": reason,
            "message": message,
            "metadata": metadata,
        }


class FakeApi:
    """`url` serves while `async with` is open."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        """Method and full URL of every request, in order."""
        self.in_flight: Counter[str] = Counter()
        self.most_in_flight: Counter[str] = Counter()
        """By kind of object."""
        self.forbidden: set[str] = set()
        """Kinds that nobody may read or write."""
        self.failures: list[int | Refused] = []
        """What the next requests are answered with, before any is served again."""
        self.before_answer: Callable[[str], Awaitable[None]] | None = None
        """Called with the kind when an answer is ready and not yet sent."""
        self.mute_expiry = False
        """Expired lists are not told where to go on."""
        self.watching = asyncio.Event()
        """Set once a watch is open."""
        self.unwatched = asyncio.Event()
        """Set once a watch has ended."""
        self._log: list[tuple[int, str, str, Json]] = []
        self._now: dict[tuple[str, str], Json] = {}
        self._version = itertools.count(1)
        self._last, self._oldest = 0, 0
        self._changed = asyncio.Condition()
        self._watches: set[web.StreamResponse] = set()
        self._generation_of_watches = 0

    async def __aenter__(self) -> "FakeApi":
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.drop_watches()
        await self._runner.cleanup()

    def expire(self) -> None:
        """As after a compaction: every version before now is too old."""
        self._oldest = self._last + 1
        next(self._version)
        self._last += 1

    async def drop_watches(self) -> None:
        """Every open watch ends."""
        self._generation_of_watches += 1
        self.watching.clear()
        async with self._changed:
            self._changed.notify_all()

    # --- serving -----------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.url}")
        found = _PATH.fullmatch(request.path)
        if found is None:
            return web.Response(status=404, text="404 page not found")
        kind, name = found["kind"], found["name"]
        self.in_flight[kind] += 1
        self.most_in_flight[kind] = max(self.most_in_flight[kind], self.in_flight[kind])
        try:
            if self.failures:
                failure = self.failures.pop(0)
                raise failure if isinstance(failure, Refused) else Refused(failure, "", "no")
            if kind in self.forbidden:
                raise Refused(403, "Forbidden", f"you may not touch {kind}")
            if request.query.get("watch"):
                return await self._watch(request, kind)
            body = await request.json() if request.can_read_body else {}
            answer = await self._answer(request, kind, name, body, status=bool(found["sub"]))
            if self.before_answer is not None:
                await self.before_answer(kind)
            return web.json_response(answer, status=201 if request.method == "POST" else 200)
        except Refused as refused:
            return web.json_response(refused.status, status=refused.status["code"])
        finally:
            self.in_flight[kind] -= 1

    async def _answer(
        self, request: web.Request, kind: str, name: str | None, body: Json, *, status: bool
    ) -> Json:
        if name is None:
            if request.method == "POST":
                return await self._create(kind, body)
            return self._list(kind, request)
        if (kind, name) not in self._now:
            raise Refused(404, "NotFound", f"{kind} {name!r} not found")
        present = self._now[kind, name]
        match request.method:
            case "PATCH":
                return await self._patch(kind, present, body, status=status)
            case "DELETE":
                _same_uid(present, body.get("preconditions", {}))
                return await self._delete(kind, present)
        return present

    # --- writing -----------------------------------------------------------------------------

    async def _create(self, kind: str, body: Json) -> Json:
        name = body["metadata"]["name"]
        if (kind, name) in self._now:
            raise Refused(409, "AlreadyExists", f"{kind} {name!r} already exists")
        obj = copy.deepcopy(body)
        if kind == "secrets" and "stringData" in obj:
            texts = obj.pop("stringData").items()
            obj["data"] = {k: base64.b64encode(v.encode()).decode() for k, v in texts}
        obj["metadata"] |= {"uid": str(uuid4()), "creationTimestamp": _now(), "generation": 1}
        return await self._store("ADDED", kind, obj)

    async def _patch(self, kind: str, present: Json, body: Json, *, status: bool) -> Json:
        _same_uid(present, body.get("metadata", {}))
        obj = _merged(present, {"status": body["status"]} if status else body)
        if obj == present:
            return present
        if obj.get("spec") != present.get("spec"):
            obj["metadata"]["generation"] += 1
        if obj["metadata"].get("deletionTimestamp") and not obj["metadata"].get("finalizers"):
            return await self._store("DELETED", kind, obj)
        return await self._store("MODIFIED", kind, obj)

    async def _delete(self, kind: str, present: Json) -> Json:
        obj = copy.deepcopy(present)
        if not obj["metadata"].get("finalizers"):
            return await self._store("DELETED", kind, obj)
        if not obj["metadata"].get("deletionTimestamp"):
            obj["metadata"]["deletionTimestamp"] = _now()
            return await self._store("MODIFIED", kind, obj)
        return obj

    async def _store(self, type_: str, kind: str, obj: Json) -> Json:
        self._last = next(self._version)
        obj["metadata"]["resourceVersion"] = str(self._last)
        self._log.append((self._last, type_, kind, obj))
        if type_ == "DELETED":
            del self._now[kind, obj["metadata"]["name"]]
        else:
            self._now[kind, obj["metadata"]["name"]] = obj
        async with self._changed:
            self._changed.notify_all()
        return obj

    # --- reading -----------------------------------------------------------------------------

    def _list(self, kind: str, request: web.Request) -> Json:
        version, start = self._last, ""
        if token := request.query.get("continue"):
            try:
                version, start = json.loads(base64.b64decode(token))
            except ValueError:
                raise Refused(400, "BadRequest", "continue key is not valid") from None
            if version == -1:
                version = self._last
            elif version < self._oldest:
                fresh = {} if self.mute_expiry else {"continue": _token(-1, start)}
                raise Refused(410, "Expired", "the provided continue parameter is too old", **fresh)
        state: dict[str, Json] = {}
        for at, type_, of, obj in self._log:
            if of == kind and at <= version:
                state.pop(obj["metadata"]["name"], None)
                if type_ != "DELETED":
                    state[obj["metadata"]["name"]] = obj
        chosen = [state[n] for n in sorted(state) if n > start and _selected(state[n], request)]
        limit = int(request.query.get("limit", 0)) or len(chosen)
        metadata = {"resourceVersion": str(version)}
        if len(chosen) > limit:
            metadata["continue"] = _token(version, chosen[limit - 1]["metadata"]["name"])
        return {"items": chosen[:limit], "metadata": metadata}

    async def _watch(self, request: web.Request, kind: str) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        stream = web.StreamResponse()
        await stream.prepare(request)
        generation = self._generation_of_watches
        self.watching.set()
        self.unwatched.clear()
        try:
            if version < self._oldest:
                gone = Refused(410, "Expired", "too old resource version")
                await _send(stream, "ERROR", gone.status)
                return stream
            while generation == self._generation_of_watches:
                news = [entry for entry in self._log if entry[0] > version]
                version = self._last  # before the sends: what comes meanwhile is for next time
                for _, type_, of, obj in news:
                    if of == kind and _selected(obj, request):
                        await _send(stream, type_, obj)
                async with self._changed:
                    while version == self._last and generation == self._generation_of_watches:
                        await self._changed.wait()
            return stream
        finally:
            self.unwatched.set()


async def _send(stream: web.StreamResponse, type_: str, obj: Json) -> None:
    await stream.write(json.dumps({"type": type_, "object": obj}).encode() + b"\n")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _token(version: int, start: str) -> str:
    return base64.b64encode(json.dumps([version, start]).encode()).decode()


def _same_uid(present: Json, wanted: Json) -> None:
    if wanted.get("uid", present["metadata"]["uid"]) != present["metadata"]["uid"]:
        raise Refused(409, "Conflict", "the UID in the precondition is another")


def _merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    new = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = _merged(new.get(key), value)
    return new


def _selected(obj: Json, request: web.Request) -> bool:
    labels = obj["metadata"].get("labels", {})
    if selector := request.query.get("labelSelector"):
        if among := re.fullmatch(r"(\S+) in \((.*)\)", selector):
            return labels.get(among[1]) in among[2].split(",")
        key, _, value = selector.partition("=")
        return bool(labels.get(key) == value)
    for term in re.findall(r"(?:\\.|[^,\\])+", request.query.get("fieldSelector", "")):
        field, operator, wanted = re.findall(r"^([\w.]+)(!?=)(.*)$", term)[0]
        at: Any = obj
        for part in field.split("."):
            at = at.get(part, {})
        if (at == re.sub(r"\\(.)", r"\1", wanted)) == (operator == "!="):
            return False
    return True
