"""What cannot be seen is nowhere to be read, finalizers of others stay, and kopf writes nothing."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest

from controller.core import names
from tests.integration.boxes import SLEEPS, Docker, World, condition
from tests.integration.operator import USER, Json, Operator
from tests.security.attacker import Attacker, manifest
from tests.security.attempts import probe
from tests.security.metadata import HIDDEN

SETTINGS = {"allowed_images": json.dumps({"*": ["sandbox-operator/*"]})}
PAST = "2020-01-01T00:00:00Z"


def unseen(text: str) -> list[str]:
    return [c for c in text if c in HIDDEN or unicodedata.category(c)[0] == "C"]


async def table(world: World, name: str) -> str:
    """What `kubectl get -o wide` prints."""
    plane = world.plane
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    async with plane.session().get(plane.url + world.path(name), headers=accept) as response:
        shown = await response.json()
    assert {"User", "URL", "Image", "Message"} <= {c["name"] for c in shown["columnDefinitions"]}
    return " ".join(str(cell) for row in shown["rows"] for cell in row["cells"])


async def test_no_column_event_or_message_shows_what_cannot_be_seen(
    attacker: Attacker, operator: Operator
) -> None:
    """Of what is accepted: words in data reach no message, names of many scripts stay."""
    spec: dict[str, Any] = {
        "command": [f"/no{HIDDEN}such"],
        "args": [f"{HIDDEN}"],
        "env": [{"name": "V", "value": HIDDEN}],
        "restartPolicy": "Never",
        "createdByUserId": "é ν 漢字",
    }
    answer = await attacker.submit(manifest("unseen", spec))
    assert answer.accepted, answer.text
    box = attacker.box(answer)
    told = await box.until("ERROR")
    assert condition(told, "Ready")["message"]
    world = attacker.world
    await world.event(box, condition(told, "Ready")["reason"])
    columns = await table(world, box.name)
    assert "é ν 漢字" in columns
    events = [e["message"] for e in await world.events() if e["involvedObject"]["uid"] == box.uid]
    texts = [columns, json.dumps(box.status, ensure_ascii=False), *events]
    assert [unseen(text) for text in texts] == [[] for _ in texts]
    assert unseen(operator.words().replace("\n", "")) == []


async def test_a_probes_words_are_seen(attacker: Attacker) -> None:
    answer = await attacker.submit(manifest("probed", probe(path="/é漢")))
    box = attacker.box(answer)
    told = await box.until("STARTING", "WaitingForReadiness")
    assert "/é漢" in condition(told, "Ready")["message"]
    assert not unseen(json.dumps(told["status"], ensure_ascii=False))


FORGED: list[Json] = [
    {"exposedUrls": [{"name": "V", "port": 1, "url": "http://v/X"}]},
    {"createdByUserId": "X"},
    {"sandboxSpecId": "X"},
    {"container": {"id": "X"}},
    {"container": {"id": "v", "name": "X"}},
    {"suspended": {"reason": "X", "at": PAST}},
    {"pausing": {"containerId": "X", "at": PAST}},
    {
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Ready",
                "message": "X",
                "lastTransitionTime": PAST,
            }
        ]
    },
]


@pytest.mark.parametrize("status", FORGED, ids=lambda status: "-".join(status))
async def test_a_forged_status_cannot_hold_what_cannot_be_seen(
    forger: Attacker, status: Json
) -> None:
    name = f"forged-{FORGED.index(status)}"
    answer = await forger.submit(manifest(name, {"operatingMode": "Paused"}))
    box = forger.box(answer)
    await box.until("PAUSED")
    path = f"{forger.world.path(name)}/status?dryRun=All"
    for character in HIDDEN.replace("\u0378", "").replace("\u00a0", ""):
        text = json.dumps({"status": status}).replace("X", f"v{json.dumps(character)[1:-1]}w")
        refused = await forger.request("PATCH", path, text)
        assert refused.status == 422, (ascii(character), refused.text[:300])


async def test_finalizers_of_others_stay_whatever_their_names(
    attacker: Attacker, world: World, docker: Docker
) -> None:
    theirs = [
        f"{names.GROUP}/unused",
        "kopf.zalando.org/KopfFinalizerMarker",
        "v.example/v",
        f"{names.GROUP}/{'0' * 32}",
    ]
    audit = world.plane.audit
    since = await audit.settled()
    answer = await attacker.submit(manifest("finalized", {"command": SLEEPS}, finalizers=theirs))
    box = attacker.box(answer)

    def kept(obj: Json) -> bool:
        return set(theirs) <= set(obj["metadata"]["finalizers"])

    await box.until("RUNNING", where=kept)
    await box.pause()
    await box.until("PAUSED", where=kept)
    await box.resume()
    await box.until("RUNNING", where=kept)
    await box.delete()
    last = await box.until(where=lambda o: names.FINALIZER not in o["metadata"]["finalizers"])
    assert last["metadata"]["finalizers"] == theirs
    assert all(kept(version) for version in box.versions)
    assert await docker.left(box) == []
    await audit.settled()
    agents = {
        str(r.get("userAgent"))
        for r in audit.records()[since:]
        if r["user"]["username"] == USER and r["verb"] not in ("get", "list", "watch")
    }
    assert not [agent for agent in agents if "kopf" in agent.lower()]
    await attacker.request("PATCH", world.path(box.name), {"metadata": {"finalizers": []}})
    await box.until_gone()
