"""A registry on loopback whose layers come as fast as a test likes, or hardly at all.

Docker takes registries on 127.0.0.0/8 without TLS. What is pulled is a real image of one small
file for each layer, and the test removes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from aiohttp import web

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_CHUNK = 64 << 10


@dataclass
class Layer:
    """A layer with one file that no compression makes smaller."""

    size: int = 1000
    bytes_per_second: float | None = None
    """None: as fast as may be."""
    silent: bool = False
    """The connection is taken, and nothing is answered while the registry is up."""
    tar: bytes = field(init=False, repr=False)
    data: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        blocks = (hashlib.sha512(uuid.uuid4().bytes).digest() for _ in range(self.size // 64 + 1))
        content = b"".join(blocks)[: self.size]
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            info = tarfile.TarInfo(f"file-{uuid.uuid4().hex}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        self.tar = buffer.getvalue()
        self.data = gzip.compress(self.tar, 1)


class Registry:
    """`async with` serves it; `image` adds an image and returns its name."""

    def __init__(self) -> None:
        self.downloading = 0
        """Layers that somebody has a connection open for."""
        self.pulls: list[str] = []
        """Repositories whose manifest was asked for."""
        self.changed = asyncio.Condition()
        self._closing = asyncio.Event()
        self._address = ""
        self._manifests: dict[str, bytes] = {}
        self._blobs: dict[str, bytes | Layer] = {}

    async def __aenter__(self) -> Registry:
        app = web.Application()
        app.router.add_get("/v2/", self._root)
        app.router.add_get("/v2/{name}/manifests/{reference}", self._manifest)
        app.router.add_get("/v2/{name}/blobs/{digest}", self._blob)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self._address = f"127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()  # Docker 20.10 itself waits for ever for the head of an answer
        await self._runner.cleanup()

    def image(self, layers: Sequence[Layer]) -> str:
        """Have an image of these layers; its name."""
        name = f"i{uuid.uuid4().hex[:12]}"
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["/none"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer.tar) for layer in layers]},
                "history": [],
            }
        ).encode()
        self._blobs[_digest(config)] = config
        for layer in layers:
            self._blobs[_digest(layer.data)] = layer
        self._manifests[name] = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": _descriptor(_CONFIG, config),
                "layers": [_descriptor(_LAYER, layer.data) for layer in layers],
            }
        ).encode()
        return f"{self._address}/{name}:1"

    async def until(self, downloading: int) -> None:
        """Wait until somebody downloads so many layers."""
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(lambda: self.downloading == downloading)

    async def _root(self, _: web.Request) -> web.Response:
        return web.json_response({})

    async def _manifest(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.pulls.append(name)
        body = self._manifests.get(name)
        if body is None:
            raise web.HTTPNotFound(text=json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN"}]}))
        headers = {"Docker-Content-Digest": _digest(body), "Content-Type": _MANIFEST}
        return web.Response(body=body, headers=headers)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        blob = self._blobs[request.match_info["digest"]]
        if isinstance(blob, bytes):
            return web.Response(body=blob)
        async with self._open():
            if blob.silent:
                await self._closing.wait()
                raise web.HTTPServiceUnavailable
            response = web.StreamResponse()
            response.content_length = len(blob.data)
            await response.prepare(request)
            rate = blob.bytes_per_second
            chunk = _CHUNK if rate is None else max(1, int(rate / 4))
            with contextlib.suppress(ConnectionError):
                for at in range(0, len(blob.data), chunk):
                    await response.write(blob.data[at : at + chunk])
                    if rate is not None:
                        await asyncio.sleep(chunk / rate)
            return response

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        await self._count(1)
        try:
            yield
        finally:
            await asyncio.shield(self._count(-1))

    async def _count(self, by: int) -> None:
        async with self.changed:
            self.downloading += by
            self.changed.notify_all()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "size": len(data), "digest": _digest(data)}
