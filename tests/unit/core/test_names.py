"""Names: functions of the full UID, valid where they are used, and no two alike."""

from __future__ import annotations

import re

import pytest

from controller.core import names
from controller.core.names import Owner

UID = "0f5a4b1e-8c1d-4b5e-9f57-3a1f6f0d2c11"


def test_engine_names_are_functions_of_the_full_uid() -> None:
    name = names.container_name(Owner("c", "default"), UID)
    assert name == names.container_name(Owner("c", "default"), UID)
    assert name != names.container_name(Owner("c", "default"), UID[:-1] + "2")
    assert names.volume_name(UID, "work") == f"sbx-{UID}-work"


def test_names_fit_docker() -> None:
    allowed = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+$")
    owner = Owner(UID, "default")
    for name in (
        names.container_name(owner, UID),
        names.volume_name(UID, "v" * 63),
        names.network_name(owner),
    ):
        assert allowed.match(name)


@pytest.mark.parametrize("other", [Owner(UID, "b"), Owner("c", "default"), Owner("c", "b")])
def test_every_operator_has_a_network_of_its_own(other: Owner) -> None:
    owner = Owner(UID, "default")
    assert names.network_name(owner) == names.network_name(Owner(UID, "default"))
    assert names.network_name(owner) != names.network_name(other)
    assert owner.label != other.label


def test_the_hash_of_a_key_is_a_label_value_and_tells_nothing() -> None:
    key = "k" * 43
    hashed = names.key_hash(key)
    assert re.match(r"^[A-Z2-7]{52}$", hashed)
    assert hashed != names.key_hash("l" * 43)
    assert key not in hashed


def test_the_secrets_name_fits_where_the_sandboxes_name_does() -> None:
    assert names.secret_name("a") == "a-session-key"
    assert len(names.secret_name("a" * 63)) <= 253


def test_everything_is_under_the_group() -> None:
    for name, value in vars(names).items():
        if name.endswith(("_LABEL", "_ANNOTATION")) or name in ("FINALIZER", "RESUME_REQUESTED_AT"):
            assert value.startswith(f"{names.GROUP}/"), name


def test_the_name_that_neighbours_can_look_up_tells_nothing() -> None:
    """Who knows the UID, and even the instance, does not know the name without the cluster's."""
    name = names.container_name(Owner(UID, "default"), "uid-of-a-sandbox")
    assert re.fullmatch(r"sbx-[0-9a-f]{32}", name)
    assert len(name) <= 63, "it is a host name"
    assert name != names.container_name(Owner("another", "default"), "uid-of-a-sandbox")


def test_two_operators_of_one_cluster_ask_for_the_same_name() -> None:
    """So that the engine refuses the second container of a Sandbox that both serve."""
    assert names.container_name(Owner("c", "a"), UID) == names.container_name(Owner("c", "b"), UID)
