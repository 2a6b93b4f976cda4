"""What a Sandbox must say when nothing is done to it any more: from its spec, its container as
`docker inspect` has it, and what was done to that. Written from docs/phases.md, and not from the
operator's code."""

from __future__ import annotations

from tests.chaos.bystanders import TAKEN
from tests.chaos.deeds import Deeds
from tests.integration.boxes import condition
from tests.integration.operator import Json

_START_FAILED = 128
"""The exit code that Docker sets where a start failed, over that of the run before."""


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
            return _exit(container)
        if spec["restartPolicy"] == "OnFailure" and code == 0:
            return _exit(container)
    return set()


def _paused(obj: Json, uid: str, run: str, container: Json | None, deeds: Deeds) -> Due:
    existed = "container" in (obj.get("status") or {})
    if run == "absent" and existed:
        # A container that the status names was seen in a list of Docker's, and a creation that
        # fails is in none; one whose start fails stays. So somebody removed it.
        if not deeds.removed_it(obj):
            return set()
        recreate = obj["spec"]["onMissing"] == "Recreate"
        return {("PAUSED", "NotStarted") if recreate else ("MISSING", "ContainerMissing")}
    if run in ("absent", "created"):
        return {("PAUSED", "NotStarted")}
    if run == "paused":
        return {("PAUSED", "Frozen")}
    if run == "exited" and container is not None:
        if deeds.stopped_for_pause(obj, container):
            return {("PAUSED", "Stopped")}
        if deeds.ended_it(uid, container):
            due = _exit(container)
            if deeds.frozen_when_ended(obj, container):
                # Docker thaws what it kills: its operator may have seen it run once more.
                due |= {("PAUSED", "MemoryLost")}
            return due
    return set()


def _exit(container: Json) -> Due:
    """What is said of a run that nobody meant to end."""
    state = container["State"]
    if state["OOMKilled"]:
        return {("ERROR", "OOMKilled")}
    if state["ExitCode"] == _START_FAILED:
        return {("ERROR", "Completed"), ("ERROR", "Exited")}
    return {("ERROR", "Completed" if state["ExitCode"] == 0 else "Exited")}


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
