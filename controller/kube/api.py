"""The API calls that the operator makes: Sandboxes, their Secrets, Events, and little else.

JSON in, JSON out: the models of `kubernetes.aio` are left aside, and its REST client, which costs
half as much again as the request. Errors:

    ApiError
     |- ApiUnreachable   no answer, or none that counts: try again
     |   |- NotServed    404 for the whole kind: its CRD is missing, or is being changed
     |   +- Unauthorized 401, and the source of the credentials has no others yet
     |- NotFound         404 for this very object
     |- Conflict         409: another uid, a newer resourceVersion, or the name is taken
     +- Refused          every other answer that repeating the call cannot cure
         |- Forbidden    403
         |- Invalid      422
         +- TooLarge     413, or etcd's word that the object would exceed its limit (a 500)

A message never holds the body of a request: Secrets are among them. It holds what the API server
says, but not where that repeats a value.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from base64 import b64decode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from controller.core import names
from controller.core.discretion import WITHHELD, repeats
from controller.kube import answers
from controller.kube.credentials import Credentials

log = logging.getLogger(__name__)

_SANDBOXES = f"/apis/{names.GROUP}/{names.VERSION}"
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}
_MERGE = _JSON | {"Content-Type": "application/merge-patch+json"}
_FIELDS_OWNED_BY = ("POST", "PATCH")
_AS_MANAGER = f"?{urlencode({'fieldManager': names.FIELD_MANAGER})}"
CONNECTIONS = 64
_TIMEOUT = aiohttp.ClientTimeout(total=15, connect=5)
_SMALL = 64 * 1024
"""Bytes of an answer that are read at once, whatever else is being read."""
_LARGE_AT_ONCE = 4
"""Larger answers that are read and parsed at once: thirty of them would take 100 MB."""


class ApiError(Exception):
    """What the API server answered, or that it did not."""

    def __init__(self, message: str, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class ApiUnreachable(ApiError):
    pass


class NotServed(ApiUnreachable):
    pass


class Unauthorized(ApiUnreachable):
    pass


class _TooLarge(ApiUnreachable):
    """More than is read of an answer."""


class NotFound(ApiError):
    pass


class Conflict(ApiError):
    pass


class Refused(ApiError):
    pass


class Forbidden(Refused):
    pass


class Invalid(Refused):
    pass


class TooLarge(Refused):
    pass


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str] | None = None
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: _JSON)
    secrets: Collection[str] = ()
    """Values in `body` that no error may repeat."""

    parse: Callable[[bytes], Any] = answers.parse
    """What makes a value of the answer. It comes before the next large answer is read, so that what
    it leaves out is in memory only a few times."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


_KINDS: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Invalid,
}
_RETRIED = (408, 429)
"""Answers below 500 that ask for the same request again."""
_LIMIT_PASSED = ("request is too large", "message larger than max", "entity too large")
"""What a 500 says of an object beyond etcd's limit: etcd's server, its gRPC client, a proxy."""


class KubeApi:
    """The API server, as the operator uses it. Every call raises ApiError."""

    def __init__(self, credentials: Credentials, connections: int = CONNECTIONS) -> None:
        """`connections` is as many as ask at once, so that nobody waits for one: they go to who
        comes first."""
        self._credentials = credentials
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None
        self.written_at = float("-inf")
        """When a write was last accepted, by the event loop's clock."""
        self._page = answers.PageSize()
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    # Sandboxes: as `lighten` leaves them, but for `get_whole_sandbox`

    async def list_sandboxes(self, namespace: str | None = None) -> list[dict[str, Any]]:
        """All Sandboxes, read from the store and not from a cache (invariant 9)."""
        items: list[dict[str, Any]] = []
        token = ""
        while True:
            page = await self._page_of(_collection(namespace), token)
            items += page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return items

    async def _page_of(self, path: str, token: str) -> dict[str, Any]:
        """One page. Where it is too large, a smaller one from the same place."""
        size = 0

        def parse(raw: bytes) -> Any:
            nonlocal size
            size = len(raw)
            return answers.parse_light(raw)

        while True:
            query = {"limit": str(self._page.limit)} | ({"continue": token} if token else {})
            request = _Request("GET", path, query=query, parse=parse)
            try:
                page = await self._call(request)
            except _TooLarge:
                if not self._page.shrink():
                    raise
                continue
            self._page.took(len(page["items"]), size)
            return page

    async def try_list(self, namespace: str | None = None) -> None:
        """See whether Sandboxes are served and may be listed."""
        await self._call(_Request("GET", _collection(namespace), query={"limit": "1"}))

    async def get_sandbox(self, namespace: str, name: str) -> dict[str, Any]:
        return await self._call(
            _Request("GET", _sandbox(namespace, name), parse=answers.parse_light)
        )

    async def get_whole_sandbox(self, namespace: str, name: str) -> dict[str, Any]:
        """With all that its spec has."""
        return await self._call(_Request("GET", _sandbox(namespace, name)))

    async def patch_metadata(
        self,
        namespace: str,
        name: str,
        uid: str,
        resource_version: str,
        changes: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Merge `changes` into the metadata of this very object at this very version."""
        metadata = {"uid": uid, "resourceVersion": resource_version, **changes}
        return await self._call(
            _Request(
                "PATCH",
                _sandbox(namespace, name),
                body={"metadata": metadata},
                headers=_MERGE,
                parse=answers.parse_light,
            )
        )

    async def patch_status(
        self, namespace: str, name: str, uid: str, changes: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Merge `changes` into the status of this very object. Its one writer is the operator,
        so the version is not compared: a user's change of spec meanwhile is no conflict."""
        return await self._call(
            _Request(
                "PATCH",
                f"{_sandbox(namespace, name)}/status",
                body={"metadata": {"uid": uid}, "status": changes},
                headers=_MERGE,
                parse=answers.parse_light,
            )
        )

    async def serves_sandboxes(self) -> bool:
        """Whether discovery lists them. Every authenticated user may ask."""
        groups = (await self._call(_Request("GET", "/apis")))["groups"]
        if names.GROUP not in (group["name"] for group in groups):
            return False  # the version may be served by then, but is not found by who asks in order
        try:
            found = await self._call(_Request("GET", _SANDBOXES))
        except (NotServed, NotFound):
            return False
        return names.PLURAL in (resource["name"] for resource in found["resources"])

    # What a Sandbox refers to

    async def get_secret(self, namespace: str, name: str) -> dict[str, Any]:
        return await self._call(_Request("GET", _core(namespace, "secrets", name)))

    async def create_secret(self, namespace: str, secret: Mapping[str, Any]) -> dict[str, Any]:
        encoded = secret["data"].values()
        values = [*encoded, *(b64decode(value).decode() for value in encoded)]
        return await self._call(
            _Request("POST", _core(namespace, "secrets"), body=secret, secrets=values)
        )

    async def delete_secret(self, namespace: str, name: str, uid: str) -> None:
        await self._send(
            _Request(
                "DELETE",
                _core(namespace, "secrets", name),
                body={"preconditions": {"uid": uid}},
                parse=_unread,
            )
        )

    async def get_config_map(self, namespace: str, name: str) -> dict[str, Any]:
        return await self._call(_Request("GET", _core(namespace, "configmaps", name)))

    async def get_namespace(self, name: str) -> dict[str, Any]:
        return await self._call(_Request("GET", f"/api/v1/namespaces/{quote(name)}"))

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        await self._send(_Request("POST", _core(namespace, "events"), body=event, parse=_unread))

    # The wire

    async def _call(self, request: _Request) -> dict[str, Any]:
        """One request and its answer."""
        parsed: dict[str, Any] = await self._send(request)
        return parsed

    async def _send(self, request: _Request) -> Any:
        """One request and what its answer holds. Credentials that are refused are read again from
        their source, once."""
        authorization = await self._authorization(request)
        try:
            return await self._try(request, authorization)
        except Unauthorized:
            if not await self._renewed(request, authorization):
                raise
            return await self._try(request, await self._authorization(request))

    async def _authorization(self, request: _Request) -> str | None:
        try:
            return await self._credentials.authorization()
        except Exception as error:
            raise _no_credentials(request, error) from None

    async def _renewed(self, request: _Request, refused: str | None) -> bool:
        try:
            return await self._credentials.renew(refused)
        except Exception as error:
            raise _no_credentials(request, error) from None

    async def _try(self, request: _Request, authorization: str | None) -> Any:
        configuration, headers = self._credentials.configuration, request.headers
        url = f"{configuration.host}{request.path}"
        if request.query is not None:
            url += f"?{urlencode(request.query)}"
        elif request.method in _FIELDS_OWNED_BY:
            url += _AS_MANAGER
        if authorization is not None:
            headers = {**headers, "Authorization": authorization}
        try:
            session = await self._connected()
            async with session.request(
                request.method,
                URL(url, encoded=True),
                headers=headers,
                allow_redirects=False,
                data=None if request.body is None else json.dumps(request.body),
                server_hostname=configuration.tls_server_name,
                proxy=configuration.proxy,
                proxy_headers=configuration.proxy_headers,
            ) as response:
                answer = await self._read(request, response)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ApiUnreachable(f"{request}: {type(error).__name__}") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled us: aiohttp does so with who waits for a connection of a session
            # that is closed, as `_connected` does when the certificate was renewed.
            raise ApiUnreachable(f"{request}: the connections were closed") from None
        if request.method != "GET":
            self.written_at = asyncio.get_running_loop().time()
        return answer

    async def _read(self, request: _Request, response: aiohttp.ClientResponse) -> Any:
        """The answer, parsed. What is large waits for its turn on the wire, where it takes nothing:
        the connection is read no further meanwhile."""
        head = b""
        async for part in response.content.iter_any():
            head += part
            if len(head) > _SMALL:
                break
        else:
            return _parsed(request, response.status, head)
        async with self._large:
            try:
                raw = await answers.read(response, head)
            except answers.TooLarge:
                raise _TooLarge(f"{request}: the answer is too large") from None
            return _parsed(request, response.status, raw)

    async def _connected(self) -> aiohttp.ClientSession:
        tls = self._credentials.tls
        if self._session is not None and self._tls is not tls:
            # Its connections speak with the former certificate; what they carry is tried again.
            session, self._session = self._session, None
            await session.close()
        if self._session is None:
            # aiohttp's limit of 100 connections would queue a burst of deletions behind itself. It
            # would read the environment's proxies and ~/.netrc anew, in a thread, for each call.
            self._tls = tls
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=tls),
                timeout=_TIMEOUT,
                trust_env=False,
                # What the API server has no use for costs 40 us a request.
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept-Encoding"),
            )
        return self._session


def _no_credentials(request: _Request, error: Exception) -> ApiUnreachable:
    """A token file that is being replaced, a plugin that fails; the text may hold a token."""
    return ApiUnreachable(f"{request}: no credentials: {type(error).__name__}")


def _unread(_: bytes) -> None:
    """What an answer says beside that it is one."""


def _parsed(request: _Request, status: int, raw: bytes) -> Any:
    if status >= 300:
        raise _error(request, status, raw)
    try:
        return request.parse(raw)
    except (ValueError, RecursionError):
        raise ApiUnreachable(f"{request}: the answer is no JSON") from None


def _error(request: _Request, status: int, raw: bytes) -> ApiError:
    try:
        answer = json.loads(raw or b"{}")
        reason, message = str(answer.get("reason", "")), str(answer.get("message", ""))
        named = bool((answer.get("details") or {}).get("name"))
    except (ValueError, AttributeError, RecursionError):
        reason, message, named = "", "", False
    if repeats(f"{reason} {message}", request.secrets):
        reason, message = "", WITHHELD
    kind = _KINDS.get(status, Refused)
    if status == 404 and not named:
        # While a CRD changes, the API server knows none of its objects for a moment: taking that
        # for "gone" would abandon them.
        kind = NotServed
    if status >= 500 or status in _RETRIED:
        kind = ApiUnreachable
        if any(words in message.lower() for words in _LIMIT_PASSED):
            kind = TooLarge
    return kind(f"{request}: {status} {message or reason}"[:1024], status, reason)


def _collection(namespace: str | None) -> str:
    if namespace is None:
        return f"{_SANDBOXES}/{names.PLURAL}"
    return f"{_SANDBOXES}/namespaces/{quote(namespace)}/{names.PLURAL}"


def _sandbox(namespace: str, name: str) -> str:
    return f"{_collection(namespace)}/{quote(name)}"


def _core(namespace: str, plural: str, name: str | None = None) -> str:
    path = f"/api/v1/namespaces/{quote(namespace)}/{plural}"
    return path if name is None else f"{path}/{quote(name)}"
