"""kopf's part: watching Sandboxes. Every event is put into the cache and its key on the queue.

Nothing else happens here: an exception in a handler would lose the event, and kopf's own patching,
progress and finalizers are not used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Collection, Iterable
from typing import Any

import aiohttp
import kopf

from controller import logs
from controller.core import names
from controller.entries import Entries
from controller.kube.credentials import Credentials
from controller.reconciler import Reconciler
from controller.workqueue import WorkQueue

log = logging.getLogger(__name__)

_RESTART_SECONDS = 1.0
_STOP_SECONDS = 5.0


class NoDiffBase(kopf.DiffBaseStorage):
    """kopf's record of the last handled state, which nobody here reads: never made, never stored.

    Making it copies the whole object three times: two thirds of what kopf spends on an event."""

    def build(
        self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None
    ) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        return None


class NoProgress(kopf.ProgressStorage):
    """kopf's record of its handlers' progress: a handler that only enqueues makes none."""

    def fetch(self, *, key: str, body: kopf.Body) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


class Watch:
    """Feeds the queue from the API server's watch."""

    def __init__(
        self,
        *,
        entries: Entries,
        queue: WorkQueue,
        reconciler: Reconciler,
        credentials: Credentials,
        namespaces: Collection[str],
    ) -> None:
        self._entries = entries
        self._queue = queue
        self._reconciler = reconciler
        self._credentials = credentials
        self._namespaces = namespaces

    def take(self, type_: str | None, obj: dict[str, Any]) -> None:
        """One event of the watch: ADDED, MODIFIED, DELETED, or None for the first listing."""
        uid = obj["metadata"]["uid"]
        if type_ == "DELETED":
            self._reconciler.gone(uid)
            return
        entry = self._entries.take(obj)
        if entry is not None:
            self._queue.add(uid, urgent=entry.unmarked)

    async def run(self) -> None:
        """Watch until cancelled. A watch that ends (kopf ends at a watch's ERROR other than 410)
        is begun anew.

        kopf has a thread and an event loop of its own: when it exits it cancels every task of its
        loop that is younger than itself, and it takes the process's signals.
        """
        loop = asyncio.get_running_loop()
        stop = threading.Event()
        ended = asyncio.Event()

        def watch() -> None:
            while not stop.is_set():
                try:
                    with asyncio.Runner(loop_factory=type(loop)) as runner:  # uvloop's, as here
                        runner.run(self._operate(loop, stop))
                except Exception as error:
                    log.warning("the watch broke and is begun anew: %s", type(error).__name__)
                    log.debug("", exc_info=True)
                stop.wait(_RESTART_SECONDS)
            with contextlib.suppress(RuntimeError):  # our loop is closed: nobody waits
                loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=watch, name="kopf", daemon=True).start()
        try:
            await ended.wait()
        finally:
            stop.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _STOP_SECONDS)

    async def _operate(self, loop: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
        asyncio.get_running_loop().set_exception_handler(logs.lost)
        await kopf.operator(
            registry=self._registry(loop),
            settings=_settings(),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=list(self._namespaces),
            stop_flag=stop,
        )

    def _registry(self, loop: asyncio.AbstractEventLoop) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        given: list[str | None] = []

        @kopf.on.login(registry=registry, backoff=_RESTART_SECONDS)
        async def login(**_: Any) -> kopf.AiohttpSession:
            # kopf asks once, and again whenever the API server has refused what it got.
            nonlocal given
            if given:
                refused = given[-1]
                renewing = asyncio.run_coroutine_threadsafe(self._credentials.renew(refused), loop)
                if not await asyncio.wrap_future(renewing):
                    await asyncio.sleep(_RESTART_SECONDS)  # the same are tried again
            authorization = await self._credentials.authorization()
            given = [authorization]
            return connection(self._credentials, authorization)

        @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
        async def sandbox(event: Any, **_: Any) -> None:
            loop.call_soon_threadsafe(self.take, event["type"], event["object"])

        return registry


def connection(credentials: Credentials, authorization: str | None) -> kopf.AiohttpSession:
    """The operator's own credentials for kopf, on the running event loop.

    Of a certificate kopf would write the key to a file for itself."""
    configuration = credentials.configuration
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=credentials.tls),
        headers={} if authorization is None else {"Authorization": authorization},
        proxy=configuration.proxy,
        trust_env=False,
    )
    return kopf.AiohttpSession(server=configuration.host, aiohttp_session=session)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.persistence.finalizer = f"{names.GROUP}/unused"
    settings.networking.error_backoffs = (0.1, 0.2, 0.5, 1, 2, 5)
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 15
    settings.watching.inactivity_timeout = 70
    settings.watching.reconnect_backoff = 0.1
    return settings
