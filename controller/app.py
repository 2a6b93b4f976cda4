"""The wiring: one place that knows all parts, starts them in order and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from controller import logs
from controller.core import names
from controller.core.state import EngineView
from controller.engines.base import Engine
from controller.engines.docker import DockerEngine
from controller.enginewatch import EngineWatch
from controller.entries import Engines, Entries
from controller.fairness import spare
from controller.handlers import Watch
from controller.kube.api import (
    ApiError,
    ApiUnreachable,
    Forbidden,
    KubeApi,
    NotServed,
    Unauthorized,
)
from controller.kube.credentials import Credentials
from controller.kube.events import EventPoster
from controller.operations import READINGS, Operations
from controller.prober import Prober
from controller.reconciler import Reconciler
from controller.settings import Settings
from controller.workqueue import WorkQueue

log = logging.getLogger(__name__)

_DRAIN_SECONDS = 5.0
_FORBIDDEN_SECONDS = 15.0


class StartupError(Exception):
    """The operator cannot start; the message says what to do."""


def now() -> datetime:
    return datetime.now(UTC)


def docker_engine(settings: Settings, owner: names.Owner) -> Engine:
    """The engine of the settings."""
    return DockerEngine(
        owner,
        base_url=settings.docker_host,
        width=settings.engine_concurrency,
        timeout_seconds=settings.engine_timeout_seconds,
        require_patched_runc=settings.require_patched_runc,
    )


async def run(
    settings: Settings, make_engine: Callable[[Settings, names.Owner], Engine] = docker_engine
) -> None:
    """Run the operator until SIGTERM or SIGINT. Raises StartupError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.lost)
    for signal_ in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_, stop.set)
    try:
        credentials = await Credentials.find(settings.kubeconfig, settings.context)
    except Exception as error:
        raise StartupError(f"no usable credentials for the API server: {error}") from None
    api = KubeApi(credentials, _connections(settings))
    try:
        owner = await identify(api, settings, stop)
        if owner is None:
            return
        raise_limit_of_files()
        # What was imported stays: going through it again for each cycle costs a tenth of a second.
        gc.collect()
        gc.freeze()
        engine = make_engine(settings, owner)
        try:
            await serve(settings, credentials, api, engine, stop)
        finally:
            await engine.close()
    finally:
        await api.close()


def raise_limit_of_files() -> None:
    """As far as it may be raised: every probe and every request that is under way is a file, and
    the usual limit of 1024 is fewer than one machine has sandboxes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems have a lower limit than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def identify(api: KubeApi, settings: Settings, stop: asyncio.Event) -> names.Owner | None:
    """Who this operator is (invariant 9); None where it was stopped first.

    Waits for the API server as long as it does not answer. Raises StartupError where it answers
    that something is missing.
    """
    loop = asyncio.get_running_loop()
    backoff = 0.2
    refused_since: float | None = None
    while not stop.is_set():
        try:
            namespace = await api.get_namespace("kube-system")
            await api.try_list(settings.namespaces[0] if settings.namespaces else None)
            return names.Owner(namespace["metadata"]["uid"], settings.instance_name)
        except NotServed:
            raise StartupError(
                "the API server does not know Sandboxes: run "
                "`sandbox-operator crds | kubectl apply -f -` first"
            ) from None
        except (Forbidden, Unauthorized) as error:
            # One that has just started refuses everybody until it has read its roles.
            refused_since = refused_since or loop.time()
            if loop.time() > refused_since + _FORBIDDEN_SECONDS:
                raise StartupError(f"the API server refuses the operator: {error}") from None
            log.warning("the API server refuses the operator, trying again: %s", error)
        except ApiUnreachable as error:
            refused_since = None
            log.warning("the API server does not answer, trying again: %s", error)
        except ApiError as error:
            raise StartupError(f"the API server refuses the operator: {error}") from None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), backoff)
        backoff = min(backoff * 2, 5.0)
    return None


async def serve(
    settings: Settings,
    credentials: Credentials,
    api: KubeApi,
    engine: Engine,
    stop: asyncio.Event,
) -> None:
    """Run all parts over a given API and engine until `stop` is set."""
    rules = settings.rules()
    entries = Entries()
    queue = WorkQueue(entries.namespace, at_once=settings.api_concurrency)
    view = EngineView(accepted_ids=frozenset(settings.accepted_engine_ids))
    engines = Engines(view)
    events = EventPoster(api, settings.instance_name, queue.calm)
    prober = Prober(queue, settings.probe_concurrency)
    operations = Operations(
        engine,
        api,
        queue,
        rules,
        engines,
        publish_address=settings.publish_address,
        at_once=settings.engine_concurrency * 2,
        now=now,
    )
    reconciler = Reconciler(
        api=api,
        entries=entries,
        queue=queue,
        operations=operations,
        prober=prober,
        events=events,
        engine=engines,
        rules=rules,
        probe_host=settings.probe_host,
        now=now,
    )
    enginewatch = EngineWatch(
        engine=engine,
        api=api,
        entries=entries,
        queue=queue,
        reconciler=reconciler,
        engines=engines,
        namespaces=settings.namespaces,
        resync_seconds=settings.resync_seconds,
        now=now,
    )
    watch = Watch(
        entries=entries,
        queue=queue,
        reconciler=reconciler,
        api=api,
        credentials=credentials,
        namespaces=settings.namespaces,
    )
    # Workers before kopf: on exit it cancels every task that was created after it began.
    workers = settings.api_concurrency + spare(settings.api_concurrency)
    tasks = [_task(reconciler.work(), f"worker-{i}") for i in range(workers)]
    tasks.append(_task(events.run(), "events"))
    tasks.append(_task(reconciler.delete_bereaved_secrets(), "secrets"))
    tasks.append(_task(enginewatch.follow(), "engine-events"))
    tasks.append(_task(enginewatch.resync(), "resync"))
    stopping = _task(stop.wait(), "stop")
    watching = _task(watch.run(), "watch")
    log.info("operator %s runs; identity %s", settings.instance_name, engine.owner.label)
    try:
        done, _ = await asyncio.wait(
            {stopping, watching, *tasks}, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done - {stopping}:
            task.result()  # none of them ends by itself: this raises why it did
    finally:
        log.info("stopping")
        await _end([watching])
        await _end(tasks)
        await operations.drain(_DRAIN_SECONDS)
        await prober.close()
        await _end([stopping])


def _connections(settings: Settings) -> int:
    """One for each that may ask the API server at once; Events, lists and the like are the rest."""
    workers = settings.api_concurrency + spare(settings.api_concurrency)
    return workers + READINGS + spare(READINGS) + 8


def _task(work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
    return asyncio.create_task(work, name=name)


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
