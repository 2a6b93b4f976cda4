"""The control plane: who may do what, and what restarts, crashes and taken ports leave."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config

from dev.apiserver import ControlPlane
from dev.binaries import ensure_binaries

RBAC = "rbac.authorization.k8s.io"


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    running = ControlPlane(tmp_path_factory.mktemp("cluster"), ensure_binaries())
    running.start()
    yield running
    running.stop()


def test_the_admin_may_do_everything_and_others_what_rbac_says(control_plane: ControlPlane) -> None:
    assert _core(control_plane.kubeconfig).list_namespace().items
    bob = _core(control_plane.kubeconfig_for("bob", ["developers"]))
    with pytest.raises(client.ApiException, match="Forbidden"):
        bob.list_namespace()
    with config.new_client_from_config(str(control_plane.kubeconfig)) as admin:
        # Not `view`: kube-controller-manager, which is not here, gives it its rules.
        role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"}
        subject = {"apiGroup": RBAC, "kind": "Group", "name": "developers"}
        client.RbacAuthorizationV1Api(admin).create_cluster_role_binding(
            {"metadata": {"name": "developers"}, "roleRef": role, "subjects": [subject]}
        )
    _wait_allowed(bob)


@pytest.mark.parametrize("crash", [False, True])
def test_objects_and_address_outlive_a_restart(control_plane: ControlPlane, crash: bool) -> None:
    api, url = _core(control_plane.kubeconfig), control_plane.url
    api.create_namespaced_config_map("default", {"metadata": {"name": f"kept-{crash}".lower()}})
    if crash:
        control_plane.kill()
        assert not control_plane.ready()
        control_plane.start()
    else:
        control_plane.restart_apiserver()
    assert control_plane.url == url
    assert api.read_namespaced_config_map(f"kept-{crash}".lower(), "default")


def test_objects_outlive_a_change_of_ports(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path, ensure_binaries())
    plane.start()
    try:
        api = _core(plane.kubeconfig)
        for number in range(20):
            api.create_namespaced_config_map("default", {"metadata": {"name": f"kept-{number}"}})
        plane.kill()
        (tmp_path / "ports.json").unlink()
        plane.start()
        kept = _core(plane.kubeconfig).list_namespaced_config_map("default").items
        assert len([each for each in kept if each.metadata.name.startswith("kept-")]) == 20
    finally:
        plane.stop()


def test_a_taken_port_is_left_to_whoever_has_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "ports.json").write_text(json.dumps([port, port, port]))
        other = ControlPlane(tmp_path, ensure_binaries())
        other.start()
        try:
            assert other.ready()
            assert str(port) not in other.url
        finally:
            other.stop()


def _wait_allowed(api: client.CoreV1Api) -> None:
    """The authorizer learns of a new binding by a watch."""
    deadline = time.monotonic() + 10
    while True:
        try:
            api.list_namespace()
            return
        except client.ApiException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _core(kubeconfig: Path) -> client.CoreV1Api:
    return client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
