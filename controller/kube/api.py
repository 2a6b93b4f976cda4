"""The API calls that the operator makes: Sandboxes, their Secrets, Events, and little else.

JSON in, JSON out: the models of `kubernetes.aio` are left aside, and its REST client, which costs
half as much again as the request. Errors:

    ApiError
     |- ApiUnreachable   no answer, or none that counts: try again
     |   |- NotServed    404 for the whole kind: its CRD is missing, or is being changed
     |   +- Unauthorized 401, and the source of the credentials has no others yet
     |- NotFound         404 for this very object
     |- Conflict         409: another uid, a newer resourceVersion, or the name is taken
     |- Forbidden        403
     +- Invalid          422

A message never holds the body of a request: Secrets are among them. It holds what the API server
says, but not where that repeats a value.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from base64 import b64decode
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from controller.core import names
from controller.core.discretion import WITHHELD, repeats
from controller.kube.credentials import Credentials

log = logging.getLogger(__name__)

_SANDBOXES = f"/apis/{names.GROUP}/{names.VERSION}"
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}
_MERGE = _JSON | {"Content-Type": "application/merge-patch+json"}
_FIELDS_OWNED_BY = ("POST", "PATCH")
_AS_MANAGER = f"?{urlencode({'fieldManager': names.FIELD_MANAGER})}"
CONNECTIONS = 64
_TIMEOUT = aiohttp.ClientTimeout(total=15, connect=5)
_PAGE = 500


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


class NotFound(ApiError):
    pass


class Conflict(ApiError):
    pass


class Forbidden(ApiError):
    pass


class Invalid(ApiError):
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

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


_KINDS: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: Invalid,
}


class KubeApi:
    """The API server, as the operator uses it. Every call raises ApiError."""

    def __init__(self, credentials: Credentials, connections: int = CONNECTIONS) -> None:
        """`connections` is as many as ask at once, so that nobody waits for one: they go to who
        comes first."""
        self._credentials = credentials
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    # Sandboxes

    async def list_sandboxes(self, namespace: str | None = None) -> list[dict[str, Any]]:
        """All Sandboxes, read from the store and not from a cache (invariant 9)."""
        items: list[dict[str, Any]] = []
        query = {"limit": str(_PAGE)}
        while True:
            page = await self._call(_Request("GET", _collection(namespace), query=query))
            items += page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return items
            query["continue"] = token

    async def get_sandbox(self, namespace: str, name: str) -> dict[str, Any]:
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
                "PATCH", _sandbox(namespace, name), body={"metadata": metadata}, headers=_MERGE
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
            )
        )

    async def get_config_map(self, namespace: str, name: str) -> dict[str, Any]:
        return await self._call(_Request("GET", _core(namespace, "configmaps", name)))

    async def get_namespace(self, name: str) -> dict[str, Any]:
        return await self._call(_Request("GET", f"/api/v1/namespaces/{quote(name)}"))

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        await self._send(_Request("POST", _core(namespace, "events"), body=event))

    # The wire

    async def _call(self, request: _Request) -> dict[str, Any]:
        """One request and its answer."""
        raw = await self._send(request)
        try:
            parsed: dict[str, Any] = json.loads(raw)
        except ValueError:
            raise ApiUnreachable(f"{request}: the answer is no JSON") from None
        return parsed

    async def _send(self, request: _Request) -> bytes:
        """One request and the bytes of its answer. Credentials that are refused are read again
        from their source, once."""
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

    async def _try(self, request: _Request, authorization: str | None) -> bytes:
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
                raw = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ApiUnreachable(f"{request}: {type(error).__name__}") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled us: aiohttp does so with who waits for a connection of a session
            # that is closed, as `_connected` does when the certificate was renewed.
            raise ApiUnreachable(f"{request}: the connections were closed") from None
        if response.status >= 300:
            raise _error(request, response.status, raw)
        return raw

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


def _error(request: _Request, status: int, raw: bytes) -> ApiError:
    try:
        answer = json.loads(raw or b"{}")
        reason, message = str(answer.get("reason", "")), str(answer.get("message", ""))
        named = bool((answer.get("details") or {}).get("name"))
    except (ValueError, AttributeError):
        reason, message, named = "", "", False
    if repeats(f"{reason} {message}", request.secrets):
        reason, message = "", WITHHELD
    kind = _KINDS.get(status, ApiError)
    if status == 404 and not named:
        # While a CRD changes, the API server knows none of its objects for a moment: taking that
        # for "gone" would abandon them.
        kind = NotServed
    if status >= 500 or status == 429:
        kind = ApiUnreachable
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
