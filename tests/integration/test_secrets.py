"""Session keys and users' Secrets: waited for, brought back, found by hash. That they are never
told is test_planted_keys' subject."""

import base64

import pytest

from controller.core import names
from tests.integration.boxes import SLEEPS, Box, Docker, World, condition
from tests.integration.operator import USER, Operator

SETTINGS = {"resync_seconds": "1", "log_level": "debug"}
LONG = "a-key-of-a-user-that-is-long-enough-0123456789"

pytestmark = pytest.mark.usefixtures("operator")


def secret_path(world: World, name: str) -> str:
    return f"/api/v1/namespaces/{world.namespace}/secrets/{name}"


async def key_in(docker: Docker, box: Box, variable: str = "OH_SESSION_API_KEYS_0") -> str:
    _, value = await docker.run(box, "sh", "-c", f"echo ${variable}")
    return value


class TestGenerated:
    async def test_it_is_made_stored_passed_and_found(self, world: World, docker: Docker) -> None:
        box = await world.running(command=SLEEPS)
        key, secret = await box.key(), await box.secret()
        assert secret is not None
        assert len(key) >= 32
        assert await key_in(docker, box) == key
        assert box.latest["metadata"]["labels"][names.KEY_HASH_LABEL] == names.key_hash(key)
        assert box.status["sessionApiKeySecretRef"] == {
            "name": secret["metadata"]["name"],
            "key": names.SECRET_KEY,
        }
        assert secret["metadata"]["labels"][names.UID_LABEL] == box.uid
        assert [o["uid"] for o in secret["metadata"]["ownerReferences"]] == [box.uid]

    async def test_a_deleted_secret_comes_back_with_the_same_key(
        self, world: World, docker: Docker, operator: Operator
    ) -> None:
        box = await world.running(command=SLEEPS)
        key, container = await box.key(), box.status["container"]
        audit, name = world.plane.audit, names.secret_name(box.name)
        since = await audit.settled()
        await world.plane.call("DELETE", secret_path(world, name))
        await audit.until(lambda _: audit.writes(box.name, since)["create secrets"] == 1)
        assert await box.key() == key
        assert box.status["container"] == container
        assert box.phases() == ["STARTING", "RUNNING"]

    async def test_one_deleted_while_the_operator_is_away_too(
        self, world: World, operator: Operator
    ) -> None:
        box = await world.running(command=SLEEPS)
        key = await box.key()
        audit = world.plane.audit
        await operator.stop()
        since = await audit.settled()
        await world.plane.call("DELETE", secret_path(world, names.secret_name(box.name)))
        operator.start()
        await audit.until(lambda _: audit.writes(box.name, since)["create secrets"] == 1)
        assert await box.key() == key

    async def test_a_name_that_is_taken_is_told_and_left_alone(
        self, world: World, docker: Docker
    ) -> None:
        name = names.secret_name("taken")
        await world.secret(name, mine="do not touch")
        box = await world.box("taken", command=SLEEPS)
        taken = await box.until("ERROR", "SecretNameTaken")
        assert name in condition(taken, "Ready")["message"]
        assert await docker.state(box) == "absent"
        other = await world.box("taken-too", command=SLEEPS)
        await other.until("RUNNING")
        theirs = await world.plane.call("GET", secret_path(world, name))
        assert list(theirs["data"]) == ["mine"]
        await world.plane.call("DELETE", secret_path(world, name))
        await box.until("RUNNING")
        assert await key_in(docker, box) == await box.key()

    async def test_anothers_secret_of_that_name_survives_the_deletion(self, world: World) -> None:
        name = names.secret_name("squatted")
        await world.secret(name, mine="do not touch")
        box = await world.box("squatted", command=SLEEPS)
        await box.until("ERROR", "SecretNameTaken")
        await box.delete()
        await box.until_gone()
        assert (await world.plane.call("GET", secret_path(world, name)))["data"]["mine"]

    async def test_none_is_made_where_none_is_wished(self, world: World, docker: Docker) -> None:
        box = await world.running(command=SLEEPS, sessionKey={"mode": "None"})
        assert await box.secret() is None
        assert await key_in(docker, box) == ""
        assert "sessionApiKeySecretRef" not in box.status
        assert names.KEY_HASH_LABEL not in box.latest["metadata"]["labels"]


class TestOfAUser:
    async def test_it_is_waited_for_and_named(self, world: World, docker: Docker) -> None:
        late = {"name": "late", "key": "k"}
        reference = {"mode": "SecretRef", "secretRef": late, "envNames": ["KEY_A", "KEY_B"]}
        box = await world.box(command=SLEEPS, sessionKey=reference)
        waiting = await box.until("STARTING", "SecretNotFound")
        assert "Secret late" in condition(waiting, "Ready")["message"]
        assert "spec.sessionKey.secretRef" in condition(waiting, "Ready")["message"]
        await world.secret("late", k=LONG)
        await box.until("RUNNING")
        assert await key_in(docker, box, "KEY_A") == await key_in(docker, box, "KEY_B") == LONG
        await box.until(
            where=lambda o: (
                o["metadata"]["labels"].get(names.KEY_HASH_LABEL) == names.key_hash(LONG)
            )
        )
        assert box.status["sessionApiKeySecretRef"] == {"name": "late", "key": "k"}
        await box.delete()
        await box.until_gone()
        assert (await world.plane.call("GET", secret_path(world, "late")))["data"]["k"]

    async def test_a_short_one_is_refused(self, world: World) -> None:
        await world.secret("short", k="only-31-characters-0123456789-0")
        reference = {"mode": "SecretRef", "secretRef": {"name": "short", "key": "k"}}
        box = await world.box(command=SLEEPS, sessionKey=reference)
        short = await box.until("ERROR", "SessionKeyTooShort")
        assert "32 characters" in condition(short, "Ready")["message"]
        longer = {"data": {"k": base64.b64encode(LONG.encode()).decode()}}
        await world.plane.call("PATCH", secret_path(world, "short"), longer)
        await box.until("RUNNING")

    async def test_what_the_environment_refers_to_is_waited_for(
        self, world: World, docker: Docker
    ) -> None:
        one = {"secretKeyRef": {"name": "later", "key": "token"}}
        box = await world.box(
            command=SLEEPS,
            env=[{"name": "TOKEN", "valueFrom": one}],
            envFrom=[{"configMapRef": {"name": "later"}}],
        )
        no_map = await box.until("STARTING", "ConfigMapNotFound")
        assert "spec.envFrom[0].configMapRef" in condition(no_map, "Ready")["message"]
        await world.config_map("later", A="a")
        no_secret = await box.until("STARTING", "SecretNotFound")
        assert "spec.env[TOKEN]" in condition(no_secret, "Ready")["message"]
        await world.secret("later", token="hidden")
        await box.until("RUNNING")
        assert await key_in(docker, box, "TOKEN") == "hidden"


@pytest.mark.parametrize(
    ("verb", "resource"),
    [("list", "secrets"), ("watch", "secrets"), ("update", "secrets"), ("patch", "secrets")],
)
async def test_the_operator_may_not(world: World, verb: str, resource: str) -> None:
    asked = {"namespace": world.namespace, "verb": verb, "resource": resource}
    review = await world.plane.call(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        {"spec": {"resourceAttributes": asked}},
        user=USER,
    )
    assert review["status"]["allowed"] is False
