"""The checks when the faults are over: each finds what is wrong, in a line for each.

rest     every Sandbox comes to say what is true of it, and every deletion to its end
quiet    nothing is written and nothing done while nothing happens
react    no key is stuck: each Sandbox can still be paused, resumed and deleted
removed  no container was removed while its Sandbox lived, but by outsiders
clean    nothing is left of anything, strangers are as they were, no secret was logged
"""

from __future__ import annotations

import asyncio
import base64
import math
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import docker
from docker.errors import APIError, NotFound

from controller.core import names
from tests.chaos.bystanders import TAKEN, Bystanders
from tests.chaos.deeds import Deeds, seconds
from tests.chaos.load import UNANSWERED, USERS_KEY
from tests.chaos.sides import RESYNC_SECONDS, Side
from tests.chaos.truth import wrong
from tests.integration.boxes import Box, Docker, condition
from tests.integration.operator import Audit, Json

REST_SECONDS = 180.0
"""Restarts after an exit are up to 60 s apart, and a busy machine is slow."""
GONE_SECONDS = 120.0
_TRIES_SECONDS = 45.0
"""An operator tries what failed again at least every 30 s."""
_LOOK_SECONDS = 0.5
_RESYNCS = 6
"""At rest so many are watched: every fifth is a thorough one."""
_RESYNCS_SECONDS = 60.0
_LEFT_BEHIND = re.compile(r"task \w+.*already exists")
"""containerd's words, in Docker's error and in the message of the Sandbox."""
_CRASH = re.compile(
    r"internal error"
    r"|Task exception was never retrieved"
    r"|Fatal Python error"
    # The interpreter's own words: the operator's log tells of an exception without them, and at
    # its debug level of those that it expects too.
    r"|Traceback \(most recent call last\)"
    r"|CRITICAL +controller"
    r"|ERROR +controller\.operations",
)
"""What an operator's log has of an error that nobody expected."""
_DEFAULT_NETWORKS = {"bridge", "host", "none"}

Finding = tuple[str, Box | None]
"""What is wrong, and with which Sandbox."""


class Ending:
    def __init__(
        self,
        sides: list[Side],
        docker: Docker,
        bystanders: Bystanders,
        deeds: Deeds,
        audit: Audit,
        longest: float = math.inf,
    ) -> None:
        """`longest` is how many seconds all checks together may wait."""
        self._sides = sides
        self._docker = docker
        self._bystanders = bystanders
        self._deeds = deeds
        self._audit = audit
        self._longest = longest
        self._deadline = math.inf
        self.keys: set[str] = set()
        """Session keys that were seen in Secrets."""
        self.stuck: set[str] = set()
        """UIDs whose container Docker itself could start no more, when it was asked to."""
        self._refused: list[Box] = []
        """Those that said so at the last look."""
        self._alone_since: float | None = None
        """Since when nothing else is wrong."""

    async def check(self) -> list[Finding]:
        """All checks; those after the first that fails are left out."""
        self._deadline = time.monotonic() + self._longest
        steps = (
            self._rest,
            self._keys,
            self._quiet,
            self._react,
            self._removed,
            self._gone,
            self._removed,  # while it was being deleted
            self._clean,
        )
        for step in steps:
            if findings := await step():
                return findings
        return []

    # rest

    async def _rest(self) -> list[Finding]:
        self._refused, self._alone_since = [], None
        found = await self._soon(self._restless, REST_SECONDS)
        refused = {box.uid for box in self._refused}
        found = [(what, box) for what, box in found if box is None or box.uid not in refused]
        return found + await self._startable(self._refused)

    async def _restless(self) -> list[Finding]:
        found: list[Finding] = [
            ("its deletion is not done", box) for side in self._sides for box in side.yard.ending()
        ]
        boxes = [box for side in self._sides for box in side.yard.living()]
        containers = await self._containers(boxes)
        judged = [(wrong(box.latest, containers[box.uid], self._deeds), box) for box in boxes]
        found += [(problem, box) for problem, box in judged if problem is not None]
        self._refused = [
            box
            for _, box in found
            if box is not None and self._left_behind(box, containers.get(box.uid))
        ]
        if not self._refused or len(self._refused) < len(found):
            self._alone_since = None
            return found
        # Only those are left. Their operator goes on trying, and may succeed yet.
        now = time.monotonic()
        self._alone_since = self._alone_since or now
        return found if now - self._alone_since < _TRIES_SECONDS else []

    def _left_behind(self, box: Box, container: Json | None) -> bool:
        """Whether it says that Docker cannot start its container, for the one cause that is not
        its operator's: a dockerd that is killed while it starts a container leaves a task in
        containerd, which its successor neither knows nor ends. It can still be deleted."""
        obj, ready = box.latest, condition(box.latest, "Ready")
        status = obj.get("status") or {}
        return (
            container is not None
            and self._deeds.killed_since(container["Created"])
            and container["State"]["Status"] in ("created", "exited")
            and obj["spec"]["operatingMode"] == "Running"
            and status.get("observedGeneration") == obj["metadata"]["generation"]
            and (status.get("phase"), ready.get("reason")) == ("ERROR", "StartFailed")
            and _LEFT_BEHIND.search(str(ready.get("message"))) is not None
        )

    async def _startable(self, boxes: list[Box]) -> list[Finding]:
        """Those among them that Docker does start, or refuses for another cause. This ends the
        wait for their operator: nothing is started while it might still do so."""

        def start(client: docker.APIClient) -> list[Finding]:
            found: list[Finding] = []
            for box in boxes:
                try:
                    client.start(box.container_name)
                except APIError as error:
                    if _LEFT_BEHIND.search(error.explanation or ""):
                        self.stuck.add(box.uid)
                    else:
                        found.append((f"Docker refuses its start otherwise: {error}", box))
                else:
                    found.append(("says that Docker cannot start its container, and it can", box))
            return found

        return list(await self._docker(start)) if boxes else []

    async def _containers(self, boxes: list[Box]) -> dict[str, Json | None]:
        def inspect(client: docker.APIClient) -> dict[str, Json | None]:
            found: dict[str, Json | None] = {}
            for box in boxes:
                try:
                    found[box.uid] = client.inspect_container(box.container_name)
                except NotFound:
                    found[box.uid] = None
            return found

        return dict(await self._docker(inspect))

    async def _soon(
        self, look: Callable[[], Awaitable[list[Finding]]], seconds: float
    ) -> list[Finding]:
        """What `look` still finds after so long; nothing as soon as it finds nothing."""
        deadline = min(time.monotonic() + seconds, self._deadline)
        while True:
            try:
                found = await look()
            except UNANSWERED as error:
                found = [(f"cannot be asked: {error!r}", None)]
            if not found or time.monotonic() > deadline:
                return found
            await asyncio.sleep(_LOOK_SECONDS)

    # keys

    async def _keys(self) -> list[Finding]:
        """The Secret, the container and the label of a Sandbox are about one key."""
        boxes = [
            box
            for side in self._sides
            for box in side.yard.living()
            if box.name != TAKEN and box.latest["spec"]["sessionKey"]["mode"] == "Generate"
        ]
        return await self._soon(lambda: self._unkeyed(boxes), RESYNC_SECONDS * 10 + 20)

    async def _unkeyed(self, boxes: list[Box]) -> list[Finding]:
        containers = await self._containers(boxes)
        found: list[Finding] = []
        for box in boxes:
            secret, container = await box.secret(), containers[box.uid]
            if secret is None:
                found.append(("its Secret is missing", box))
                continue
            key = base64.b64decode(secret["data"][names.SECRET_KEY]).decode()
            self.keys.add(key)
            if box.latest["metadata"]["labels"].get(names.KEY_HASH_LABEL) != names.key_hash(key):
                found.append(("its label is not that of its key", box))
            has = f"OH_SESSION_API_KEYS_0={key}"
            if container is not None and has not in container["Config"]["Env"]:
                found.append(("its container has another key than its Secret", box))
        return found

    # quiet

    async def _quiet(self) -> list[Finding]:
        if not await self._stirred():
            return []
        # What was under way when the last status came may be an Event or so: once, not for ever.
        return await self._stirred()

    async def _stirred(self) -> list[Finding]:
        """What is written and what Docker tells of in some resyncs."""
        since = await self._audit.settled()
        told = {uid: len(events) for uid, events in self._deeds.told.items()}
        await self._resyncs(_RESYNCS)
        found: list[Finding] = [(f"written at rest: {what}", None) for what in self._writes(since)]
        for uid, events in self._deeds.told.items():
            boxes = [box for s in self._sides if (box := s.yard.of(uid)) is not None]
            if uid in self.stuck:  # its operator goes on trying to start it
                continue
            actions = Counter(event.action for event in events[told.get(uid, 0) :])
            found += [
                (f"done at rest: {action} ({count} times)", boxes[0] if boxes else None)
                for action, count in actions.items()
            ]
        return found

    def _writes(self, since: int) -> list[str]:
        verbs = ("create", "update", "patch", "delete")
        found = Counter(
            f"{r['user']['username']}: {r['verb']} {r['requestURI']}"
            for r in self._audit.records()[since:]
            if r["verb"] in verbs
        )
        return [f"{what} ({count} times)" for what, count in found.items()]

    async def _resyncs(self, count: int) -> None:
        """So many full comparisons of each operator from now on."""
        since = len(self._audit.records())

        def done(records: list[Json]) -> bool:
            lists = Counter(
                r["user"]["username"]
                for r in records[since:]
                if r["verb"] == "list" and "limit=" in r["requestURI"]
            )
            return all(lists[side.user] >= count for side in self._sides)

        left = self._deadline - time.monotonic()
        await self._audit.until(done, max(1.0, min(_RESYNCS_SECONDS, left)))

    # react

    async def _react(self) -> list[Finding]:
        for side in self._sides:
            for box in side.yard.living():
                if box.name != TAKEN:
                    paused = box.latest["spec"]["operatingMode"] == "Paused"
                    mode = "Running" if paused else "Paused"
                    generation = await side.yard.change(box, operatingMode=mode)
                    await box.until(where=_of_generation(generation))
        return [(f"does not react: {what}", box) for what, box in await self._rest()]

    # removed

    async def _removed(self) -> list[Finding]:
        found: list[Finding] = []
        for box in (box for side in self._sides for box in side.yard.boxes):
            asked = box.latest["metadata"].get("deletionTimestamp")
            if asked is None and box.gone:
                continue  # when it went, no version has told
            # A creation that fails is undone by Docker, which tells of its end alone.
            told = self._deeds.told.get(box.uid, [])
            were = {event.container for event in told if event.action == "create"}
            statuses = [obj.get("status") or {} for obj in box.versions]
            were |= {str((status.get("container") or {}).get("id")) for status in statuses}
            for event in told:
                if event.action != "destroy" or event.container in self._deeds.removed:
                    continue
                # deletionTimestamp is cut to whole seconds: what came before it surely was early.
                early = asked is None or event.at < seconds(asked)
                if early and event.container in were:
                    found.append((f"its operator removed {event.container[:12]} too soon", box))
        return found

    # gone and clean

    async def _gone(self) -> list[Finding]:
        for side in self._sides:
            for box in side.yard.living():
                await box.delete()

        async def left() -> list[Finding]:
            boxes = [b for s in self._sides for b in s.yard.boxes if not b.gone]
            return [("is not deleted", box) for box in boxes]

        return await self._soon(left, GONE_SECONDS)

    async def _clean(self) -> list[Finding]:
        await self._bystanders.disperse()
        # A create whose caller died may have come after the finalizer went: two resyncs.
        found = await self._soon(self._leaks, RESYNC_SECONDS * 4 + 20)
        problems = await self._bystanders.changed(self._sides)
        problems += await self._secrets_left()
        problems += self._trespasses()
        problems += self._blabbed()
        return found + [(problem, None) for problem in problems]

    async def _leaks(self) -> list[Finding]:
        def look(client: docker.APIClient) -> list[tuple[str, str, dict[str, Any]]]:
            rows = [("container", c["Id"], c) for c in client.containers(all=True)]
            rows += [("volume", v["Name"], v) for v in client.volumes()["Volumes"] or []]
            rows += [("network", n["Id"], n) for n in client.networks()]
            return rows

        owners = {names.network_name(side.operator.owner) for side in self._sides}
        known = self._bystanders.containers | self._bystanders.volumes | self._bystanders.networks
        found: list[Finding] = []
        for kind, id_, row in await self._docker(look):
            shared = kind == "network" and row["Name"] in owners | _DEFAULT_NETWORKS
            if shared:
                owners.discard(row["Name"])  # one for each, not any number
            if id_ not in known and not shared:
                uid = (row.get("Labels") or {}).get(names.UID_LABEL, "")
                boxes = [box for s in self._sides if (box := s.yard.of(uid)) is not None]
                name = row.get("Name") or row.get("Names")
                found.append((f"leaked: {kind} {name}", boxes[0] if boxes else None))
        return found

    async def _secrets_left(self) -> list[str]:
        problems = []
        for side in self._sides:
            path = f"/api/v1/namespaces/{side.yard.namespace}/secrets"
            listed = await side.plane.call("GET", path)
            for secret in listed["items"]:
                meta = secret["metadata"]
                ours = {o["uid"] for o in meta.get("ownerReferences", ())}
                theirs = (names.secret_name(TAKEN), USERS_KEY)
                if meta["name"] in theirs or meta["name"].startswith("late-"):
                    continue
                if ours & side.yard.dropped:
                    continue  # the owner reference's: this cluster has nobody to follow those
                problems.append(f"leaked: Secret {meta['namespace']}/{meta['name']} of {ours}")
        return problems

    def _trespasses(self) -> list[str]:
        """Writes of an operator beyond its namespace, or to a Secret of others."""
        found = set()
        for record in self._audit.records():
            if record["verb"] in ("get", "list", "watch"):
                continue
            on, user = record.get("objectRef") or {}, record["user"]["username"]
            (side,) = (side for side in self._sides if side.user == user)
            secret = on.get("resource") == "secrets"
            theirs = on.get("name") in (names.secret_name(TAKEN), USERS_KEY) and secret
            done = record["responseStatus"]["code"] < 300
            if done and (on.get("namespace") != side.yard.namespace or theirs):
                found.add(f"{user}: {record['verb']} {record['requestURI']}")
        return [f"touched what is not its own: {what}" for what in sorted(found)]

    def _blabbed(self) -> list[str]:
        values = self.keys | {token for side in self._sides for token in side.token.all}
        values |= {"k" * 43, "l" * 43, "x" * 40}
        words = {side.name: side.operator.words() for side in self._sides}
        problems = [
            f"the log of operator {name} holds a secret value"
            for name, text in words.items()
            if any(value in text for value in values)
        ]
        for name, text in words.items():
            if crash := _CRASH.search(text):
                line = text[text.rfind("\n", 0, crash.start()) + 1 :].partition("\n")[0]
                problems.append(f"the log of operator {name} tells of an error: {line[:200]}")
        if refused := self._audit.never_allowed():
            problems.append(f"the ClusterRole lacks a right: {sorted(refused)}")
        return problems


def _of_generation(generation: int) -> Callable[[Json], bool]:
    return lambda obj: bool(obj["metadata"]["generation"] >= generation)
