"""Requests and watches of the Kubernetes API, as JSON, through kubernetes.aio's ApiClient.

The generated models are not used: they are slow to load and drop what they do not know.
Everything that fails is one of controller.client.errors, raised without its cause: aiohttp's
exceptions hold request headers, json's hold the document, and either may hold a secret.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

from controller.client.errors import (
    SandboxError,
    SandboxForbidden,
    SandboxRefused,
    SandboxUnavailable,
)
from controller.core.names import GROUP, PLURAL, VERSION

Json = dict[str, Any]

FIELD_MANAGER = "sandbox-client"
"""Not the operator's, so that managedFields tells the two apart."""
WATCH_SECONDS = 60
"""The server ends a watch after this; going on from where it ended costs one request."""
WATCH_SILENCE_SECONDS = 75.0
"""A connection that is silent for longer is dead: the server should have ended the watch."""


class Api:
    """The few endpoints that this library uses, in one namespace."""

    def __init__(self, client: ApiClient, namespace: str, timeout: float) -> None:
        """`timeout` in seconds bounds each request that is not a watch."""
        self._client = client
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._watch_timeout = aiohttp.ClientTimeout(
            sock_connect=timeout, sock_read=WATCH_SILENCE_SECONDS
        )
        place = quote(namespace, safe="")
        self._sandboxes = f"/apis/{GROUP}/{VERSION}/namespaces/{place}/{PLURAL}"
        self._secrets = f"/api/v1/namespaces/{place}/secrets"

    async def list(self, **query: str | int) -> Json:
        """A list of Sandboxes; `query` in the API's names. Raises SandboxError's, as all here."""
        return await self._call("GET", self._sandboxes, query)

    async def get(self, name: str) -> Json | None:
        return await self._maybe("GET", f"{self._sandboxes}/{name}")

    async def get_secret(self, name: str) -> Json | None:
        return await self._maybe("GET", f"{self._secrets}/{quote(name, safe='')}")

    async def create(self, body: Json) -> Json:
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        return await self._call("POST", self._sandboxes, query, body)

    async def patch(self, name: str, body: Json) -> Json | None:
        """Merge patch. None where it is not there; 409 where metadata.uid is another."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        return await self._maybe("PATCH", f"{self._sandboxes}/{name}", query, body)

    async def delete(self, name: str, uid: str) -> Json | None:
        """None where it is not there; 409 where its UID is another."""
        body = {"preconditions": {"uid": uid}}
        return await self._maybe("DELETE", f"{self._sandboxes}/{name}", {}, body)

    async def watch(self, **query: str | int) -> AsyncGenerator[Json, None]:
        """Watch events as the API sends them, until the server ends the watch."""
        query |= {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": WATCH_SECONDS}
        response = await self._send("GET", self._sandboxes, query, None, self._watch_timeout)
        if response.status != 200:
            raise _refusal(response.status, await _content(response))
        stream: aiohttp.ClientResponse = response.response
        try:
            while line := await _line(stream):
                yield line
        finally:
            stream.close()

    async def _maybe(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None
    ) -> Json | None:
        try:
            return await self._call(method, path, query or {}, body)
        except SandboxRefused as error:
            # An API server without the CRD says 404 too, but not that an object is not found.
            if error.status == 404 and error.reason == "NotFound":
                return None
            raise

    async def _call(
        self, method: str, path: str, query: Mapping[str, str | int], body: Any = None
    ) -> Json:
        response = await self._send(method, path, query, body, self._timeout)
        content = await _content(response)
        if not 200 <= response.status < 300:
            raise _refusal(response.status, content)
        return _parsed(content)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int],
        body: Any,
        timeout: aiohttp.ClientTimeout,
    ) -> Any:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
            method, url, headers, body, _ = await self._client.param_serialize(
                method,
                path,
                query_params=list(query.items()),
                header_params={"Accept": "application/json", "Content-Type": kind},
                body=body,
                auth_settings=["BearerToken"],
            )
            return await self._client.call_api(method, url, headers, body, _request_timeout=timeout)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            what = _words(error)
        except ApiException as error:  # its retries are used up; its text is headers
            what = f"{error.status} {error.reason}"
        raise SandboxUnavailable(f"the API server did not answer {method} {path}: {what}")


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def _content(response: Any) -> bytes:
    try:
        return bytes(await response.read())
    except (aiohttp.ClientError, OSError) as error:
        what = _words(error)
    raise SandboxUnavailable(f"the API server's answer broke off: {what}")


async def _line(stream: aiohttp.ClientResponse) -> Json | None:
    try:
        line = await stream.content.readline()
    except (aiohttp.ClientError, OSError) as error:
        what = _words(error)
    else:
        return _parsed(line) if line else None
    raise SandboxUnavailable(f"the watch broke off: {what}")


def _parsed(content: bytes) -> Json:
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise SandboxUnavailable("the API server's answer was not a JSON object")
    return value


def _refusal(status: int, content: bytes) -> SandboxError:
    """The error of an HTTP status and of the Status object that came with it, if one did."""
    try:
        said = json.loads(content)
    except ValueError:
        said = None
    said = said if isinstance(said, dict) and said.get("kind") == "Status" else {}
    return refusal({"message": f"the API server answered {status}", **said, "code": status})


def refusal(status: Json) -> SandboxError:
    """The error that a Status object of the API stands for."""
    code, message = int(status.get("code") or 500), _message(status)
    if code in (401, 403):
        return SandboxForbidden(message)
    if code == 429 or code >= 500:
        return SandboxUnavailable(message)
    if code == 404 and not status.get("reason"):
        message += f"; is the CRD {PLURAL}.{GROUP} installed?"
    token = (status.get("metadata") or {}).get("continue", "")
    return SandboxRefused(code, status.get("reason", ""), message, token)


def _message(status: Json) -> str:
    """The Status' message; of a refused variable the field and the rule, not its value."""
    text = str(status.get("message", ""))
    causes = (status.get("details") or {}).get("causes") or []
    if "spec.env" not in text or not causes:
        return text
    return "; ".join(_cause(cause.get("field", ""), cause.get("message", "")) for cause in causes)


def _cause(field: str, message: str) -> str:
    if not field.startswith("spec.env"):
        return f"{field}: {message}"
    _, found, rule = message.rpartition(f"{field} in body ")
    return f"{field}: {rule if found else 'is refused; its value is not repeated here'}"
