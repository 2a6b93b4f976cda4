"""The watch of the engine: its event stream, its outages, the resync and the sweep of orphans.

    follow     events into entries; after every (re)connection a full listing
    heartbeat  notices an engine that hangs without closing its stream
    resync     compares both sides again, in case anything was lost, and sweeps

The order of the sweep is invariant 9's: the engine is listed first, then the API read uncached; an
orphan is what the first has and the second has not, in two sweeps running.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from controller.core.reasons import Reason
from controller.core.state import EngineView, Holdings, Verb
from controller.core.verdict import Operation
from controller.engines.base import Engine, EngineError, EngineEvent, EngineUnreachable
from controller.entries import Engines, Entries
from controller.kube.api import ApiError, Conflict, KubeApi
from controller.kube.events import about_namespace
from controller.operations import clean, same
from controller.reconciler import Reconciler
from controller.workqueue import WorkQueue

log = logging.getLogger(__name__)

_HEARTBEAT_SECONDS = 3.0
_HEARTBEAT_TIMEOUT_SECONDS = 7.0
"""With the seconds above: an engine that hangs is noticed within the 10 s of invariant 4."""
_RECONNECT_SECONDS = 0.5
_THOROUGH_ROUNDS = 5
"""In so many resyncs each generated Secret is looked for once, and each container inspected."""


class EngineWatch:
    """Keeps the entries true to the engine, and the engine true to the API server."""

    def __init__(
        self,
        *,
        engine: Engine,
        api: KubeApi,
        entries: Entries,
        queue: WorkQueue,
        reconciler: Reconciler,
        engines: Engines,
        namespaces: Collection[str],
        resync_seconds: float,
        now: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._api = api
        self._entries = entries
        self._queue = queue
        self._reconciler = reconciler
        self._engines = engines
        self._namespaces = namespaces
        self._resync_seconds = resync_seconds
        self._now = now
        self._suspects: set[str] = set()
        self._round = 0
        self._advised: set[str] = set()
        self._answered = now()
        """When the engine answered last: an outage counts from there."""

    async def follow(self) -> None:
        """Follow the engine's events for ever, over its outages."""
        while True:
            try:
                await self._follow_once()
            except EngineError as error:
                self._away(str(error))
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _follow_once(self) -> None:
        info = await self._engine.identify()
        self._answered = self._now()
        both = [
            asyncio.create_task(self._read(info.id)),
            asyncio.create_task(self._heartbeat(info.id)),
        ]
        # Beside them: its answers, and the API server's, must hold up no event of the engine.
        advising = asyncio.create_task(self._advise())
        try:
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # raises what ended it
        finally:
            for task in (*both, advising):
                task.cancel()
            await asyncio.gather(*both, advising, return_exceptions=True)

    async def _read(self, id_: str) -> None:
        """Ends with EngineError when the stream of events does."""
        async with contextlib.aclosing(self._engine.events()) as events:
            async for event in events:
                if event is None:
                    await self._connected(id_)
                else:
                    self._notice(event)
        raise EngineUnreachable("its events have ended")

    async def _heartbeat(self, id_: str) -> None:
        """Ends with EngineError when the engine stops answering, or is another."""
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            try:
                info = await asyncio.wait_for(self._engine.identify(), _HEARTBEAT_TIMEOUT_SECONDS)
            except TimeoutError:
                raise EngineUnreachable("it has stopped answering") from None
            self._answered = self._now()
            same(info, EngineView(id_))

    async def _connected(self, id_: str) -> None:
        """From here on no event is missed: list everything, then believe it."""
        began = asyncio.get_running_loop().time()
        listing = await self._engine.list()
        same(await self._engine.identify(), EngineView(id_))
        view = self._engines.view
        if view.id != id_:
            log.info("the engine %s answers", id_)
        elif view.unreachable_since is not None:
            log.info("the engine answers again")
        self._engines.view = EngineView(id_, None, view.accepted_ids)
        self._entries.listed = True
        self._absorb(listing, began)
        for entry in self._entries:
            self._queue.add(entry.uid)

    async def _advise(self) -> None:
        """Say once what is known against this engine: in the log, and as an Event on kube-system,
        whose UID is this operator's identity. The Event lies in `default`, which an operator of
        other namespaces leaves alone."""
        try:
            advisories = await self._engine.advisories()
        except EngineError as error:
            log.info("known faults are asked for with the next connection: %s", error)
            return
        for advisory in advisories:
            if advisory in self._advised:
                continue
            self._advised.add(advisory)
            log.warning("%s", advisory)
            if self._namespaces and "default" not in self._namespaces:
                continue
            event = about_namespace(
                "kube-system",
                self._engine.owner.cluster_uid,
                Reason.ENGINE_OUTDATED,
                advisory,
                self._now(),
            )
            try:
                await self._api.create_event("default", event)
            except Conflict:
                pass  # an earlier start has stored it
            except ApiError as error:
                log.info("the warning could not be posted as an Event: %s", error)

    def _away(self, why: str) -> None:
        view = self._engines.view
        if view.unreachable_since is not None:
            return
        log.warning("the engine does not answer: %s", why)
        self._engines.view = replace(view, unreachable_since=self._answered)
        for entry in self._entries:
            self._queue.add(entry.uid)

    def _notice(self, event: EngineEvent) -> None:
        entry = self._entries.get(event.uid)
        if entry is not None and entry.notice(event):
            self._queue.add(entry.uid)

    def _absorb(self, listing: Mapping[str, Holdings], began: float) -> None:
        """Take a full listing. What has an operation in flight is looked at after its end."""
        for entry in self._entries:
            if entry.in_flight is not None:
                entry.in_flight.overtaken = True
                continue
            holdings = listing.get(entry.uid, Holdings())
            if entry.observe(holdings, began):
                self._queue.add(entry.uid)
            if entry.deleting_since is not None and holdings.empty:
                entry.look = True  # `find` shows more: what lost its labels with the engine

    async def resync(self) -> None:
        """Compare both sides from time to time."""
        while True:
            try:
                await self.resync_once()
            except (EngineError, ApiError) as error:
                log.info("the resync is tried again: %s", error)
            await asyncio.sleep(self._resync_seconds)

    async def resync_once(self) -> None:
        """One full comparison. Raises EngineError or ApiError, and then changes nothing more."""
        listing: Mapping[str, Holdings] | None = None
        began = asyncio.get_running_loop().time()
        if self._engines.view.id is not None and self._engines.view.unreachable_since is None:
            # Now and then everything is inspected anew: a lost event may hide behind an equal row.
            thorough = self._round % _THOROUGH_ROUNDS == 0
            known = None if thorough else self._entries.known_holdings()
            listing = await self._engine.list(known)
            same(await self._engine.identify(), self._engines.view)
        asked = asyncio.get_running_loop().time()
        objects = await self._list_objects()
        alive = {obj["metadata"]["uid"] for obj in objects}
        for obj in objects:
            entry = self._entries.take(obj)
            if entry is not None:
                self._queue.add(entry.uid, urgent=entry.unmarked)
        for entry in self._entries:
            # kopf tells no DELETED for what vanished while its watch was down. An entry younger
            # than the list is of a newer object.
            if entry.uid not in alive and entry.born < asked:
                self._reconciler.gone(entry.uid)
        if listing is not None and self._engines.view.unreachable_since is None:
            self._absorb(listing, began)
            await self._sweep(listing, alive)
        for i, entry in enumerate(self._entries):
            if i % _THOROUGH_ROUNDS == self._round % _THOROUGH_ROUNDS:
                entry.doubt_secret()
            self._queue.add_idle(entry.uid)
        self._round += 1
        self._entries.prune()

    async def _list_objects(self) -> list[dict[str, Any]]:
        if not self._namespaces:
            return await self._api.list_sandboxes()
        return [obj for ns in self._namespaces for obj in await self._api.list_sandboxes(ns)]

    async def _sweep(self, listing: Mapping[str, Holdings], alive: set[str]) -> None:
        orphans = {
            uid: holdings
            for uid, holdings in listing.items()
            if uid not in alive
            and not holdings.empty
            and (not self._namespaces or holdings.namespace in self._namespaces)
            and self._entries.get(uid) is None
        }
        condemned = self._suspects & orphans.keys()
        self._suspects = set(orphans) - condemned
        for uid in condemned:
            holdings = orphans[uid]
            container = holdings.container
            log.warning(
                "removing what is left of %s/%s (%s): no such Sandbox exists",
                holdings.namespace,
                holdings.name,
                uid,
            )
            operation = Operation(Verb.CLEAN, container.id if container else None, holdings.volumes)
            try:
                await clean(self._engine, operation)
            except EngineError as error:
                log.warning("%s is left for the next sweep: %s", uid, error)
                self._suspects.add(uid)
