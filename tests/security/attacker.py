"""A user with rights on Sandboxes alone, and what the user's manifests come to.

Attacker.submit    one manifest as raw JSON, and the API server's answer
Attacker.asked     what it would answer, without storing anything
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from controller.core import names
from dev.images import BUSYBOX
from tests.integration.boxes import SLEEPS, Box, Docker, World
from tests.integration.operator import Json, Operator

RBAC = "/apis/rbac.authorization.k8s.io/v1"
GROUP = "rbac.authorization.k8s.io"
VERBS = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
BASE: Json = {
    "image": BUSYBOX,
    "imagePullPolicy": "Never",
    "command": SLEEPS,
    "terminationGracePeriodSeconds": 0,
}


async def allow(world: World, user: str, resources: list[str]) -> None:
    """Give a user every right on these resources of the world's namespace, and no other."""
    place = f"{RBAC}/namespaces/{world.namespace}"
    rules = [{"apiGroups": [names.GROUP], "resources": resources, "verbs": VERBS}]
    await world.plane.call("POST", f"{place}/roles", {"metadata": {"name": user}, "rules": rules})
    binding = {
        "metadata": {"name": user},
        "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": user},
        "subjects": [{"apiGroup": GROUP, "kind": "User", "name": user}],
    }
    await world.plane.call("POST", f"{place}/rolebindings", binding)


@dataclass(frozen=True)
class Answer:
    """What the API server said to a manifest."""

    status: int
    body: Json
    text: str

    @property
    def accepted(self) -> bool:
        return self.status < 300


def manifest(name: str, spec: Any, **metadata: Any) -> Json:
    """A Sandbox. `spec` is merged over one that runs, unless it is no object."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name} | metadata,
        "spec": {k: v for k, v in (BASE | spec).items() if v is not ...}
        if isinstance(spec, dict)
        else spec,
    }


class Attacker:
    """One user, in one namespace, with the operator that serves it."""

    def __init__(self, world: World, docker: Docker, operator: Operator, user: str) -> None:
        self.world, self.docker, self.operator, self.user = world, docker, operator, user

    async def submit(
        self, body: Json | str, *, strict: bool = True, dry: bool = False, path: str = ""
    ) -> Answer:
        """POST a manifest; one that is stored is deleted at the end with the world's."""
        query = f"fieldValidation={'Strict' if strict else 'Ignore'}" + "&dryRun=All" * dry
        text = body if isinstance(body, str) else json.dumps(body)
        answer = await self.request("POST", f"{path or self.world.path()}?{query}", text)
        if answer.accepted and not dry:
            meta = answer.body["metadata"]
            self.world.boxes.append(Box(self.world, meta["name"], meta["uid"]))
        return answer

    async def request(self, method: str, path: str, body: Json | str | None = None) -> Answer:
        """One request of the user, a PATCH as a merge patch; the answer is read whatever it is."""
        plane = self.world.plane
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        data = json.dumps(body) if isinstance(body, dict) else body
        async with plane.session(self.user).request(
            method, plane.url + path, data=data, headers={"Content-Type": kind}
        ) as response:
            text = await response.text()
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = {}
        return Answer(response.status, parsed if isinstance(parsed, dict) else {}, text)

    def box(self, answer: Answer) -> Box:
        """The Sandbox that an answer tells of."""
        uid = answer.body["metadata"]["uid"]
        return next(box for box in self.world.boxes if box.uid == uid)
