"""What a real API server makes of the CRD: accepted, refused and where, defaulted, shown.

Whether a field of spec may be added, removed or changed is in test_crd_immutability.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import config

from controller.core.resources import InvalidResource, Sandbox, SandboxSpec
from dev.apiserver import ControlPlane
from tests.integration.sandboxes import Json, Refused, Sandboxes, kubectl

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
PORT = {"name": "AGENT_SERVER", "containerPort": 8000}
VOLUME = {"name": "work", "mountPath": "/work", "managed": {}}
FROM_SECRET = {"secretKeyRef": {"name": "s", "key": "k"}}
LONG = "x" * 64
NOW = "2026-01-02T03:04:05Z"


@pytest.fixture(scope="module")
def sandboxes(cluster: ControlPlane) -> Iterator[Sandboxes]:
    with config.new_client_from_config(str(cluster.kubeconfig)) as api_client:
        yield Sandboxes(api_client)


def create(sandboxes: Sandboxes, **spec: Any) -> Json:
    return sandboxes.create({"image": "busybox"} | spec, dry=True)


# --- Accepted --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid(sandboxes: Sandboxes, path: Path) -> None:
    documents = [d for d in yaml.safe_load_all(path.read_text()) if d["kind"] == "Sandbox"]
    assert documents
    for document in documents:
        created = sandboxes.create(document["spec"], dry=True, **document["metadata"])
        Sandbox.parse(created)


def test_the_api_server_gives_the_defaults_of_the_models(sandboxes: Sandboxes) -> None:
    asked = {
        "image": "busybox",
        "env": [{"name": "A", "valueFrom": FROM_SECRET}],
        "envFrom": [{"secretRef": {"name": "s"}}],
        "ports": [PORT],
        "volumes": [VOLUME],
        "readiness": {"httpGet": {"port": "AGENT_SERVER"}},
    }
    stored = sandboxes.create(asked, dry=True)["spec"]
    model = SandboxSpec.parse(asked)
    assert SandboxSpec.parse(stored) == model
    unset: Json = {"resources": {"limits": {}}, "security": {}, "labels": {}}
    assert unset | stored == model.manifest()


@pytest.mark.parametrize("name", ["AGENT_SERVER", "VSCODE", "WORKER_1", "WORKER_2", "my-port"])
def test_names_of_ports_fit_openhands(sandboxes: Sandboxes, name: str) -> None:
    create(sandboxes, ports=[PORT | {"name": name}])


@pytest.mark.parametrize("port", ["AGENT_SERVER", 8000])
def test_a_probe_names_a_port_or_its_number(sandboxes: Sandboxes, port: str | int) -> None:
    create(sandboxes, ports=[PORT], readiness={"httpGet": {"port": port}})


@pytest.mark.parametrize("size", ["500m", "1.5", 2, "512Mi", "1e9", "9223372036854775806"])
def test_limits_are_quantities(sandboxes: Sandboxes, size: str | int) -> None:
    stored = create(sandboxes, resources={"limits": {"memory": size, "cpu": size}})
    SandboxSpec.parse(stored["spec"]).limits()


@pytest.mark.parametrize("path", ["", "/", "/a", "/a/", "/.well-known/x.y?tab=1&b=%20"])
def test_paths_of_urls(sandboxes: Sandboxes, path: str) -> None:
    create(sandboxes, ports=[PORT | {"path": path}])


def test_the_largest_spec_is_within_the_cost_budget(sandboxes: Sandboxes) -> None:
    create(
        sandboxes,
        env=[{"name": f"E{i}", "value": "x" * 1024} for i in range(256)],
        labels={f"{i:x>250}": "" for i in range(32)},
        ports=[{"name": f"P{i}", "containerPort": 8000 + i} for i in range(32)],
        volumes=[VOLUME | {"name": f"v{i}", "mountPath": f"/{i:0>1000}"} for i in range(32)],
        sessionKey={"envNames": [f"KEY_{i}" for i in range(8)]},
        readiness={"httpGet": {"port": "P31"}},
    )


# --- Refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.b", "a" * 64])
def test_a_name_that_is_no_dns_label_is_refused(sandboxes: Sandboxes, name: str) -> None:
    with pytest.raises(Refused) as refusal:
        sandboxes.create({"image": "busybox"}, dry=True, name=name)
    assert "metadata.name must be a DNS label" in " ".join(refusal.value.causes.values())


@pytest.mark.parametrize("name", ["a", "a" * 63, "0-a"])
def test_a_name_that_is_one_is_accepted(sandboxes: Sandboxes, name: str) -> None:
    sandboxes.create({"image": "busybox"}, dry=True, name=name)


# Type, pattern and bound: what the models refuse too, and at the same place.
@pytest.mark.parametrize(
    ("path", "spec"),
    [
        ("image", {"image": ""}),
        ("image", {"image": "a b"}),
        ("image", {"image": "--privileged"}),
        ("image", {"image": "x\n"}),
        ("imagePullPolicy", {"imagePullPolicy": "Sometimes"}),
        ("command[0]", {"command": ["x" * 4097]}),
        ("args[0]", {"args": ["x" * 131_072]}),
        ("command[0]", {"command": ["\0"]}),
        ("args", {"args": ["x"] * 257}),
        ("workingDir", {"workingDir": "work"}),
        ("workingDir", {"workingDir": "/work/../.."}),
        ("workingDir", {"workingDir": "/proc/self/fd/7"}),
        ("env[0].name", {"env": [{"name": "A=B", "value": ""}]}),
        ("env[0].name", {"env": [{"name": "", "value": ""}]}),
        ("env[0].name", {"env": [{"name": "1A", "value": ""}]}),
        ("env[0].name", {"env": [{"name": "A\n", "value": ""}]}),
        ("env[0].value", {"env": [{"name": "A", "value": "\0"}]}),
        ("env[0].value", {"env": [{"name": "A", "value": "x" * 32769}]}),
        ("env", {"env": [{"name": f"A{i}", "value": ""} for i in range(257)]}),
        ("envFrom[0].secretRef.name", {"envFrom": [{"secretRef": {"name": "../etc"}}]}),
        ("envFrom[0].prefix", {"envFrom": [{"secretRef": {"name": "a"}, "prefix": "A="}]}),
        ("ports[0].name", {"ports": [PORT | {"name": "1A"}]}),
        ("ports[0].name", {"ports": [PORT | {"name": "x" * 64}]}),
        ("ports[0].containerPort", {"ports": [PORT | {"containerPort": 0}]}),
        ("ports[0].containerPort", {"ports": [PORT | {"containerPort": 65536}]}),
        ("ports[0].hostPort", {"ports": [PORT | {"hostPort": -1}]}),
        ("ports[0].scheme", {"ports": [PORT | {"scheme": "file"}]}),
        ("ports[0].path", {"ports": [PORT | {"path": "a"}]}),
        ("ports[0].path", {"ports": [PORT | {"path": "/" + "x" * 256}]}),
        ("ports[0].path", {"ports": [PORT | {"path": "//evil.example"}]}),
        ("ports[0].path", {"ports": [PORT | {"path": "/a/../b"}]}),
        ("ports[0].path", {"ports": [PORT | {"path": "/a\r\nHost: b"}]}),
        ("ports[0].path", {"ports": [PORT | {"path": "/a\\b"}]}),
        ("resources.limits.memory", {"resources": {"limits": {"memory": "2g"}}}),
        ("resources.limits.cpu", {"resources": {"limits": {"cpu": "-1"}}}),
        ("resources.limits.cpu", {"resources": {"limits": {"cpu": 0}}}),
        ("resources.limits.cpu", {"resources": {"limits": {"cpu": "1e999"}}}),
        ("resources.limits.memory", {"resources": {"limits": {"memory": "8Ei"}}}),
        ("resources.limits.pids", {"resources": {"limits": {"pids": 0}}}),
        ("volumes[0].name", {"volumes": [VOLUME | {"name": "../x"}]}),
        ("volumes[0].mountPath", {"volumes": [VOLUME | {"mountPath": "/"}]}),
        ("volumes[0].mountPath", {"volumes": [VOLUME | {"mountPath": "work"}]}),
        ("volumes[0].mountPath", {"volumes": [VOLUME | {"mountPath": "/a/../etc"}]}),
        ("volumes[0].mountPath", {"volumes": [VOLUME | {"mountPath": "/a:ro"}]}),
        ("volumes[0].mountPath", {"volumes": [VOLUME | {"mountPath": "/a/"}]}),
        ("volumes[0].mountPath", {"volumes": [VOLUME | {"mountPath": "/proc"}]}),
        ("security.runtime", {"security": {"runtime": "../../bin/sh"}}),
        ("terminationGracePeriodSeconds", {"terminationGracePeriodSeconds": -1}),
        ("terminationGracePeriodSeconds", {"terminationGracePeriodSeconds": 3601}),
        ("sessionKey.mode", {"sessionKey": {"mode": "Maybe"}}),
        ("sessionKey.envNames", {"sessionKey": {"envNames": []}}),
        ("sessionKey.envNames[0]", {"sessionKey": {"envNames": ["A B"]}}),
        ("createdByUserId", {"createdByUserId": "a\nb"}),
        ("createdByUserId", {"createdByUserId": "x" * 254}),
        ("createdByUserId", {"createdByUserId": "a\x9bb"}),
        ("labels", {"labels": {f"l{i}": "" for i in range(33)}}),
        ("labels", {"labels": {"a b": ""}}),
        ("labels", {"labels": {"a\n": ""}}),
        ("labels", {"labels": {"": ""}}),
        ("labels", {"labels": {"a" * 254: ""}}),
    ],
)
def test_what_breaks_a_bound_or_pattern_is_refused_at_its_field(
    sandboxes: Sandboxes, path: str, spec: Json
) -> None:
    with pytest.raises(Refused) as refusal:
        create(sandboxes, **spec)
    assert f"spec.{path}" in refusal.value.causes
    with pytest.raises(InvalidResource) as invalid:
        SandboxSpec.parse({"image": "busybox"} | spec, at="spec")
    assert invalid.value.path == f"spec.{path}"


# What holds between fields: CEL alone says so, in a sentence of ours.
@pytest.mark.parametrize(
    ("path", "words", "spec"),
    [
        ("image", "image is required", {"image": None}),
        ("templateRef", "templates come in a later version", {"templateRef": {"name": "t"}}),
        ("env", "262144 characters together", {"args": ["x" * 4096] * 64, "command": ["x"]}),
        ("env[0]", "exactly one of value and valueFrom", {"env": [{"name": "A"}]}),
        (
            "env[0]",
            "exactly one of value and valueFrom",
            {"env": [{"name": "A", "value": "", "valueFrom": FROM_SECRET}]},
        ),
        ("envFrom[0]", "exactly one of secretRef and configMapRef", {"envFrom": [{}]}),
        (
            "envFrom[0]",
            "exactly one of secretRef and configMapRef",
            {"envFrom": [{"secretRef": {"name": "a"}, "configMapRef": {"name": "a"}}]},
        ),
        (
            "volumes[0]",
            "exactly one source of the volume: managed",
            {"volumes": [{"name": "a", "mountPath": "/a"}]},
        ),
        ("sessionKey.secretRef", "required with", {"sessionKey": {"mode": "SecretRef"}}),
        ("sessionKey.secretRef", "no other mode", {"sessionKey": {"secretRef": {"name": "a"}}}),
        ("env", "sessionKey", {"env": [{"name": "OH_SESSION_API_KEYS_0", "value": ""}]}),
        ("ports", "containerPort of its own", {"ports": [PORT, PORT | {"name": "b"}]}),
        (
            "ports",
            "hostPort must be another",
            {
                "ports": [
                    PORT | {"hostPort": 80},
                    {"name": "b", "containerPort": 1, "hostPort": 80},
                ]
            },
        ),
        ("volumes", "mountPath of its own", {"volumes": [VOLUME, VOLUME | {"name": "b"}]}),
        ("readiness.httpGet.port", "one of spec.ports", {"readiness": {"httpGet": {"port": "a"}}}),
        (
            "readiness.httpGet.port",
            "one of spec.ports",
            {"ports": [PORT], "readiness": {"httpGet": {"port": 80}}},
        ),
        ("env[1]", "Duplicate", {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": ""}]}),
        ("ports[1]", "Duplicate", {"ports": [PORT, PORT | {"containerPort": 1}]}),
        ("volumes[1]", "Duplicate", {"volumes": [VOLUME, VOLUME | {"mountPath": "/b"}]}),
        ("sessionKey.envNames[1]", "Duplicate", {"sessionKey": {"envNames": ["A", "A"]}}),
    ],
)
def test_what_contradicts_itself_is_refused_with_a_sentence(
    sandboxes: Sandboxes, path: str, words: str, spec: Json
) -> None:
    with pytest.raises(Refused) as refusal:
        create(sandboxes, **spec)
    assert words in refusal.value.causes[f"spec.{path}"]


def test_a_misspelt_field_is_refused_by_clients_that_ask_for_it(sandboxes: Sandboxes) -> None:
    with pytest.raises(Refused, match=r"spec\.imagePullPolice"):
        create(sandboxes, imagePullPolice="Always")


def test_without_a_session_key_its_variable_is_free(sandboxes: Sandboxes) -> None:
    variable = {"name": "OH_SESSION_API_KEYS_0", "value": "mine"}
    create(sandboxes, sessionKey={"mode": "None"}, env=[variable])


# --- Status ----------------------------------------------------------------------------------


def test_a_sandbox_that_no_operator_has_seen_reads_as_starting(sandboxes: Sandboxes) -> None:
    with sandboxes.holding({"image": "busybox"}) as created:
        name = created["metadata"]["name"]
        assert sandboxes.get(name)["status"] == {"phase": "STARTING"}
        assert name in sandboxes.select("status.phase=STARTING")
        assert name not in sandboxes.select("status.phase=RUNNING")


def test_status_is_written_on_its_own(sandboxes: Sandboxes) -> None:
    status = {
        "phase": "RUNNING",
        "exposedUrls": [{"name": "AGENT_SERVER", "url": "http://127.0.0.1:1", "port": 1}],
        "container": {"id": "c", "exitCode": -1, "startedAt": "2026-01-02T03:04:05.000006Z"},
        "suspended": {"reason": "Idle", "at": NOW},
        "pausing": {"containerId": "c", "at": NOW},
        "sessionApiKeySecretRef": {"name": "s", "key": "k"},
        "conditions": [_condition("Ready")],
        "observedGeneration": 1,
    }
    with sandboxes.holding({"image": "busybox"}) as created:
        written = sandboxes.write_status(created, status)
        assert written["status"] == status
        assert written["metadata"]["generation"] == 1
        parsed = Sandbox.parse(written)
        again = sandboxes.write_status(created, parsed.status.manifest())
        assert Sandbox.parse(again).status == parsed.status
        assert created["metadata"]["name"] in sandboxes.select("status.phase=RUNNING")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("phase", {"phase": "Running"}),
        ("conditions[1]", {"conditions": [{"type": "A"}, {"type": "A"}]}),
        ("exposedUrls[1]", {"exposedUrls": [{"name": "A"}, {"name": "A"}]}),
    ],
)
def test_a_status_out_of_its_bounds_is_refused(
    sandboxes: Sandboxes, path: str, status: Json
) -> None:
    full = {"conditions": _condition("A"), "exposedUrls": {"url": "http://a", "port": 1}}
    status = {
        key: [full[key] | entry for entry in value] if key in full else value
        for key, value in status.items()
    }
    with sandboxes.holding({"image": "busybox"}) as created:
        with pytest.raises(Refused) as refusal:
            sandboxes.write_status(created, status)
        assert f"status.{path}" in refusal.value.causes


def test_users_are_found_by_a_field_selector(sandboxes: Sandboxes) -> None:
    with (
        sandboxes.holding({"image": "busybox", "createdByUserId": "ann"}) as anns,
        sandboxes.holding({"image": "busybox", "createdByUserId": "bob"}),
    ):
        assert sandboxes.select("spec.createdByUserId=ann") == {anns["metadata"]["name"]}
        both = "spec.createdByUserId=ann,status.phase=STARTING,spec.templateRef.name="
        assert sandboxes.select(both) == {anns["metadata"]["name"]}


# --- kubectl ---------------------------------------------------------------------------------


def test_kubectl_explains_every_field_of_spec(cluster: ControlPlane) -> None:
    said = kubectl(cluster, "explain", "sandbox.spec")
    for field in SandboxSpec.model_fields.values():
        assert f"  {field.alias}\t<" in said
    assert "Bytes" not in said
    limits = kubectl(cluster, "explain", "sandbox.spec.resources.limits")
    assert "512Mi" in limits
    assert "Seconds" in kubectl(cluster, "explain", "sandbox.spec.readiness.periodSeconds")


def test_kubectl_shows_the_state_of_sandboxes(cluster: ControlPlane, sandboxes: Sandboxes) -> None:
    with sandboxes.holding({"image": "busybox", "createdByUserId": "ann"}) as created:
        name = created["metadata"]["name"]
        ready = _condition("Ready") | {"message": "It answers."}
        url = {"name": "AGENT_SERVER", "url": "http://127.0.0.1:1234", "port": 1234}
        sandboxes.write_status(
            created, {"phase": "RUNNING", "conditions": [ready], "exposedUrls": [url]}
        )
        short = _table(kubectl(cluster, "get", "sbx", name))
        assert list(short) == ["NAME", "PHASE", "READY", "IMAGE", "URL", "AGE"]
        assert (short["PHASE"], short["READY"], short["IMAGE"]) == ("RUNNING", "True", "busybox")
        assert short["URL"] == "http://127.0.0.1:1234"
        wide = _table(kubectl(cluster, "get", "openhands", name, "-o", "wide"))
        assert list(wide)[-3:] == ["USER", "REASON", "MESSAGE"]
        assert (wide["USER"], wide["REASON"]) == ("ann", "Ready")


def _table(text: str) -> dict[str, str]:
    header, row = text.splitlines()
    return dict(zip(header.split(), row.split(maxsplit=len(header.split()) - 1), strict=True))


def _condition(type_: str) -> Json:
    return {
        "type": type_,
        "status": "True",
        "reason": "Ready",
        "message": "",
        "lastTransitionTime": NOW,
        "observedGeneration": 1,
    }
