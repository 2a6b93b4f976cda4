"""The API calls that the operator makes: Sandboxes, their Secrets, Events, and little else.

`KubeApi` speaks through the session of `kubernetes.aio`'s ApiClient, which knows kubeconfigs,
tokens that expire and certificates, but leaves its models aside: JSON in, JSON out. Errors:

    ApiError
     |- ApiUnreachable   no answer, or none that counts: try again
     |   +- NotServed    404 for the whole kind: its CRD is missing, or is being changed
     |- NotFound         404 for this very object
     |- Conflict         409: another uid, a newer resourceVersion, or the name is taken
     |- Forbidden        403
     +- Invalid          422

A message never holds the body of a request: Secrets are among them. It holds what the API server
says, but not where that repeats a value.
"""

from __future__ import annotations

import json
import logging
import os
from base64 import b64decode
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config.incluster_config import load_incluster_config
from kubernetes.aio.config.kube_config import load_kube_config

from controller.core import names
from controller.core.discretion import WITHHELD, repeats

log = logging.getLogger(__name__)

_SANDBOXES = f"/apis/{names.GROUP}/{names.VERSION}"
_MERGE = "application/merge-patch+json"
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


class NotFound(ApiError):
    pass


class Conflict(ApiError):
    pass


class Forbidden(ApiError):
    pass


class Invalid(ApiError):
    pass


async def connect(kubeconfig: str | None, context: str | None) -> ApiClient:
    """A client for the named kubeconfig, else KUBECONFIG, else the Pod's service account, else
    ~/.kube/config. Raises ConfigException where none of them is usable."""
    configuration = Configuration()
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ
    if kubeconfig is None and "KUBECONFIG" not in os.environ and in_pod:
        load_incluster_config(client_configuration=configuration)
    else:
        await load_kube_config(
            config_file=kubeconfig,
            context=context,
            client_configuration=configuration,
            persist_config=False,
        )
    # aiohttp's limit of 100 connections would queue a burst of deletions behind itself.
    configuration.connection_pool_maxsize = 64
    configuration.retries = 1
    # aiohttp would read the environment's proxies and ~/.netrc anew, in a thread, for each call.
    configuration.client_session_kwargs = {"trust_env": False}
    server = urlsplit(configuration.host)
    if configuration.proxy is None and not proxy_bypass(server.hostname or ""):
        configuration.proxy = getproxies().get(server.scheme)
    return ApiClient(configuration)


class KubeApi:
    """The API server, as the operator uses it. Every call raises ApiError."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    @property
    def configuration(self) -> Configuration:
        """Where the API server is and how to speak to it."""
        return self._client.configuration

    async def close(self) -> None:
        await self._client.close()

    # Sandboxes

    async def list_sandboxes(self, namespace: str | None = None) -> list[dict[str, Any]]:
        """All Sandboxes, read from the store and not from a cache (invariant 9)."""
        items: list[dict[str, Any]] = []
        query = {"limit": str(_PAGE)}
        while True:
            page = await self._call("GET", _collection(namespace), query=query)
            items += page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return items
            query["continue"] = token

    async def get_sandbox(self, namespace: str, name: str) -> dict[str, Any]:
        return await self._call("GET", _sandbox(namespace, name))

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
            "PATCH", _sandbox(namespace, name), body={"metadata": metadata}, content=_MERGE
        )

    async def patch_status(
        self, namespace: str, name: str, uid: str, changes: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Merge `changes` into the status of this very object. Its one writer is the operator,
        so the version is not compared: a user's change of spec meanwhile is no conflict."""
        return await self._call(
            "PATCH",
            f"{_sandbox(namespace, name)}/status",
            body={"metadata": {"uid": uid}, "status": changes},
            content=_MERGE,
        )

    # What a Sandbox refers to

    async def get_secret(self, namespace: str, name: str) -> dict[str, Any]:
        return await self._call("GET", _core(namespace, "secrets", name))

    async def create_secret(self, namespace: str, secret: Mapping[str, Any]) -> dict[str, Any]:
        encoded = secret["data"].values()
        values = [*encoded, *(b64decode(value).decode() for value in encoded)]
        return await self._call("POST", _core(namespace, "secrets"), body=secret, secrets=values)

    async def delete_secret(self, namespace: str, name: str, uid: str) -> None:
        await self._call(
            "DELETE",
            _core(namespace, "secrets", name),
            body={"preconditions": {"uid": uid}},
        )

    async def get_config_map(self, namespace: str, name: str) -> dict[str, Any]:
        return await self._call("GET", _core(namespace, "configmaps", name))

    async def get_namespace(self, name: str) -> dict[str, Any]:
        return await self._call("GET", f"/api/v1/namespaces/{quote(name)}")

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        await self._call("POST", _core(namespace, "events"), body=event)

    # The wire

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content: str = "application/json",
        secrets: Collection[str] = (),
    ) -> dict[str, Any]:
        """`secrets` are values in `body` that no error may repeat."""
        config = self._client.configuration
        if method != "GET" and method != "DELETE":
            query = {**(query or {}), "fieldManager": names.FIELD_MANAGER}
        headers = {"Content-Type": content, "Accept": "application/json"}
        try:
            await self._client.update_params_for_auth(
                headers, [], ["BearerToken"], path, method, body
            )
        except Exception as error:  # a token file that is being replaced; its text may be a token
            what = f"{method} {path}: no credentials: {type(error).__name__}"
            raise ApiUnreachable(what) from None
        url = f"{config.host}{path}"
        if query:
            url += "?" + urlencode(query)
        try:
            response = await self._client.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=_TIMEOUT
            )
            raw = await response.read()
        except ApiException as error:
            raise _error(method, path, error.status, error.body, secrets) from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ApiUnreachable(f"{method} {path}: {type(error).__name__}") from None
        if response.status >= 300:
            raise _error(method, path, response.status, raw, secrets)
        try:
            parsed: dict[str, Any] = json.loads(raw)
        except ValueError:
            raise ApiUnreachable(f"{method} {path}: the answer is no JSON") from None
        return parsed


def _error(
    method: str, path: str, status: int, raw: bytes | str | None, secrets: Collection[str]
) -> ApiError:
    try:
        answer = json.loads(raw or b"{}")
        reason, message = str(answer.get("reason", "")), str(answer.get("message", ""))
        named = bool((answer.get("details") or {}).get("name"))
    except (ValueError, AttributeError):
        reason, message, named = "", "", False
    if repeats(f"{reason} {message}", secrets):
        reason, message = "", WITHHELD
    kind: type[ApiError] = {404: NotFound, 409: Conflict, 403: Forbidden, 422: Invalid}.get(
        status, ApiError
    )
    if status == 404 and not named:
        # While a CRD changes, the API server knows none of its objects for a moment: taking that
        # for "gone" would abandon them.
        kind = NotServed
    if status >= 500 or status == 429:
        kind = ApiUnreachable
    return kind(f"{method} {path}: {status} {message or reason}"[:1024], status, reason)


def _collection(namespace: str | None) -> str:
    if namespace is None:
        return f"{_SANDBOXES}/{names.PLURAL}"
    return f"{_SANDBOXES}/namespaces/{quote(namespace)}/{names.PLURAL}"


def _sandbox(namespace: str, name: str) -> str:
    return f"{_collection(namespace)}/{quote(name)}"


def _core(namespace: str, plural: str, name: str | None = None) -> str:
    path = f"/api/v1/namespaces/{quote(namespace)}/{plural}"
    return path if name is None else f"{path}/{quote(name)}"
