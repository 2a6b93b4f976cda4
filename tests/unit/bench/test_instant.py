"""What the instant engine keeps itself, which is no cost of the operator's."""

from bench.instant import IMAGE, engine_kilobytes
from controller.engines.base import ContainerSpec


async def test_memory_is_told_for_each_container() -> None:
    specs = (
        ContainerSpec(
            uid=f"uid-{i}",
            namespace="default",
            name=f"box-{i}",
            image=IMAGE,
            spec_hash="1-0",
            stop_grace_seconds=10,
            env={},
        )
        for i in range(200)
    )
    assert 0.5 < await engine_kilobytes(specs) < 10
