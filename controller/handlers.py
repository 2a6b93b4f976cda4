"""kopf's part: watching Sandboxes. Every event is put into the cache and its key on the queue.

Nothing else happens here: an exception in a handler would lose the event, and kopf's own patching,
progress and finalizers are not used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Any

import aiohttp
import kopf

from controller import logs
from controller.core import names
from controller.core.subject import lighten
from controller.entries import Entries
from controller.kube import answers
from controller.kube.api import ApiError, KubeApi
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
        api: KubeApi,
        credentials: Credentials,
        namespaces: Collection[str],
    ) -> None:
        self._entries = entries
        self._queue = queue
        self._reconciler = reconciler
        self._api = api
        self._credentials = credentials
        self._namespaces = namespaces
        self._cancel: Callable[[], object] = lambda: None
        """Ends the kopf that runs now, from another thread."""

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
        """Watch until cancelled. A watch that ends (kopf ends at a watch's ERROR other than 410, at
        a 404 while the CRD is away) is begun anew.

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
                except asyncio.CancelledError:
                    log.debug("the watch was cancelled")
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
            with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended
                self._cancel()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _STOP_SECONDS)

    async def _operate(self, loop: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
        here, operating = asyncio.get_running_loop(), asyncio.current_task()
        here.set_exception_handler(logs.lost)
        # Not kopf's stop flag: it waits for one in a thread of its loop, and one that ended by
        # itself would wait for that thread, and the watch would not be begun anew.
        self._cancel = lambda: operating and here.call_soon_threadsafe(operating.cancel)
        if stop.is_set():
            return
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._served(), loop))
        await kopf.operator(
            registry=self._registry(loop),
            settings=_settings(),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=list(self._namespaces),
        )

    async def _served(self) -> None:
        """Wait until the API server knows Sandboxes: kopf looks once what there is to watch."""
        while True:
            try:
                if await self._api.serves_sandboxes():
                    return
                log.info("the API server does not serve Sandboxes: its CRD is missing, or changes")
            except ApiError as error:
                log.info("what the API server serves is asked again: %s", error)
            await asyncio.sleep(_RESTART_SECONDS)

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

        def forward(event: Any, **_: Any) -> bool:
            lighten(event["object"])  # kopf keeps it for some seconds more
            loop.call_soon_threadsafe(self.take, event["type"], event["object"])
            return False

        # The filter does the work: running a handler is a fifth of what kopf spends on an event.
        @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry, when=forward)
        async def never(**_: Any) -> None:
            pass

        return registry


def connection(credentials: Credentials, authorization: str | None) -> kopf.AiohttpSession:
    """The operator's own credentials for kopf, on the running event loop, for reading alone.

    Of a certificate kopf would write the key to a file for itself."""
    configuration = credentials.configuration
    read_only = aiohttp.TraceConfig()
    read_only.on_request_start.append(_refuse_to_write)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=credentials.tls),
        headers={} if authorization is None else {"Authorization": authorization},
        proxy=configuration.proxy,
        trust_env=False,
        trace_configs=[read_only],
        middlewares=(answers.PagesOfKopf(),),
        response_class=answers.LightResponse,
    )
    return kopf.AiohttpSession(server=configuration.host, aiohttp_session=session)


async def _refuse_to_write(
    _: aiohttp.ClientSession, __: object, request: aiohttp.TraceRequestStartParams
) -> None:
    """All writes are the reconciler's: kopf lists and watches here, whatever it is led to."""
    if request.method != "GET":
        raise PermissionError(f"kopf does not write here: {request.method}")


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None  # after which it would kill the whole process
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    # kopf takes a finalizer of this name away from any object: nobody may be able to guess it.
    settings.persistence.finalizer = f"{names.GROUP}/{secrets.token_hex(16)}"
    settings.networking.error_backoffs = (0.1, 0.2, 0.5, 1, 2, 5)
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 15
    settings.watching.inactivity_timeout = 70
    settings.watching.reconnect_backoff = 0.1
    settings.watching.chunk_size = answers.LARGEST_PAGE  # PagesOfKopf asks for fewer
    return settings
