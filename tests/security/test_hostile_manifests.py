"""Whatever a user with rights on Sandboxes alone declares, it reaches nothing beyond the container.

Each attempt of the table is submitted twice: strictly, so that the API server refuses fields it
does not know, and asking it to drop them. All run at once, beside those who are attacked.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Sequence
from functools import partial

import docker
import pytest

from controller.core import names
from tests.integration.boxes import Box, condition
from tests.integration.operator import Json
from tests.security import manifests, metadata, values
from tests.security.attacker import Answer, Attacker
from tests.security.attempts import Attempt, Outcome
from tests.security.bystanders import Bystanders
from tests.security.harmless import complaints, volume_complaints

SETTINGS = {
    "allowed_images": json.dumps({"*": ["sandbox-operator/*"]}),
    "allowed_labels": json.dumps({"*": [f"{names.GROUP}/*"]}),
}
AT_ONCE = 8
ATTEMPTS = [
    *(*manifests.FILES, *manifests.UNSEEN, *manifests.RIGHTS, *manifests.PORTS, *manifests.PROBES),
    *(*values.IMAGES, *values.LIMITS, *values.VARIABLES, *values.SECRETS),
    *metadata.METADATA,
]
TITLES = [attempt.title for attempt in ATTEMPTS]
AT_REST = ("RUNNING", "ERROR", "PAUSED", "MISSING")


def test_no_two_attempts_are_the_same() -> None:
    assert len(ATTEMPTS) >= 80
    assert len(set(TITLES)) == len(TITLES), {t for t in TITLES if TITLES.count(t) > 1}


@pytest.fixture(scope="module")
async def ends(
    request: pytest.FixtureRequest, attacker: Attacker, bystanders: Bystanders
) -> dict[str, BaseException | None]:
    """How each attempt ended that a test of this run asks for: with an error, or as it must."""
    slots = asyncio.Semaphore(AT_ONCE)
    trial = await Trial.of(attacker, bystanders)

    async def one(attempt: Attempt) -> None:
        async with slots:
            await trial.hold(attempt)

    calls = [getattr(item, "callspec", None) for item in request.session.items]
    asked = [call.params["attempt"] for call in calls if call and "attempt" in call.params]
    results = await asyncio.gather(*map(one, asked), return_exceptions=True)
    return {a.title: result for a, result in zip(asked, results, strict=True)}


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=TITLES)
def test_it_reaches_nothing(attempt: Attempt, ends: dict[str, BaseException | None]) -> None:
    if (error := ends[attempt.title]) is not None:
        raise error


class Trial:
    """Holds attempts against what they may come to."""

    def __init__(
        self, attacker: Attacker, bystanders: Bystanders, info: Json, secrets: Sequence[str]
    ) -> None:
        self._attacker, self._bystanders, self._secrets = attacker, bystanders, secrets
        self._docker, self._world = attacker.docker, attacker.world
        self._engine = {
            "runtime": info["DefaultRuntime"],
            "volumes_root": f"{info['DockerRootDir']}/volumes",
        }

    @classmethod
    async def of(cls, attacker: Attacker, bystanders: Bystanders) -> Trial:
        info = await attacker.docker(lambda client: client.info())
        return cls(attacker, bystanders, info, await bystanders.secrets())

    async def hold(self, attempt: Attempt) -> None:
        """Raises AssertionError where it comes to something else."""
        name = f"v-{zlib.crc32(attempt.title.encode()):08x}"
        body = attempt.make(name, self._bystanders)
        strict = await self._attacker.submit(body, strict=True, dry=True)
        lax = await self._attacker.submit(body, strict=False, dry=True)
        for answer in (strict, lax):
            assert answer.accepted or 400 <= answer.status < 500, answer.text[:400]
        refused = Outcome.REFUSED, Outcome.DROPPED
        assert lax.accepted == (attempt.outcome not in refused), lax.text[:400]
        unknown = Outcome.PRUNED, Outcome.DROPPED
        if attempt.outcome in unknown:
            assert strict.status == 400, strict.text[:400]
            assert "strict decoding" in strict.text
        else:
            # Strictly or not, it is one and the same: what follows holds for both.
            assert strict.accepted == lax.accepted, strict.text[:400]
            assert strict.body.get("spec") == lax.body.get("spec")
        if not lax.accepted:
            assert attempt.words in lax.text, lax.text[:400]
            return
        await self._watch(attempt, await self._attacker.submit(body, strict=False))

    async def _watch(self, attempt: Attempt, created: Answer) -> None:
        assert created.accepted, created.text[:400]
        assert created.body.get("status") == {"phase": "STARTING"}
        box = self._attacker.box(created)
        told = attempt.outcome is Outcome.TOLD or bool(attempt.words)
        reason, _, words = attempt.words.partition(" ")
        if told and not words:
            reason, words = "", attempt.words

        def settled(obj: Json) -> bool:
            ready = condition(obj, "Ready")
            if not told:
                return bool(obj["status"]["phase"] in AT_REST)
            return ready.get("reason", "").startswith(reason) and words in ready.get("message", "")

        stored = await box.until(where=lambda obj: "status" in obj and settled(obj))
        if told:
            assert stored["status"]["phase"] in ("ERROR", "STARTING")
            assert "RUNNING" not in box.phases()
        else:
            assert stored["status"]["phase"] == "RUNNING", box.told()
        await self._inspect(box, stored, running=not told)
        await box.delete()

    async def _inspect(self, box: Box, stored: Json, *, running: bool) -> None:
        details = await self._docker.inspect(box)
        if not running:
            # Docker may have made it before it refused to start it; it must not have run.
            assert not details or details["State"]["StartedAt"].startswith("0001"), details["State"]
            if not details:
                assert await self._docker.left(box) == []
                return
        found = complaints(
            details,
            sandbox=stored,
            owner=self._attacker.operator.owner,
            images=(stored["spec"]["image"],),
            secrets=self._secrets,
            **self._engine,
        )
        assert list(found) == []
        for volume in stored["spec"].get("volumes", ()):
            name = names.volume_name(box.uid, volume["name"])
            made = await self._docker(partial(_inspect_volume, name=name))
            assert list(volume_complaints(made, stored, self._attacker.operator.owner)) == []


def _inspect_volume(client: docker.APIClient, name: str) -> Json:
    return dict(client.inspect_volume(name))
