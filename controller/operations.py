"""The slow lane: engine work, at most one operation per Sandbox and a bounded number at once.

An operation never writes to the API server's Sandbox and never waits out a grace period. Its end,
good or bad, lands in the entry and wakes the key; `decide` reads it from there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from controller import backoff
from controller.core import names
from controller.core.reasons import Reason
from controller.core.resources import SandboxSpec
from controller.core.rules import Rules
from controller.core.state import EngineView, Failure, Holdings, Verb
from controller.core.subject import read_spec
from controller.core.verdict import Operation
from controller.engines.base import (
    ContainerSpec,
    Engine,
    EngineError,
    EngineInfo,
    EngineRefused,
    EngineUnreachable,
    PortSpec,
    VolumeSpec,
)
from controller.entries import Engines, Entry, InFlight, implied
from controller.fairness import TENANT, FairSlots, Slot
from controller.kube.api import ApiError, KubeApi
from controller.kube.environment import Environment, NotThere, resolve
from controller.pulls import PullFailed, Pulls, Wanted
from controller.weights import Weight, Weights
from controller.workqueue import WorkQueue

log = logging.getLogger(__name__)

RETRY_FIRST = timedelta(seconds=0.5)
RETRY_CAP = timedelta(seconds=30)
"""Seconds, not minutes: who repairs what the engine refused, outside of the spec, waits for it."""
READINGS = 16
"""How many operations at once read what their spec refers to. They keep it in memory until the
engine has a slot for them."""
YIELD_SECONDS = 1.0
"""How long one operation yields to the marking of its own namespace's deletions at the most."""


class _Cancelled(Exception):
    """The operation is no longer wanted; what it made so far is observed and cleaned."""


class Operations:
    """Runs operations for entries."""

    def __init__(
        self,
        engine: Engine,
        api: KubeApi,
        queue: WorkQueue,
        rules: Rules,
        engines: Engines,
        *,
        publish_address: str,
        at_once: int,
        now: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._identity = _Identity(engine)
        self._api = api
        self._queue = queue
        self._rules = rules
        self._engines = engines
        self._publish_address = publish_address
        # A queue for each kind: in one for all, a creation would wait behind a hundred removals, a
        # pause behind removals that hang, and what is told of a hundred that ended behind their
        # starts.
        self._creations = FairSlots(at_once)
        self._removals = FairSlots(at_once)
        self._looks = FairSlots(at_once)
        self._others = FairSlots(at_once)
        self._readings = FairSlots(READINGS)
        self._weights = Weights(at_once)
        self._pulls = Pulls(engine, now)
        self._now = now
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, entry: Entry, operation: Operation) -> None:
        """Begin an operation. The entry must have none in flight."""
        if entry.in_flight is not None:
            raise RuntimeError(f"an operation is in flight for {entry.uid}")
        flight = InFlight(operation.verb, container_id=operation.container_id)
        entry.in_flight = flight
        flight.task = asyncio.create_task(self._run(entry, flight, operation))
        self._tasks.add(flight.task)
        flight.task.add_done_callback(self._tasks.discard)

    async def drain(self, seconds: float) -> None:
        """Let what is under way end, for so long; the rest is cancelled and found again."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=max(0.0, seconds))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, entry: Entry, flight: InFlight, operation: Operation) -> None:
        loop = asyncio.get_running_loop()
        verb, namespace = operation.verb, entry.subject.metadata.namespace
        TENANT.set(namespace)
        turn = _Turn(self._slots(verb), namespace, self._weights.of(entry, operation))
        try:
            await self._queue.calm(YIELD_SECONDS, namespace)
            if verb is not Verb.RUN:  # which reads first, and needs no slot for that
                await turn.take()
            try:
                await self._perform(entry, flight, operation, turn)
                self._succeeded(entry, verb)
            except _Cancelled:
                pass
            except EngineRefused as refused:
                self._failed(entry, flight.verb, refused)
            # Signals are told by the event that follows; all else is looked at here and now.
            if verb is not Verb.SIGNAL_STOP:
                entry.affected_at = began = loop.time()
                entry.observe(await self._look(entry, flight), began)
        except NotThere as missing:
            # As below: the engine has done nothing yet.
            self._failed(entry, flight.verb, EngineRefused(missing.reason, missing.message))
        except EngineUnreachable as error:
            # The outcome is unknown: look before anything else is done.
            entry.affected_at = loop.time()
            entry.look = True
            self._failed(entry, verb, EngineRefused(Reason.ENGINE_UNREACHABLE, str(error)))
        except ApiError as error:
            # While reading what the spec refers to: the engine has done nothing yet.
            self._failed(entry, flight.verb, EngineRefused(Reason.API_REFUSED, str(error)))
        except EngineError as error:
            entry.look = True
            self._failed(entry, verb, EngineRefused(Reason.ENGINE_UNREACHABLE, str(error)))
        except Exception as error:
            # A fault of ours: one Sandbox waits for its retry, the others go on.
            log.error("%s of %s failed: %s", verb, entry.uid, type(error).__name__)
            log.debug("", exc_info=True)
            entry.look = True
            self._failed(
                entry, verb, EngineRefused(Reason.ENGINE_UNREACHABLE, "an internal error; see log")
            )
        finally:
            turn.give_back()
            entry.in_flight = None
            if flight.overtaken or any(not implied(e, entry.holdings) for e in flight.events):
                entry.look = True
            self._queue.add(entry.uid)

    def _slots(self, verb: Verb) -> FairSlots:
        match verb:
            case Verb.RUN | Verb.START:
                return self._creations
            case Verb.CLEAN:
                return self._removals
            case Verb.OBSERVE | Verb.READ_KEY:
                return self._looks
            case _:
                return self._others

    async def _look(self, entry: Entry, flight: InFlight) -> Holdings:
        """What the engine holds now. A listing where it decides a deletion or something is gone;
        else the container is all that can have changed, and looking at it alone is cheaper."""
        before, spec = entry.holdings, entry.subject.spec
        if flight.container_id is None and before is not None and before.container is not None:
            flight.container_id = before.container.id
        if flight.container_id is None or entry.deleting_since is not None or spec is None:
            return await self._find(entry)
        container = await self._engine.inspect(flight.container_id)
        if container is None:
            return await self._find(entry)
        if before is not None and before.container is not None:
            return replace(before, container=container)
        volumes = {names.volume_name(entry.uid, v.name): v.retained for v in spec.volumes}
        return Holdings(
            container=container,
            volumes=tuple(sorted(name for name, kept in volumes.items() if not kept)),
            retained=tuple(sorted(name for name, kept in volumes.items() if kept)),
            namespace=entry.subject.metadata.namespace,
            name=entry.subject.metadata.name,
        )

    async def _find(self, entry: Entry) -> Holdings:
        """A fresh listing. That it lacks what was there is believed of no other engine."""
        found = await self._engine.find(entry.uid)
        before, told = entry.holdings, entry.subject.status.container
        existed = told is not None or (before is not None and before.container is not None)
        if found.container is None and (existed or entry.deleting_since is not None):
            same(await self._identity.ask(), self._engines.view)
        return found

    def _succeeded(self, entry: Entry, verb: Verb) -> None:
        failure = entry.failure
        if failure is None:
            return
        if verb is not Verb.OBSERVE or failure.verb is Verb.OBSERVE:
            entry.failure = None

    def _failed(self, entry: Entry, verb: Verb, error: EngineRefused) -> None:
        before = entry.failure
        attempts = 1
        if before is not None and before.verb is verb:
            attempts = before.attempts + 1
        retry_at = self._now() + backoff.after(attempts, RETRY_FIRST, RETRY_CAP)
        if isinstance(error, PullFailed):
            retry_at = max(retry_at, error.retry_at)
        entry.failure = Failure(verb, error.reason, error.message, retry_at, attempts)
        log.info(
            "%s of %s/%s: %s: %s",
            verb,
            entry.subject.metadata.namespace,
            entry.subject.metadata.name,
            error.reason,
            error.message,
        )

    async def _perform(
        self, entry: Entry, flight: InFlight, operation: Operation, turn: _Turn
    ) -> None:
        engine, id_ = self._engine, operation.container_id or ""
        match operation.verb:
            case Verb.OBSERVE:
                pass
            case Verb.RUN:
                await self._create_and_start(entry, flight, turn)
            case Verb.START:
                _check(entry, flight)
                await engine.start(id_)
            case Verb.SIGNAL_STOP:
                await engine.signal_stop(id_)
                entry.signalled, entry.signalled_at = operation.run, self._now()
            case Verb.KILL:
                await engine.kill(id_)
            case Verb.FREEZE:
                await engine.freeze(id_)
            case Verb.THAW:
                _check(entry, flight)
                await engine.thaw(id_)
            case Verb.UPDATE_LIMITS if operation.limits is not None:
                await engine.update_limits(id_, operation.limits)
            case Verb.CLEAN:
                began = asyncio.get_running_loop().time()
                await clean(engine, operation)
                if operation.volumes:
                    self._weights.took(entry, asyncio.get_running_loop().time() - began)
            case Verb.READ_KEY:
                spec = entry.subject.spec
                if spec is not None:
                    variables = await engine.environment(id_)
                    key = variables.get(spec.session_key.env_names[0])
                    if spec.session_key.mode == "SecretRef":
                        entry.key_hash = "" if key is None else names.key_hash(key)
                        return
                    entry.key = key
                    if key is None:
                        raise EngineRefused(
                            Reason.SECRET_NOT_FOUND,
                            "the container has no session key in its environment",
                        )

    async def _create_and_start(self, entry: Entry, flight: InFlight, turn: _Turn) -> None:
        spec = entry.subject.spec
        if spec is None or spec.image is None:
            raise EngineRefused(Reason.INVALID_SPEC, "spec.image: is required")
        namespace = entry.subject.metadata.namespace
        pull, pulled = spec.image_pull_policy == "Always", False
        while True:
            # Those that wait for the engine with all their environment in memory are few, too.
            async with self._readings.slot(namespace):
                whole = await self._whole_spec(entry) if entry.subject.light else spec
                environment = await self._environment(entry, whole)
                wanted = container_spec(
                    entry, whole, environment, self._rules, self._publish_address
                )
                if not pull:
                    await turn.take()
            if not pull:
                try:
                    container_id = await self._create(entry, flight, spec, wanted)
                    break
                except EngineRefused as refused:
                    never = pulled or spec.image_pull_policy == "Never"
                    if never or refused.reason is not Reason.IMAGE_NOT_FOUND:
                        raise
            del (
                whole,
                environment,
                wanted,
            )  # a pull takes minutes: read again, they are as large as new
            turn.give_back()
            await self._pull(entry, flight, spec.image)
            pull, pulled = False, True
        flight.container_id = container_id
        entry.key = None
        if environment.key is not None:
            entry.key_hash = names.key_hash(environment.key)
        _check(entry, flight)
        flight.verb = Verb.START  # a failure from here on is one to start, and so is its retry
        await self._engine.start(container_id)

    async def _whole_spec(self, entry: Entry) -> SandboxSpec:
        """What was too big to be kept, read again. Raises ApiError, and EngineRefused where it is
        not that of the entry: then its own event is under way."""
        meta = entry.subject.metadata
        obj = await self._api.get_whole_sandbox(meta.namespace, meta.name)
        now = obj["metadata"]
        if (now["uid"], now.get("generation", 0)) != (meta.uid, meta.generation):
            raise EngineRefused(
                Reason.API_REFUSED, "the Sandbox was changed while its container was to be created"
            )
        spec, problem = read_spec(obj.get("spec"))
        if spec is None:
            raise EngineRefused(Reason.INVALID_SPEC, str(problem))
        return spec

    async def _environment(self, entry: Entry, spec: SandboxSpec) -> Environment:
        """What the spec refers to. Raises NotThere, ApiError."""
        namespace = entry.subject.metadata.namespace
        if spec.session_key.mode != "Generate":  # else making the Secret has told
            found = await self._api.get_namespace(namespace)
            if found["metadata"].get("deletionTimestamp"):
                raise NotThere(
                    Reason.NAMESPACE_TERMINATING,
                    f"namespace {namespace} is being deleted: nothing is created in it",
                )
        return await resolve(self._api, namespace, spec, entry.key)

    async def _create(
        self, entry: Entry, flight: InFlight, spec: SandboxSpec, wanted: ContainerSpec
    ) -> str:
        _check(entry, flight)
        began = asyncio.get_running_loop().time()
        container_id = await self._engine.create(wanted)
        if spec.volumes:
            self._weights.took(entry, asyncio.get_running_loop().time() - began)
        return container_id

    async def _pull(self, entry: Entry, flight: InFlight, image: str) -> None:
        """Have the image pulled. It takes minutes, and holds no slot."""
        _check(entry, flight)
        flight.pulling = True
        self._queue.add(entry.uid)
        namespace = entry.subject.metadata.namespace
        flight.pull = asyncio.create_task(self._pulls.pull(namespace, Wanted(image)))
        try:
            await flight.pull
        except asyncio.CancelledError:
            if flight.cancelled:
                raise _Cancelled from None
            flight.pull.cancel()
            raise
        finally:
            flight.pulling = False
            flight.pull = None


class _Turn:
    """An operation's slot: taken when it is needed, and given back at its end or before a pull."""

    def __init__(self, slots: FairSlots, namespace: str, weight: Weight) -> None:
        self._slots = slots
        self._namespace = namespace
        self._weight = weight
        self._slot: Slot | None = None

    async def take(self) -> None:
        weight = self._weight
        self._slot = await self._slots.acquire(self._namespace, weight.cost, later=weight.later)

    def give_back(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.release(self._weight.linger)


async def clean(engine: Engine, operation: Operation) -> None:
    """Remove the container by its ID, then the volumes."""
    if operation.container_id is not None:
        await engine.remove(operation.container_id)
    for volume in operation.volumes:
        await engine.remove_volume(volume)


class _Identity:
    """Who the engine is. One question at a time, and who comes meanwhile shares the next answer: in
    a burst of deletions the heartbeat would wait behind a question each."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._one_at_a_time = asyncio.Lock()
        self._next: asyncio.Task[EngineInfo] | None = None

    async def ask(self) -> EngineInfo:
        """What the engine answers to a question that is put after this call. Raises EngineError."""
        if self._next is None:
            self._next = asyncio.create_task(self._ask())
        return await asyncio.shield(self._next)

    async def _ask(self) -> EngineInfo:
        async with self._one_at_a_time:
            self._next = None
            return await self._engine.identify()


def same(info: EngineInfo, view: EngineView) -> None:
    """Make sure that the engine that answers is the one that is known (invariant 4).

    The watch notices another within seconds; what lets something go cannot wait for that. Raises
    EngineUnreachable.
    """
    if view.id is not None and info.id != view.id:
        raise EngineUnreachable(f"another engine answers by now, {info.id}")


def _check(entry: Entry, flight: InFlight) -> None:
    """Raises where processes must not run any more: this has waited for its turn meanwhile."""
    if flight.cancelled or entry.deleting_since is not None:
        raise _Cancelled


def container_spec(
    entry: Entry,
    spec: SandboxSpec,
    environment: Environment,
    rules: Rules,
    publish_address: str,
) -> ContainerSpec:
    """What to create for a Sandbox."""
    meta = entry.subject.metadata
    return ContainerSpec(
        uid=entry.uid,
        namespace=meta.namespace,
        name=meta.name,
        image=spec.image or "",
        spec_hash=spec.spec_hash(),
        stop_grace_seconds=spec.termination_grace_period_seconds,
        env=environment.variables,
        secrets=environment.secrets,
        command=spec.command,
        args=spec.args,
        working_dir=spec.working_dir,
        ports=tuple(PortSpec(p.name, p.container_port, p.host_port) for p in spec.ports),
        publish_address=publish_address,
        volumes=tuple(
            VolumeSpec(
                v.name,
                v.mount_path,
                v.read_only,
                v.retained,
            )
            for v in spec.volumes
        ),
        limits=rules.limits(spec),
        runtime=spec.security.runtime,
        labels=spec.labels,
        allowed_labels=rules.labels(meta.namespace),
    )
