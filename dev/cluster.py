"""The checkout's own cluster in .dev/, which outlives the command, and CRDs for any cluster."""

import shutil
import time
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config

from dev import engine
from dev.apiserver import ControlPlane
from dev.binaries import ensure_binaries
from dev.leftovers import remove_owned
from dev.progress import DevError, step

CHECKOUT = Path(__file__).parent.parent
DIRECTORY = CHECKOUT / ".dev"
CRDS = CHECKOUT / "crds"
SECONDS_TO_ESTABLISH = 30


def up() -> ControlPlane:
    """Start the checkout's cluster unless it runs, and bring its CRDs up to date."""
    cluster = ControlPlane(DIRECTORY, ensure_binaries(), detached=True)
    if not cluster.ready():
        with step("starting etcd and kube-apiserver"):
            cluster.start()
    install_crds(cluster.kubeconfig)
    return cluster


def existing() -> ControlPlane | None:
    """The checkout's cluster, running or not; None if there never was one."""
    if not (DIRECTORY / "ports.json").exists():
        return None
    return ControlPlane(DIRECTORY, ensure_binaries(), detached=True)


def remove() -> None:
    """End the checkout's cluster, remove its data and all that its operator left in the engine."""
    if cluster := existing():
        if cluster.ready():
            uid = cluster_uid(cluster.kubeconfig)
            if engine.answers(engine.DEFAULT_HOST):
                remove_owned(engine.ensure_engine(), uid)
        cluster.stop()
    shutil.rmtree(DIRECTORY, ignore_errors=True)


def install_crds(kubeconfig: Path) -> None:
    """Create or update the CRDs of crds/; returns once the API serves them."""
    new = set(add_missing_crds(kubeconfig))
    with config.new_client_from_config(str(kubeconfig)) as api_client:
        api = client.ApiextensionsV1Api(api_client)
        for crd in _crds():
            name = crd["metadata"]["name"]
            if name not in new:
                version = api.read_custom_resource_definition(name).metadata.resource_version
                crd["metadata"]["resourceVersion"] = version
                api.replace_custom_resource_definition(name, crd)
                _wait_established(api, name)


def add_missing_crds(kubeconfig: Path) -> list[str]:
    """Create those CRDs of crds/ that the cluster lacks; returns their names once they serve."""
    with config.new_client_from_config(str(kubeconfig)) as api_client:
        api = client.ApiextensionsV1Api(api_client)
        created = [crd["metadata"]["name"] for crd in _crds() if _create(api, crd)]
        for name in created:
            _wait_established(api, name)
    return created


def remove_crds(kubeconfig: Path, names: list[str]) -> None:
    """Delete CRDs, and with them every object of their kinds."""
    with config.new_client_from_config(str(kubeconfig)) as api_client:
        for name in names:
            client.ApiextensionsV1Api(api_client).delete_custom_resource_definition(name)


def cluster_uid(kubeconfig: Path) -> str:
    """What identifies a cluster: the UID of its namespace kube-system."""
    with config.new_client_from_config(str(kubeconfig)) as api_client:
        return str(client.CoreV1Api(api_client).read_namespace("kube-system").metadata.uid)


def _crds() -> list[dict[str, Any]]:
    documents = [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]
    if not documents:
        raise DevError("crds/ is empty: run `.venv/bin/python -m controller.generate`.")
    return documents


def _create(api: client.ApiextensionsV1Api, crd: dict[str, Any]) -> bool:
    """False if the cluster has it."""
    try:
        api.create_custom_resource_definition(crd)
    except client.ApiException as error:
        if error.status != 409:
            raise
        return False
    return True


def _wait_established(api: client.ApiextensionsV1Api, name: str) -> None:
    deadline = time.monotonic() + SECONDS_TO_ESTABLISH
    while True:
        conditions = api.read_custom_resource_definition(name).status.conditions or []
        if any(c.type == "Established" and c.status == "True" for c in conditions):
            return
        if time.monotonic() > deadline:
            raise DevError(f"the API server does not accept the CRD {name}: {conditions}")
        time.sleep(0.05)
