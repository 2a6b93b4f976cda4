"""Hostile images, limits, variables and references, as data. See attempts.py."""

from __future__ import annotations

from typing import Any

from tests.security.attempts import (
    DROPPED,
    HARMLESS,
    PRUNED,
    REFUSED,
    TOLD,
    Outcome,
    limit,
    spec,
    variable,
)
from tests.security.bystanders import NAMESPACE, SECRET

THEIRS = {"name": SECRET, "namespace": NAMESPACE, "key": "token"}

IMAGES = [
    *(
        spec(f"the image {image!r:.40}", TOLD, "NotAllowed spec.image", image=image)
        for image in (
            *("elsewhere.example/sandbox-operator/v", "elsewhere.example:5000/v:1", "v", "v:1"),
            *("docker.io/sandbox-operator/v", "sandbox-operator.example/v", "Sandbox-operator/v"),
            *("sha256:" + "0" * 64, "0" * 12, "127.0.0.1:5000/v", "[::1]:5000/v", "localhost/v"),
            *("169.254.169.254/v", "file:///v", "http://elsewhere.example/v", "sandbox-operator"),
        )
    ),
    *(
        spec(f"the image {image!r:.50}", TOLD, words, image=image)
        for image, words in (
            ("sandbox-operator/../v", "InvalidSpec spec.image"),
            ("sandbox-operator//v", "InvalidSpec spec.image"),
            ("sandbox-operator/V", "InvalidSpec spec.image"),
            ("sandbox-operator/v:", "InvalidSpec spec.image"),
            ("sandbox-operator/v@sha256:0", "InvalidSpec spec.image"),
            ("sandbox-operator/busybox:dev@sha256:" + "0" * 64, "ImageNotFound spec.image"),
            ("sandbox-operator/" + "v" * 490, "InvalidSpec spec.image"),
        )
    ),
    spec(
        "an image that is a URL, to be pulled",
        TOLD,
        "InvalidSpec spec.image",
        image="sandbox-operator/v://v",
        imagePullPolicy="Always",
    ),
    *(
        spec(f"the image {image!r:.30}", REFUSED, "image", image=image)
        for image in (
            *("--privileged", "-v/:/host", " v", "v v", "v\n", "v\0", "../v", "/v", "$(v)", "v;v"),
            *("", "ν", "v" * 513, None, 1, ["v"], {"v": "v"}),
        )
    ),
    spec("no image", REFUSED, "image is required", image=...),
]

MEMORY: tuple[Any, ...] = (
    *("-1", "0", 0, -1, "-0", "0.0", "NaN", "Inf", "1e99", "1e999", "8Ei", "1" * 33, 2**63 - 1),
    *("0x10", "１Gi", "1 Gi", "1Gi\n", "1Gi;", "max", "unlimited", "", True, [], {}),
)

LIMITS = [
    *(
        spec(f"memory {size!r}", REFUSED, "resources.limits.memory", **limit(memory=size))
        for size in MEMORY
    ),
    *(
        spec(f"cpu {size!r}", REFUSED, "resources.limits.cpu", **limit(cpu=size))
        for size in ("-1", 0, "0n", "1e99", "NaN", 2**64, 0.5, "100%")
    ),
    *(
        spec(f"pids {size!r}", REFUSED, "resources.limits.pids", **limit(pids=size))
        for size in (0, -1, 4194305, "max", 1.5, 2**64)
    ),
    spec("a byte of memory", TOLD, "InvalidSpec spec.resources.limits.memory", **limit(memory=1)),
    spec("a billionth of a core", TOLD, "InvalidSpec spec.resources.limits.cpu", **limit(cpu="1n")),
    spec("5 EiB of memory", HARMLESS, **limit(memory="5Ei")),
    spec("all the memory there is", HARMLESS, **limit(memory=2**63 - 2)),
    spec("10^15 cores", TOLD, "InvalidSpec spec.resources.limits.cpu", **limit(cpu="1P")),
    spec("10^9 cores", TOLD, "spec.resources.limits.cpu", **limit(cpu="1G")),
    spec("no limit at all", HARMLESS, resources={"limits": None}),
    spec("limits of nothing", HARMLESS, **limit(memory=None, pids=None, cpu=None)),
    spec("swap", PRUNED, **limit(memorySwap=-1)),
    spec("a device", PRUNED, resources={"limits": {"nvidia.com/gpu": 1}}),
    spec("a grace period of years", REFUSED, "Seconds", terminationGracePeriodSeconds=2**31),
    spec("a grace period below nothing", REFUSED, "Seconds", terminationGracePeriodSeconds=-1),
]

VARIABLES = [
    *(
        spec(
            f"a variable named {name!r:.30}",
            REFUSED,
            "env[0].name",
            **variable(name=name, value=""),
        )
        for name in ("V=W", "V\0", "V\n", "V W", "=V", "", "1V", "-v", "Ν", "V" * 254)
    ),
    *(
        spec(f"the variable {name}", HARMLESS, **variable(name=name, value="/bin"))
        for name in ("LD_PRELOAD", "DOCKER_HOST", "PATH", "KUBECONFIG", "HTTP_PROXY", "_", "V.w-v")
    ),
    spec("a NUL in a value", REFUSED, "env[0].value", **variable(value="v\0W=v")),
    spec("new lines in a value", HARMLESS, **variable(value="v\nW=v\r\n")),
    spec("257 variables", REFUSED, "env", env=[{"name": f"V{i}", "value": ""} for i in range(257)]),
    spec(
        "1,000 variables", REFUSED, "env", env=[{"name": f"V{i}", "value": ""} for i in range(1000)]
    ),
    spec("one variable twice", REFUSED, "Duplicate", env=[{"name": "V", "value": ""}] * 2),
    spec(
        "its own session key",
        REFUSED,
        "sessionKey",
        **variable(name="OH_SESSION_API_KEYS_0", value="v" * 32),
    ),
    spec("a field of the node", DROPPED, "env[0].value", **variable(valueFrom={"fieldRef": {}})),
    spec(
        "a file of the node",
        DROPPED,
        "env[0].value",
        **variable(valueFrom={"fileKeyRef": {"path": "/etc/shadow"}}),
    ),
    spec("an argument with a NUL", REFUSED, "args[0]", args=["v\0"]),
    spec("257 arguments", REFUSED, "args", args=["v"] * 257),
    spec("a command with a NUL", REFUSED, "command[0]", command=["v\0"]),
    spec("an empty command", HARMLESS, command=[]),
]

SECRETS = [
    spec(
        "a Secret of another namespace",
        Outcome.PRUNED,
        f"SecretNotFound Secret {SECRET} does not exist",
        **variable(valueFrom={"secretKeyRef": THEIRS}),
    ),
    spec(
        "all of a Secret of another namespace",
        Outcome.PRUNED,
        f"SecretNotFound Secret {SECRET} does not exist",
        envFrom=[{"secretRef": {"name": SECRET, "namespace": NAMESPACE}}],
    ),
    spec(
        "a ConfigMap of another namespace",
        Outcome.PRUNED,
        f"ConfigMapNotFound ConfigMap {SECRET} does not exist",
        envFrom=[{"configMapRef": {"name": SECRET, "namespace": NAMESPACE}}],
    ),
    spec(
        "a session key of another namespace",
        Outcome.PRUNED,
        f"SecretNotFound Secret {SECRET} ",
        sessionKey={"mode": "SecretRef", "secretRef": THEIRS},
    ),
    spec(
        "a Secret by its name alone",
        TOLD,
        "SecretNotFound spec.env[V].valueFrom.secretKeyRef",
        **variable(valueFrom={"secretKeyRef": {"name": SECRET, "key": "token"}}),
    ),
    spec(
        "a service account's token",
        TOLD,
        "SecretNotFound spec.envFrom[0].secretRef",
        envFrom=[{"secretRef": {"name": "default-token"}}],
    ),
    *(
        spec(
            f"a Secret named {name!r:.30}",
            REFUSED,
            "secretRef.name",
            envFrom=[{"secretRef": {"name": name}}],
        )
        for name in (
            *(
                f"../{NAMESPACE}/{SECRET}",
                f"{NAMESPACE}/{SECRET}",
                f"../../{NAMESPACE}/secrets/{SECRET}",
            ),
            *(
                "..",
                ".",
                f"%2e%2e%2f{SECRET}",
                f"{SECRET}?",
                f"{SECRET}#",
                "v\n",
                "",
                "V",
                "v" * 254,
            ),
        )
    ),
    spec(
        "an entry of a Secret that climbs",
        REFUSED,
        "secretKeyRef.key",
        **variable(valueFrom={"secretKeyRef": {"name": "v", "key": "../token"}}),
    ),
    spec(
        "a session key in a Secret that climbs",
        REFUSED,
        "sessionKey.secretRef.name",
        sessionKey={"mode": "SecretRef", "secretRef": {"name": f"../{NAMESPACE}/{SECRET}"}},
    ),
    spec(
        "a session key under an odd name", REFUSED, "envNames[0]", sessionKey={"envNames": ["V=W"]}
    ),
    spec("a session key as a library to load", HARMLESS, sessionKey={"envNames": ["LD_PRELOAD"]}),
    spec(
        "a prefix that ends a variable",
        REFUSED,
        "prefix",
        envFrom=[{"prefix": "V=", "secretRef": {"name": "v"}}],
    ),
]
