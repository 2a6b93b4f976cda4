"""Hostile metadata, labels, envelopes and sizes, as data: see attempts.py."""

from __future__ import annotations

import json

from controller.core import names
from tests.security.attacker import manifest
from tests.security.attempts import (
    HARMLESS,
    PRUNED,
    REFUSED,
    TOLD,
    Attempt,
    Outcome,
    metadata,
    spec,
)
from tests.security.bystanders import NAMESPACE

OURS = {
    names.OWNER_LABEL: "another.default",
    names.UID_LABEL: "00000000-0000-0000-0000-000000000000",
    names.NAMESPACE_LABEL: NAMESPACE,
    names.SANDBOX_LABEL: "victim",
    names.SPEC_HASH_LABEL: "v1-0000000000000000",
    names.STOP_GRACE_LABEL: "3600",
    names.RECLAIM_LABEL: "Retain",
    names.VOLUME_LABEL: "work",
}
HIDDEN = (
    "\u202e\u200b\u2066\u2028\u200d\u034f\u115f\u3164\ufe0f\u2800\ufeff\ue000\u0378\U000e0041\u00a0"
)
"""Unseen: formats, separators, fillers, what is not assigned or private."""
LAST_HANDLED = "kopf.zalando.org/last-handled-configuration"


def raw(title: str, words: str, text: str, outcome: Outcome = REFUSED) -> Attempt:
    """A body that is no manifest; NAME stands for a name."""
    return Attempt(title, outcome, words, lambda name, _: text.replace("NAME", name))


def _nested(depth: int) -> str:
    nest = '{"v":' * depth + "1" + "}" * depth
    return json.dumps(manifest("NAME", {"v": 0})).replace('"v": 0', f'"v": {nest}')


LABELS = [
    spec("labels of the container that imitate ours", HARMLESS, labels=OURS),
    Attempt(
        "labels of the container that say it is another's",
        HARMLESS,
        "",
        lambda name, b: manifest(name, {"labels": OURS | {names.UID_LABEL: b.victim.uid}}),
    ),
    *(
        spec(
            f"a label that is an order to others: {key}",
            TOLD,
            f"NotAllowed spec.labels[{key}]",
            labels={key: "v"},
        )
        for key in (
            "com.docker.compose.project",
            "ofelia.job-local.v.command",
            "traefik.http.routers.v.rule",
            "autoheal",
        )
    ),
    spec("a label's value with an escape", REFUSED, "spec.labels", labels={"v": "v\x1b[2J"}),
    spec("a label's value with NUL", REFUSED, "spec.labels", labels={"v": "v\0"}),
    spec("33 labels", REFUSED, "labels", labels={f"v{i}": "" for i in range(33)}),
    spec("a label's value of 254", REFUSED, "labels", labels={"v": "v" * 254}),
    *(
        spec(f"a label named {key!r:.30}", REFUSED, "spec.labels", labels={key: ""})
        for key in ("", "v=w", "v\n", "v\0", "v" * 318, "-v", "v v", "\x1b[31mv", "ν")
    ),
    metadata("labels of the object that imitate ours", HARMLESS, labels=OURS | {"v": "v"}),
    metadata(
        "the hash of a session key",
        HARMLESS,
        labels={names.KEY_HASH_LABEL: names.key_hash("v" * 32), names.NAME_LABEL: "victim"},
    ),
    spec("a user's name with an escape", REFUSED, "createdByUserId", createdByUserId="v\x1b[2J"),
    *(
        spec(
            f"a user's name with {character!a}",
            REFUSED,
            "createdByUserId",
            createdByUserId=f"v{character}w",
        )
        for character in HIDDEN
    ),
    *(
        spec(f"a label's value with {character!a}", REFUSED, "spec.labels", labels={"v": character})
        for character in HIDDEN[::3]
    ),
    spec("a user's name of many scripts", HARMLESS, createdByUserId="é ν 漢字 한 😀 (a)"),
    spec("a user's name with a C1 control", REFUSED, "createdByUserId", createdByUserId="v\x9b2J"),
    spec("a user's name of 254", REFUSED, "createdByUserId", createdByUserId="v" * 254),
]

ANNOTATIONS = [
    *(
        metadata(
            f"to be resumed at {when!r:.40}",
            HARMLESS,
            annotations={names.RESUME_REQUESTED_AT: when},
        )
        for when in (
            *("", "never", "NaN", "inf", "-1e400", "9" * 400, "0001-01-01T00:00:00+23:59"),
            *("9999-12-31T23:59:59-23:59", "2026-01-01", "-9999999999999", "v" * 100000),
        )
    ),
    metadata(
        "what kopf remembers",
        HARMLESS,
        annotations={LAST_HANDLED: "{v", "kopf.zalando.org/sandbox": "[v", "kopf.dev/v": "\0"},
    ),
    metadata("256 KiB of annotations", HARMLESS, annotations={"v": "v" * (262144 - 1)}),
    metadata("more than 256 KiB of them", REFUSED, "annotations", annotations={"v": "v" * 262144}),
    metadata(
        "what kubectl applied last",
        HARMLESS,
        annotations={"kubectl.kubernetes.io/last-applied-configuration": "{v"},
    ),
    metadata(
        "an id that climbs", HARMLESS, annotations={names.ID_ANNOTATION: "../../victims/victim"}
    ),
]

OWNERS = [
    metadata("our finalizer", HARMLESS, finalizers=[names.FINALIZER]),
    metadata("a finalizer that is no name", REFUSED, "finalizers", finalizers=["v v"]),
    Attempt(
        "an owner in another namespace",
        HARMLESS,
        "",
        lambda name, b: manifest(
            name,
            {},
            ownerReferences=[
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.KIND,
                    "name": "victim",
                    "uid": b.victim.uid,
                    "controller": True,
                }
            ],
        ),
    ),
    metadata(
        "an owner that is nothing",
        REFUSED,
        "ownerReferences",
        ownerReferences=[{"apiVersion": "", "kind": "", "name": "", "uid": ""}],
    ),
    metadata("a deletion in the past", HARMLESS, deletionTimestamp="2020-01-01T00:00:00Z"),
    metadata("a birth in the future", HARMLESS, creationTimestamp="9999-12-31T23:59:59Z"),
    metadata("a generation of its own", HARMLESS, generation=2**62),
    metadata("managers that are none", HARMLESS, managedFields=[{"manager": "v"}]),
    Attempt(
        "a status of its own",
        HARMLESS,
        "",
        lambda name, b: (
            manifest(name, {}) | {"status": {"phase": "RUNNING", "container": {"id": b.stranger}}}
        ),
    ),
    Attempt(
        "a status that is none",
        HARMLESS,  # the API server drops it: only sandboxes/status writes one
        "",
        lambda name, _: manifest(name, {}) | {"status": {"phase": "Running"}},
    ),
]

NAMES = [
    *(
        Attempt(
            f"the name {wrong!r:.80}",
            REFUSED,
            "metadata.name",
            lambda _, __, wrong=wrong: manifest(wrong, {}),  # type: ignore[misc]
        )
        for wrong in (
            *("../victim", "v/w", "V", "v_w", "v.w", "v\n", "v\0", "ν", "-v", "v" * 64, "v" * 300),
            *("..", "v%2fw", "--privileged", "v:w"),
        )
    ),
    Attempt("no name", REFUSED, "name", lambda _, __: manifest("", {})),
    Attempt(
        "a generated name that is too long",
        HARMLESS,  # cut by the API server, to 63
        "",
        lambda _, __: manifest("", {}, generateName="v" * 200),
    ),
    metadata("a namespace that is another", REFUSED, "namespace", namespace=NAMESPACE),
]

BODIES = [
    raw("nothing", "", ""),
    raw("a text", "", '"v"'),
    raw("a list", "", "[]"),
    raw("a null", "", "null"),
    raw("half an object", "", '{"apiVersion":'),
    raw("a spec that is a text", "spec", json.dumps(manifest("NAME", "v"))),
    raw("a spec that is a list", "spec", json.dumps(manifest("NAME", []))),
    raw("a spec that is null", "spec", json.dumps(manifest("NAME", None))),
    raw("another kind", "kind", json.dumps(manifest("NAME", {}) | {"kind": "Pod"})),
    raw("another group", "", json.dumps(manifest("NAME", {}) | {"apiVersion": "v1"})),
    raw("another version", "", json.dumps(manifest("NAME", {})).replace("v1alpha1", "v9")),
    raw(
        "an unpaired surrogate",
        "createdBy",
        json.dumps(manifest("NAME", {"createdByUserId": "\ud800\x7f"})),
    ),
    raw(
        "one key twice",
        "",
        json.dumps(manifest("NAME", {})).replace('"spec": {', '"spec": {"command": ["v"], '),
        PRUNED,
    ),
    raw("a nest of 1,000", "", _nested(1000), PRUNED),
    raw("a nest of 20,000", "", _nested(20000)),
    raw("4 MB", "large", json.dumps(manifest("NAME", {"args": ["v" * 4096] * 1000}))),
    raw(
        "2 MB",
        "characters together",
        json.dumps(
            manifest("NAME", {"env": [{"name": f"V{i}", "value": "v" * 32768} for i in range(60)]})
        ),
    ),
]

METADATA = [*LABELS, *ANNOTATIONS, *OWNERS, *NAMES, *BODIES]
