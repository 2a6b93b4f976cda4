"""What a Sandbox must say when nothing is done to it any more: from its spec, its container as
`docker inspect` has it, and what was done to that. Written from docs/phases.md, and not from the
operator's code."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from tests.chaos.bystanders import TAKEN
from tests.integration.boxes import condition
from tests.integration.operator import Json

EXITS = frozenset({"Exited", "Completed", "OOMKilled"})


@dataclass
class Deeds:
    """What was done to containers behind the operators' backs."""

    removed: set[str] = field(default_factory=set)
    """IDs of containers that were removed."""
    ended: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    """By UID, when its container was being killed, stopped or removed."""
    outages: list[tuple[float, float]] = field(default_factory=list)
    """When dockerd was going down, away or coming back: it ends every container then."""

    kills: list[float] = field(default_factory=list)
    """When dockerd was back after it had been killed."""

    def killed_since(self, stamp: str) -> bool:
        """Whether dockerd was killed after this moment, in Docker's words."""
        return any(_seconds(stamp) <= back for back in self.kills)

    def ended_it(self, uid: str, container: Json) -> bool:
        """Whether anyone but its operator can have ended this container's last run."""
        finished = _seconds(container["State"]["FinishedAt"])
        causes = [*self.outages, *self.ended.get(uid, ())]
        return any(began - 1 <= finished <= over + 1 for began, over in causes)

    def removed_it(self, obj: Json) -> bool:
        """Whether the container that the status names is one of those that were removed."""
        return ((obj.get("status") or {}).get("container") or {}).get("id") in self.removed


def _seconds(stamp: str) -> float:
    """Docker's moment as seconds of the epoch; of its nine digits datetime takes six."""
    whole, _, rest = stamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{(rest or '0')[:6]:0<6}+00:00").timestamp()


def wrong(obj: Json, container: Json | None, deeds: Deeds) -> str | None:
    """What is wrong with a Sandbox at rest; None where nothing is. `container` is None where it has
    none."""
    status, uid = obj.get("status") or {}, obj["metadata"]["uid"]
    ready = condition(obj, "Ready")
    says = (str(status.get("phase")), str(ready.get("reason")))
    run = "absent" if container is None else str(container["State"]["Status"])
    told = f"says {says[0]} {says[1]}, its container is {run}"
    if status.get("observedGeneration") != obj["metadata"]["generation"]:
        return f"{told}, and that is of an older spec"
    if obj["metadata"]["name"] == TAKEN:
        due = {("ERROR", "SecretNameTaken")} if container is None else set()
    elif obj["spec"]["operatingMode"] == "Running":
        due = _running(obj, uid, run, container, deeds)
    else:
        due = _paused(obj, uid, run, container, deeds)
    if says not in due:
        return f"{told}, due is {sorted(due) or 'another container'}"
    return _conditions(obj, told) or _container(obj, container, told)


Due = set[tuple[str, str]]


def _running(obj: Json, uid: str, run: str, container: Json | None, deeds: Deeds) -> Due:
    spec = obj["spec"]
    if run == "running":
        return {("RUNNING", "Ready")}
    if run == "absent" and spec["onMissing"] == "Report" and deeds.removed_it(obj):
        return {("MISSING", "ContainerMissing")}
    if run == "exited" and container is not None and deeds.ended_it(uid, container):
        code = int(container["State"]["ExitCode"])
        if spec["restartPolicy"] == "Never":
            return {("ERROR", reason) for reason in EXITS}
        if spec["restartPolicy"] == "OnFailure" and code == 0:
            return {("ERROR", "Completed")}
    return set()


def _paused(obj: Json, uid: str, run: str, container: Json | None, deeds: Deeds) -> Due:
    existed = "container" in (obj.get("status") or {})
    if run == "absent" and existed:
        if obj["spec"]["onMissing"] == "Recreate":
            return {("PAUSED", "NotStarted")}
        return {("MISSING", "ContainerMissing")} if deeds.removed_it(obj) else set()
    if run in ("absent", "created"):
        return {("PAUSED", "NotStarted")}
    if run == "paused":
        return {("PAUSED", "Frozen")}
    if run == "exited" and container is not None:
        due = {("PAUSED", "Stopped")} if obj["spec"]["pauseMethod"] == "Stop" else set()
        if deeds.ended_it(uid, container):
            due |= {("ERROR", reason) for reason in EXITS} | {("PAUSED", "MemoryLost")}
        return due
    return set()


def _conditions(obj: Json, told: str) -> str | None:
    phase, mode = obj["status"]["phase"], obj["spec"]["operatingMode"]
    due = {
        "Ready": phase == ("RUNNING" if mode == "Running" else "PAUSED"),
        "Available": phase == "RUNNING",
        "Reconciling": False,
        "Stalled": phase in ("ERROR", "MISSING"),
    }
    if phase != "ERROR" or condition(obj, "EngineReachable"):
        due["EngineReachable"] = True
    for type_, value in due.items():
        if condition(obj, type_).get("status") != str(value):
            return f"{told}, and {type_} is {condition(obj, type_).get('status')}, not {value}"
    return None


def _container(obj: Json, container: Json | None, told: str) -> str | None:
    recorded = obj["status"].get("container") or {}
    if container is None:
        return None
    if recorded.get("id") != container["Id"]:
        return f"{told}, and the status names container {recorded.get('id')}"
    memory = ((obj["spec"].get("resources") or {}).get("limits") or {}).get("memory")
    if container["State"]["Status"] == "running" and memory is not None:
        limit = int(memory.removesuffix("Mi")) << 20
        if container["HostConfig"]["Memory"] != limit:
            return f"{told}, and its memory is {container['HostConfig']['Memory']}, not {limit}"
    return None
