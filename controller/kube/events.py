"""Events on Sandboxes: posted when a stored condition's reason changes, off the fast lane.

Events are news, not state: what cannot be posted is dropped, oldest first. Namespaces take turns.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from controller.core import names
from controller.core.plaintext import one_line
from controller.core.reasons import Reason
from controller.core.resources import ObjectMeta, Phase
from controller.fairness import RoundRobin
from controller.kube.api import ApiError, ApiUnreachable, KubeApi

log = logging.getLogger(__name__)

_BACKLOG = 1000
_BACKLOG_OF_A_NAMESPACE = 250
"""Beyond, a namespace's own oldest ones are dropped, and no others'."""
_YIELD_SECONDS = 1.0
"""How long one Event yields to the marking of deletions at the most."""
_RETRY_SECONDS = 1.0
_REFUSALS = 3
"""How often the API server may answer one Event with an error of its own until it is dropped."""
_MESSAGE = 1024
"""The API server's limit for an Event's message, in bytes."""
_BURST = 25
_REFILL_SECONDS = 300.0
"""Of one object so many at once, and one more in so many seconds, as client-go's recorder has it:
one that comes and goes each second must not crowd out the others."""
_KNOWN = 10_000
"""Objects whose Events are counted; then those that have their full number again are forgotten."""


@dataclass(frozen=True, slots=True, eq=False)
class News:
    meta: ObjectMeta
    phase: Phase
    reason: Reason
    message: str
    at: datetime


class EventPoster:
    """Posts News one after the other."""

    def __init__(
        self, api: KubeApi, instance: str, calm: Callable[[float, str], Awaitable[None]]
    ) -> None:
        """`calm` waits, for so many seconds at the most, until nothing more urgent is under way in
        a namespace."""
        self._api = api
        self._instance = instance
        self._calm = calm
        self._backlog: RoundRobin[News] = RoundRobin()
        self._wakeup = asyncio.Event()
        self._left: dict[str, tuple[float, float]] = {}
        """By UID, how many Events may be posted at once, and when that was so."""

    def post(self, news: News) -> None:
        if self._may(news.meta.uid):
            self._put(replace(news, message=news.message[:_MESSAGE]))

    def _may(self, uid: str) -> bool:
        now = asyncio.get_running_loop().time()
        if len(self._left) > _KNOWN:
            self._left = {
                other: last for other, last in self._left.items() if _refilled(*last, now) < _BURST
            }
        left = _refilled(*self._left.get(uid, (_BURST, now)), now)
        self._left[uid] = (left - 1 if left >= 1 else left), now
        return left >= 1

    def _put(self, news: News) -> None:
        namespace = news.meta.namespace
        if self._backlog.count(namespace) >= _BACKLOG_OF_A_NAMESPACE:
            self._backlog.pop_of(namespace)
        elif len(self._backlog) >= _BACKLOG:
            self._backlog.pop()
        self._backlog.add(news, namespace)
        self._wakeup.set()

    async def run(self) -> None:
        while True:
            await self._wakeup.wait()
            self._wakeup.clear()
            while self._backlog:
                news = self._backlog.pop()
                await self._calm(_YIELD_SECONDS, news.meta.namespace)
                await self._try(news)

    async def _try(self, news: News) -> None:
        """Post one. While the API server is away it waits, and so do all others."""
        refusals = 0
        while refusals < _REFUSALS:
            try:
                await self._api.create_event(news.meta.namespace, _event(news, self._instance))
            except ApiUnreachable as error:
                refusals += error.status >= 500
                await asyncio.sleep(_RETRY_SECONDS)
            except ApiError as error:
                log.debug("an Event was refused: %s", error)
                return
            else:
                return


def _refilled(left: float, since: float, now: float) -> float:
    return min(float(_BURST), left + (now - since) / _REFILL_SECONDS)


def _is_warning(news: News) -> bool:
    return news.phase in (Phase.ERROR, Phase.MISSING) or news.reason in (
        Reason.OBJECT_TOO_LARGE,
        Reason.API_REFUSED,
        Reason.CLEANUP_FAILED,
    )


def _cut(text: str) -> str:
    return text.encode(errors="replace")[:_MESSAGE].decode(errors="ignore")


def _event(news: News, instance: str) -> dict[str, Any]:
    involved = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "namespace": news.meta.namespace,
        "name": news.meta.name,
        "uid": news.meta.uid,
    }
    message = news.message or news.reason
    type_ = "Warning" if _is_warning(news) else "Normal"
    return _record(news.meta.namespace, involved, type_, news.reason, message, news.at, instance)


def about_namespace(
    name: str, uid: str, reason: Reason, message: str, at: datetime
) -> dict[str, Any]:
    """A warning about the operator's surroundings, as an Event on a namespace. Like those of all
    that is in no namespace, it lies in `default`."""
    involved = {"apiVersion": "v1", "kind": "Namespace", "name": name, "uid": uid}
    return _record("default", involved, "Warning", reason, message, at, names.FIELD_MANAGER)


def _record(
    namespace: str,
    involved: dict[str, str],
    type_: str,
    reason: str,
    message: str,
    moment: datetime,
    instance: str,
) -> dict[str, Any]:
    at = moment.isoformat().replace("+00:00", "Z")
    second = moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{involved['name']}.{secrets.token_hex(8)}",
            "namespace": namespace,
        },
        "involvedObject": involved,
        "type": type_,
        "reason": reason,
        "message": _cut(one_line(message)),
        "source": {"component": names.FIELD_MANAGER},
        "firstTimestamp": second,
        "lastTimestamp": second,
        "eventTime": at if "." in at else f"{at[:-1]}.000000Z",
        "count": 1,
        "action": "Reconcile",
        "reportingComponent": names.FIELD_MANAGER,
        "reportingInstance": instance,
    }
