"""Sandboxes of every kind, made, paused, resumed, resized and deleted without end.

The random numbers are seeded, what they meet is not: the same seed makes the same kinds in the
same order, and picks among what is alive then.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter

import aiohttp

from controller.core import names
from tests.chaos.bystanders import TAKEN
from tests.chaos.sides import Yard
from tests.integration.boxes import IGNORES_SIGTERM, SLEEPS, WEB, Box
from tests.integration.operator import Json, Refused

LIVING = 9
"""Sandboxes of one side that are not being deleted, at the most."""
_ENDING = 6
"""While so many still end, nothing is made: an operator that is away for long is not buried."""
_NAMES = 3 * LIVING
"""Names are few and come again, so that objects of one name follow each other."""
_LONGEST_GAP_SECONDS = 1.3
USERS_KEY = "users-key"
UNANSWERED = (Refused, aiohttp.ClientError, OSError, TimeoutError)
"""What a request meets while the API server is away: whether it took effect, the watch tells."""


class Load:
    """The users of one side."""

    def __init__(self, yard: Yard, rng: random.Random, over: asyncio.Event) -> None:
        self._yard = yard
        self._rng = rng
        self._over = over
        self._late = itertools.count()
        self._due: set[str] = set()
        """Late Secrets that are not known to be there."""
        self.done: Counter[str] = Counter()

    async def run(self) -> None:
        """Until the round is over."""
        await self._yard.secret(USERS_KEY, **{names.SECRET_KEY: "k" * 43})
        while not self._over.is_set():
            act = self._rng.choices(
                (self.make, self.toggle, self.resize, self.remove), weights=(5, 5, 1, 3)
            )[0]
            with contextlib.suppress(*UNANSWERED):
                await act()
            gap = self._rng.uniform(0.1, _LONGEST_GAP_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), gap)

    def _pick(self) -> Box | None:
        living = sorted(
            (b for b in self._yard.living() if b.name != TAKEN), key=lambda box: box.name
        )
        return self._rng.choice(living) if living else None

    async def make(self, **spec: object) -> None:
        """Another Sandbox, of a kind of its own or as `spec` says, if there is room."""
        name = f"{self._yard.namespace}-{self._rng.randrange(_NAMES)}"
        spec = {k: v for k, v in (self._kind() | spec).items() if v is not None}
        if len(self._yard.living()) >= LIVING or len(self._yard.ending()) >= _ENDING:
            return
        await self._yard.declare(name, **spec)
        self.done["make"] += 1

    def _kind(self) -> Json:
        rng = self._rng
        spec: Json = {
            "pauseMethod": rng.choice(("Freeze", "Stop")),
            "onMissing": rng.choice(("Report", "Recreate")),
            "restartPolicy": rng.choice(("Always", "Always", "OnFailure", "Never")),
            "operatingMode": rng.choice(("Running",) * 5 + ("Paused",)),
            "terminationGracePeriodSeconds": rng.randint(1, 3),
        }
        match rng.choice(("plain", "plain", "deaf", "deaf", "web")):
            case "plain":
                spec["command"] = SLEEPS
            case "deaf":
                spec["command"] = IGNORES_SIGTERM
            case "web":
                spec["ports"] = [WEB]
                probe = {"path": "/ready", "port": "WEB"}
                spec["readiness"] = {"httpGet": probe, "periodSeconds": 1}
        if rng.random() < 0.4:
            spec["volumes"] = [{"name": "work", "mountPath": "/work", "managed": {}}]
        if rng.random() < 0.3:
            spec["resources"] = {"limits": {"memory": "64Mi", "pids": 32}}
        match rng.choice(("Generate",) * 6 + ("SecretRef", "None")):
            case "SecretRef":
                spec["sessionKey"] = {"mode": "SecretRef", "secretRef": {"name": USERS_KEY}}
            case "None":
                spec["sessionKey"] = {"mode": "None"}
        return spec

    async def toggle(self) -> None:
        """Pause or resume one."""
        box = self._pick()
        if box is None:
            return
        paused = box.latest["spec"]["operatingMode"] == "Paused"
        await self._yard.change(box, operatingMode="Running" if paused else "Paused")
        self.done["resume" if paused else "pause"] += 1

    async def resize(self) -> None:
        """Change the limits of one."""
        box = self._pick()
        if box is not None:
            memory = f"{self._rng.randint(64, 128)}Mi"
            await self._yard.change(box, resources={"limits": {"memory": memory}})
            self.done["resize"] += 1

    async def remove(self) -> bool:
        """Delete one, often right after it was made. Returns whether there was one."""
        box = self._pick()
        if box is None:
            return False
        await box.delete()
        self.done["delete"] += 1
        return True

    # What leads an operator to a certain point.

    async def pause_deaf(self) -> None:
        """One that has to be killed in the end."""
        for box in self._yard.living():
            deaf = box.latest["spec"].get("command") == IGNORES_SIGTERM
            stops = box.latest["spec"]["pauseMethod"] == "Stop"
            if deaf and stops and box.status.get("phase") == "RUNNING":
                await self._yard.change(box, operatingMode="Paused")
                return
        await self.make(
            command=IGNORES_SIGTERM,
            pauseMethod="Stop",
            operatingMode="Running",
            terminationGracePeriodSeconds=1,
            readiness=None,
            ports=None,
        )

    async def lose_a_secret(self) -> bool:
        """The generated Secret of one that runs is deleted: it is written anew from there. Returns
        whether there was one."""
        for box in self._yard.living():
            generated = box.latest["spec"]["sessionKey"]["mode"] == "Generate"
            if generated and box.status.get("phase") == "RUNNING" and box.name != TAKEN:
                path = f"/api/v1/namespaces/{self._yard.namespace}/secrets/"
                path += names.secret_name(box.name)
                answer = await self._yard.plane.call("DELETE", path, ok=(404,))
                return answer.get("code") != 404
        return False

    async def bring_a_key_late(self) -> None:
        """A user's Secret that is missing at first: its hash is labelled once it is there."""
        name = f"late-{next(self._late)}"
        self._due.add(name)
        key = {"mode": "SecretRef", "secretRef": {"name": name}}
        await self.make(sessionKey=key, operatingMode="Running")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), self._rng.uniform(0.5, 1.5))
        await self._yard.secret(name, **{names.SECRET_KEY: "l" * 43})
        self._due.discard(name)

    async def bring_what_is_due(self) -> None:
        """The late Secrets whose bringer was interrupted, or met no API server: without them their
        Sandboxes would rightly never run."""
        for name in self._due:
            with contextlib.suppress(Refused):  # it is there, the answer was lost
                await self._yard.secret(name, **{names.SECRET_KEY: "l" * 43})
