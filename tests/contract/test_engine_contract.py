"""What every engine does. Each test runs against the engine in memory and against Docker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from controller.core import names
from controller.core.reasons import Reason
from controller.core.state import Holdings, Limits, Run
from controller.engines.base import EngineRefused, PortSpec, VolumeSpec
from tests.contract.lab import (
    DOES_NOT_EXIST,
    EATS_MEMORY,
    EXITS_WITH_3,
    IGNORES_SIGTERM,
    SMALL,
    Lab,
)

HTTP = PortSpec("http", 8000)
WORKSPACE = VolumeSpec("workspace", "/workspace")
ARCHIVE = VolumeSpec("archive", "/archive", retain=True)


@contextlib.contextmanager
def refused(reason: Reason, *mentions: str) -> Iterator[None]:
    with pytest.raises(EngineRefused) as caught:
        yield
    assert caught.value.reason is reason
    assert all(text in caught.value.message for text in mentions), caught.value.message


class TestIdentify:
    async def test_an_engine_has_an_id_that_every_owner_sees(self, lab: Lab) -> None:
        info = await lab.engine.identify()
        assert info.id
        assert info.version
        assert "runc" in info.runtimes
        assert await lab.stranger.identify() == info


class TestCreate:
    async def test_a_created_container_is_found_as_asked_for(self, lab: Lab) -> None:
        spec = lab.spec(limits=SMALL, ports=(HTTP,))
        container_id = await lab.engine.create(spec)
        held = await lab.engine.find(spec.uid)
        assert (held.namespace, held.name) == ("team-a", "box")
        found = held.container
        assert found is not None
        assert found.id == container_id
        assert found.name == names.container_name(lab.engine.owner, spec.uid)
        assert found.run is Run.CREATED
        assert found.image_id
        assert found.created_at is not None
        assert found.created_at.tzinfo is not None
        assert (found.started_at, found.finished_at, found.exit_code) == (None, None, None)
        assert found.ports == {}
        assert (found.spec_hash, found.stop_grace_seconds) == ("v1-abc", 3)
        assert found.limits == SMALL

    async def test_inspecting_tells_the_same_and_nothing_of_what_is_gone(self, lab: Lab) -> None:
        spec = lab.spec(limits=SMALL)
        container_id = await lab.engine.create(spec)
        assert await lab.engine.inspect(container_id) == await lab.container(spec.uid)
        await lab.engine.remove(container_id)
        assert await lab.engine.inspect(container_id) is None

    async def test_without_limits_none_are_reported(self, lab: Lab) -> None:
        spec = lab.spec()
        await lab.engine.create(spec)
        assert (await lab.container(spec.uid)).limits == Limits()

    async def test_creating_again_adopts_also_after_a_restart(self, lab: Lab) -> None:
        spec = lab.spec(volumes=(WORKSPACE,))
        first = await lab.engine.create(spec)
        assert await lab.engine.create(spec) == first
        assert await lab.reborn.create(spec) == first

    async def test_two_creations_at_once_make_one_container(self, lab: Lab) -> None:
        spec = lab.spec()
        made = await asyncio.gather(
            lab.engine.create(spec), lab.reborn.create(spec), return_exceptions=True
        )
        ids = {each for each in made if isinstance(each, str)}
        assert ids == {(await lab.container(spec.uid)).id}

    async def test_anothers_container_of_that_name_is_a_conflict(self, lab: Lab) -> None:
        spec = lab.spec()
        theirs = await lab.stranger.create(spec)
        with refused(Reason.NAME_CONFLICT, names.container_name(lab.engine.owner, spec.uid)):
            await lab.engine.create(spec)
        assert await lab.engine.find(spec.uid) == Holdings()
        found = (await lab.stranger.find(spec.uid)).container
        assert found is not None
        assert found.id == theirs

    async def test_a_missing_image_is_named_and_not_pulled(self, lab: Lab) -> None:
        spec = lab.spec(image="sandbox-operator/none:1")
        with refused(Reason.IMAGE_NOT_FOUND, "sandbox-operator/none:1"):
            await lab.engine.create(spec)
        assert (await lab.engine.find(spec.uid)).container is None

    async def test_too_little_memory_names_the_field(self, lab: Lab) -> None:
        with refused(Reason.INVALID_SPEC, "spec.resources.limits.memory", "6MB"):
            await lab.engine.create(lab.spec(limits=Limits(memory_bytes=1 << 20)))

    async def test_an_unknown_runtime_is_named(self, lab: Lab) -> None:
        with refused(Reason.RUNTIME_NOT_FOUND, "runsc-nowhere"):
            await lab.engine.create(lab.spec(runtime="runsc-nowhere"))

    async def test_the_environment_can_be_read_back(self, lab: Lab) -> None:
        container_id = await lab.engine.create(lab.spec(env={"A": "1=2", "EMPTY": ""}))
        found = await lab.engine.environment(container_id)
        assert (found["A"], found["EMPTY"]) == ("1=2", "")


class TestVolumes:
    async def test_volumes_are_listed_by_what_becomes_of_them(self, lab: Lab) -> None:
        spec = lab.spec(volumes=(WORKSPACE, ARCHIVE))
        container_id = await lab.engine.create(spec)
        workspace = names.volume_name(spec.uid, "workspace")
        archive = names.volume_name(spec.uid, "archive")
        held = await lab.engine.find(spec.uid)
        assert (held.volumes, held.retained) == ((workspace,), (archive,))

        await lab.engine.remove(container_id)
        held = await lab.engine.find(spec.uid)
        assert (held.container, held.volumes, held.retained) == (None, (workspace,), (archive,))
        assert (held.namespace, held.name) == ("team-a", "box")
        assert not held.empty

        await lab.engine.remove_volume(workspace)
        held = await lab.engine.find(spec.uid)
        assert (held.volumes, held.retained) == ((), (archive,))
        assert held.empty

    async def test_removing_a_volume_again_is_no_error(self, lab: Lab) -> None:
        spec = lab.spec(volumes=(WORKSPACE,))
        await lab.engine.remove(await lab.engine.create(spec))
        for _ in range(2):
            await lab.engine.remove_volume(names.volume_name(spec.uid, "workspace"))
        assert await lab.engine.find(spec.uid) == Holdings()

    async def test_a_volume_in_use_is_not_removed(self, lab: Lab) -> None:
        spec = lab.spec(volumes=(WORKSPACE,))
        await lab.engine.create(spec)
        with refused(Reason.CLEANUP_FAILED, "in use"):
            await lab.engine.remove_volume(names.volume_name(spec.uid, "workspace"))

    async def test_anothers_volume_is_not_removed(self, lab: Lab) -> None:
        spec = lab.spec(volumes=(WORKSPACE,))
        await lab.stranger.remove(await lab.stranger.create(spec))
        volume = names.volume_name(spec.uid, "workspace")
        with refused(Reason.NAME_CONFLICT, volume):
            await lab.engine.remove_volume(volume)
        assert (await lab.stranger.find(spec.uid)).volumes == (volume,)

    async def test_anothers_volume_is_not_mounted(self, lab: Lab) -> None:
        spec = lab.spec(volumes=(WORKSPACE,))
        await lab.stranger.remove(await lab.stranger.create(spec))
        with refused(Reason.NAME_CONFLICT, names.volume_name(spec.uid, "workspace")):
            await lab.engine.create(spec)
        assert (await lab.engine.find(spec.uid)).container is None


class TestStart:
    async def test_a_running_container_has_its_ports(self, lab: Lab) -> None:
        spec, _ = await lab.started(ports=(HTTP, PortSpec("vscode", 8001)))
        found = await lab.container(spec.uid)
        assert found.run is Run.RUNNING
        assert found.started_at is not None
        assert found.exit_code is None
        assert set(found.ports) == {8000, 8001}
        assert len(set(found.ports.values())) == 2

    async def test_a_host_port_is_used_where_asked_for(self, lab: Lab) -> None:
        with lab.port_in_use() as free_in_a_moment:
            pass
        spec, _ = await lab.started(ports=(PortSpec("http", 8000, free_in_a_moment),))
        assert (await lab.container(spec.uid)).ports == {8000: free_in_a_moment}

    async def test_starting_a_running_one_is_no_error(self, lab: Lab) -> None:
        spec, container_id = await lab.started()
        before = await lab.container(spec.uid)
        await lab.engine.start(container_id)
        assert await lab.container(spec.uid) == before

    async def test_a_port_in_use_is_named_and_heals(self, lab: Lab) -> None:
        with lab.port_in_use() as port:
            spec = lab.spec(ports=(PortSpec("http", 8000, port),))
            container_id = await lab.engine.create(spec)
            with refused(Reason.PORT_IN_USE, str(port), "hostPort"):
                await lab.engine.start(container_id)
            found = await lab.container(spec.uid)
            assert (found.run, found.exit_code) == (Run.CREATED, None)
        await lab.engine.start(container_id)
        found = await lab.container(spec.uid)
        assert (found.run, found.error) == (Run.RUNNING, "")

    async def test_a_port_of_another_container_is_in_use(self, lab: Lab) -> None:
        spec, _ = await lab.started(ports=(HTTP,))
        port = (await lab.container(spec.uid)).ports[8000]
        with refused(Reason.PORT_IN_USE, str(port)):
            await lab.started(ports=(PortSpec("http", 8000, port),))

    async def test_a_command_that_does_not_exist_exits_with_127(self, lab: Lab) -> None:
        # The init is what the engine starts; it is the init that finds no command.
        async with lab.watching() as watch:
            spec, _ = await lab.started(command=DOES_NOT_EXIST)
            await watch.until_action(spec.uid, "die")
        found = await lab.container(spec.uid)
        assert (found.run, found.exit_code) == (Run.EXITED, 127)

    async def test_an_exit_is_reported_and_a_new_start_forgets_it(self, lab: Lab) -> None:
        async with lab.watching() as watch:
            spec, container_id = await lab.started(command=EXITS_WITH_3, ports=(HTTP,))
            await watch.until_action(spec.uid, "die")
            found = await lab.container(spec.uid)
            assert (found.run, found.exit_code, found.oom_killed) == (Run.EXITED, 3, False)
            assert found.started_at is not None
            assert found.finished_at is not None
            assert found.ports == {}
            await lab.engine.start(container_id)
            await watch.until(lambda: watch.actions(spec.uid).count("die") == 2)

    async def test_the_cause_of_an_oom_kill_is_not_lost(self, lab: Lab) -> None:
        async with lab.watching() as watch:
            spec, _ = await lab.started(command=EATS_MEMORY, limits=SMALL)
            await watch.until_action(spec.uid, "die")
        assert "oom" in watch.actions(spec.uid)
        found = await lab.container(spec.uid)
        assert (found.run, found.exit_code, found.oom_killed) == (Run.EXITED, 137, True)


class TestFreeze:
    async def test_frozen_and_thawed_each_also_twice(self, lab: Lab) -> None:
        spec, container_id = await lab.started(ports=(HTTP,))
        running = await lab.container(spec.uid)
        for _ in range(2):
            await lab.engine.freeze(container_id)
            found = await lab.container(spec.uid)
            assert found.run is Run.FROZEN
            assert (found.started_at, found.ports) == (running.started_at, running.ports)
        for _ in range(2):
            await lab.engine.thaw(container_id)
            assert await lab.container(spec.uid) == running

    async def test_what_does_not_run_is_neither_frozen_nor_thawed(self, lab: Lab) -> None:
        _, container_id = await lab.started()
        await lab.engine.kill(container_id)
        with refused(Reason.EXITED):
            await lab.engine.freeze(container_id)
        with refused(Reason.EXITED):
            await lab.engine.thaw(container_id)

    async def test_a_frozen_one_is_not_started(self, lab: Lab) -> None:
        _, container_id = await lab.started()
        await lab.engine.freeze(container_id)
        with refused(Reason.START_FAILED):
            await lab.engine.start(container_id)


class TestStop:
    @pytest.mark.parametrize("frozen", [False, True])
    async def test_the_stop_signal_ends_it(self, lab: Lab, frozen: bool) -> None:
        async with lab.watching() as watch:
            spec, container_id = await lab.started()
            if frozen:
                await lab.engine.freeze(container_id)
            await lab.engine.signal_stop(container_id)
            await watch.until_action(spec.uid, "die")
        found = await lab.container(spec.uid)
        assert (found.run, found.exit_code) == (Run.EXITED, 143)
        await lab.engine.signal_stop(container_id)

    @pytest.mark.parametrize("frozen", [False, True])
    async def test_one_that_ignores_the_signal_is_killed(self, lab: Lab, frozen: bool) -> None:
        async with lab.watching() as watch:
            spec, container_id = await lab.started(command=IGNORES_SIGTERM)
            if frozen:
                await lab.engine.freeze(container_id)
            else:
                await lab.engine.signal_stop(container_id)
                assert (await lab.container(spec.uid)).run is Run.RUNNING
            await lab.engine.kill(container_id)
            await watch.until_action(spec.uid, "die")
        found = await lab.container(spec.uid)
        assert (found.run, found.exit_code, found.oom_killed) == (Run.EXITED, 137, False)
        await lab.engine.kill(container_id)

    async def test_a_stopped_one_starts_again(self, lab: Lab) -> None:
        spec, container_id = await lab.started(ports=(HTTP,))
        before = await lab.container(spec.uid)
        await lab.engine.kill(container_id)
        await lab.engine.start(container_id)
        after = await lab.container(spec.uid)
        assert (after.id, after.run) == (before.id, Run.RUNNING)
        assert after.started_at is not None
        assert before.started_at is not None
        assert after.started_at > before.started_at


class TestLimits:
    async def test_limits_change_in_place(self, lab: Lab) -> None:
        spec, container_id = await lab.started(limits=SMALL)
        more = Limits(cpu_millis=1500, memory_bytes=64 << 20, pids=100)
        async with lab.watching() as watch:
            await lab.engine.update_limits(container_id, more)
            await watch.until_action(spec.uid, "update")
        found = await lab.container(spec.uid)
        assert (found.run, found.limits) == (Run.RUNNING, more)
        await lab.engine.update_limits(container_id, SMALL)
        assert (await lab.container(spec.uid)).limits == SMALL

    async def test_limits_are_lifted_and_set_in_place(self, lab: Lab) -> None:
        spec, container_id = await lab.started(limits=SMALL)
        await lab.engine.update_limits(container_id, Limits())
        assert (await lab.container(spec.uid)).limits == Limits()
        await lab.engine.update_limits(container_id, SMALL)
        assert (await lab.container(spec.uid)).limits == SMALL

    async def test_limits_of_an_exited_one_change(self, lab: Lab) -> None:
        spec, container_id = await lab.started(limits=SMALL)
        await lab.engine.kill(container_id)
        more = Limits(cpu_millis=750, memory_bytes=32 << 20, pids=32)
        await lab.engine.update_limits(container_id, more)
        assert (await lab.container(spec.uid)).limits == more

    async def test_too_little_memory_is_refused(self, lab: Lab) -> None:
        _, container_id = await lab.started(limits=SMALL)
        with refused(Reason.INVALID_SPEC, "spec.resources.limits.memory"):
            await lab.engine.update_limits(container_id, Limits(memory_bytes=4096))


class TestRemove:
    @pytest.mark.parametrize("state", ["created", "running", "frozen", "exited"])
    async def test_removed_in_every_state_and_again(self, lab: Lab, state: str) -> None:
        spec = lab.spec()
        container_id = await lab.engine.create(spec)
        if state != "created":
            await lab.engine.start(container_id)
        if state == "frozen":
            await lab.engine.freeze(container_id)
        if state == "exited":
            await lab.engine.kill(container_id)
        await lab.engine.remove(container_id)
        assert await lab.engine.find(spec.uid) == Holdings()
        await lab.engine.remove(container_id)

    async def test_what_is_gone_can_be_ended_and_not_used(self, lab: Lab) -> None:
        container_id = await lab.engine.create(lab.spec())
        await lab.engine.remove(container_id)
        await lab.engine.signal_stop(container_id)
        await lab.engine.kill(container_id)
        for use in (lab.engine.start, lab.engine.freeze, lab.engine.thaw, lab.engine.environment):
            with refused(Reason.CONTAINER_MISSING):
                await use(container_id)
        with refused(Reason.CONTAINER_MISSING):
            await lab.engine.update_limits(container_id, SMALL)


class TestList:
    async def test_everything_of_the_owner_by_uid(self, lab: Lab) -> None:
        one, _ = await lab.started(name="one", volumes=(WORKSPACE,))
        two = lab.spec(name="two")
        await lab.engine.create(two)
        bare = lab.spec(name="bare", volumes=(ARCHIVE,))
        await lab.engine.remove(await lab.engine.create(bare))
        everything = await lab.engine.list()
        for spec in (one, two, bare):
            assert everything[spec.uid] == await lab.engine.find(spec.uid)
        assert {one.uid, two.uid, bare.uid} <= everything.keys()

    async def test_owners_do_not_see_each_other(self, lab: Lab) -> None:
        spec, _ = await lab.started(volumes=(WORKSPACE,))
        assert await lab.stranger.find(spec.uid) == Holdings()
        assert spec.uid not in await lab.stranger.list()

    async def test_what_is_known_and_changed_is_seen_anew(self, lab: Lab) -> None:
        same, _ = await lab.started()
        frozen, frozen_id = await lab.started()
        gone, gone_id = await lab.started()
        known = await lab.engine.list()
        await lab.engine.freeze(frozen_id)
        await lab.engine.remove(gone_id)
        seen = await lab.engine.list(known)
        assert seen[same.uid] == known[same.uid]
        found = seen[frozen.uid].container
        assert found is not None
        assert found.run is Run.FROZEN
        assert gone.uid not in seen

    async def test_nothing_is_an_empty_holding(self, lab: Lab) -> None:
        held = await lab.engine.find("00000000-0000-0000-0000-000000000000")
        assert held == Holdings()
        assert held.empty


class TestImages:
    async def test_whether_an_image_is_there(self, lab: Lab) -> None:
        assert await lab.engine.image_present(lab.image)
        assert not await lab.engine.image_present("sandbox-operator/none:1")


class TestEvents:
    async def test_a_life_in_order(self, lab: Lab) -> None:
        async with lab.watching() as watch:
            spec, container_id = await lab.started()
            await lab.engine.freeze(container_id)
            await lab.engine.thaw(container_id)
            await lab.engine.kill(container_id)
            await watch.until_action(spec.uid, "die")
            await lab.engine.remove(container_id)
            await watch.until_action(spec.uid, "destroy")
        life = ["create", "start", "pause", "unpause", "die", "destroy"]
        assert watch.actions(spec.uid) == life
        mine = {event.container_id for event in watch.events if event.uid == spec.uid}
        assert mine == {container_id}

    async def test_others_events_never_reach_us(self, lab: Lab) -> None:
        async with lab.watching() as mine, lab.watching(lab.stranger) as theirs:
            their_spec = lab.spec()
            await lab.stranger.create(their_spec)
            await theirs.until_action(their_spec.uid, "create")
            my_spec = lab.spec()
            await lab.engine.create(my_spec)
            await mine.until_action(my_spec.uid, "create")
        assert mine.actions(their_spec.uid) == []
        assert theirs.actions(my_spec.uid) == []
