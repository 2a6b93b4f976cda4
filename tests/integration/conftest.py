"""A real API server with the CRDs of this checkout, one for all tests of a session."""

from collections.abc import Iterator

import pytest

from dev.apiserver import ControlPlane
from dev.binaries import ensure_binaries
from dev.cluster import install_crds


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """`cluster.kubeconfig` is the admin's; `cluster.kubeconfig_for(user)` another user's."""
    control_plane = ControlPlane(tmp_path_factory.mktemp("cluster"), ensure_binaries())
    control_plane.start()
    install_crds(control_plane.kubeconfig)
    yield control_plane
    control_plane.stop()
