"""A namespace with a service that reads it, and the operator played by hand."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kubernetes.aio.client.api_client import ApiClient

from controller.client import KubernetesSandboxService
from controller.core import names

KEY = "correct-horse-battery-staple-0123456789"
IMAGE = "example.org/agent:1"

Json = dict[str, Any]


class World:
    def __init__(
        self, client: ApiClient, namespace: str, service: KubernetesSandboxService
    ) -> None:
        self.client, self.namespace, self.service = client, namespace, service

    async def call(self, method: str, path: str, body: Json | None = None) -> Json:
        """Any request, as an administrator; raises ValueError where it is refused."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        method, url, headers, data, _ = await self.client.param_serialize(
            method,
            path,
            header_params={"Content-Type": kind},
            body=body,
            auth_settings=["BearerToken"],
        )
        response = await self.client.call_api(method, url, headers, data)
        content = await response.read()
        if response.status >= 300:
            raise ValueError(f"{method} {path}: {content!r}")
        return dict(json.loads(content))

    def path(self, name: str = "") -> str:
        base = f"/apis/{names.API_VERSION}/namespaces/{self.namespace}/{names.PLURAL}"
        return f"{base}/{name}" if name else base

    async def obj(self, name: str) -> Json:
        return await self.call("GET", self.path(name))

    async def applied(self, name: str, **metadata: Any) -> Json:
        """A Sandbox made by other means than the service."""
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, **metadata},
            "spec": {"image": IMAGE},
        }
        return await self.call("POST", self.path(), body)

    async def claimed(self, name: str) -> None:
        """The operator stores its finalizer, and the name as a label."""
        metadata = {"finalizers": [names.FINALIZER], "labels": {names.NAME_LABEL: name}}
        await self.call("PATCH", self.path(name), {"metadata": metadata})

    async def keyed(self, name: str, key: str = KEY, *, hash_of: str | None = None) -> None:
        """The operator stores a session key, and the label to find it by."""
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": names.secret_name(name)},
            "stringData": {names.SECRET_KEY: key},
        }
        await self.call("POST", f"/api/v1/namespaces/{self.namespace}/secrets", body)
        labels = {names.KEY_HASH_LABEL: names.key_hash(hash_of or key)}
        await self.call("PATCH", self.path(name), {"metadata": {"labels": labels}})
        reference = {"name": names.secret_name(name), "key": names.SECRET_KEY}
        await self.told(name, sessionApiKeySecretRef=reference)

    async def told(self, name: str, phase: str | None = None, **status: Any) -> None:
        """The operator writes the status."""
        if phase is not None:
            status["phase"] = phase
        await self.call("PATCH", f"{self.path(name)}/status", {"status": status})

    async def failed(self, name: str, reason: str, message: str, **status: Any) -> None:
        condition = {
            "type": "Ready",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        await self.told(name, "ERROR", conditions=[condition], **status)

    async def running(self, name: str, key: str = KEY) -> None:
        url = {"name": "AGENT_SERVER", "url": "http://127.0.0.1:32768", "port": 32768}
        await self.keyed(name, key)
        await self.told(name, "RUNNING", exposedUrls=[url])

    async def released(self, name: str) -> None:
        """The operator removes its finalizer."""
        await self.call("PATCH", self.path(name), {"metadata": {"finalizers": None}})


@asynccontextmanager
async def world_of(client: ApiClient, namespace: str) -> AsyncIterator[World]:
    spec = {"image": IMAGE, "ports": [{"name": "AGENT_SERVER", "containerPort": 8000}]}
    async with KubernetesSandboxService(namespace, client, default_spec=spec) as service:
        yield World(client, namespace, service)
