"""An image registry on loopback: images to pull, as fast as it goes or a byte a second.

Its images are a given image of the engine with one or more layers of their own, so each must be
pulled though nearly all of it is there. Docker takes HTTP from 127.0.0.0/8 without being asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import itertools
import json
import os
import tarfile
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from docker.errors import DockerException

from dev import engine
from dev.progress import DevError, console

HOST = "127.0.0.1"
LAYER_BYTES = 65_536
"""Of a layer that trickles: eighteen hours at a byte a second, so that none ends by itself."""
SECONDS_A_BYTE = 1.0
SECONDS_TO_BEGIN = 30.0
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True)
class Image:
    """What a registry serves of an image: its manifest, and every blob by digest."""

    manifest: bytes
    blobs: dict[str, bytes] = field(repr=False)
    own: tuple[str, ...]
    """The digests of the layers that only this image has."""

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @classmethod
    def on(cls, saved: bytes, layers: list[bytes]) -> Image:
        """`saved` is the tar that the engine saves an image as; `layers` are tars on top of it."""
        with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
            (about,) = json.loads(_read(archive, "manifest.json"))
            config = json.loads(_read(archive, about["Config"]))
            below = [_read(archive, name) for name in about["Layers"]]
        config["rootfs"]["diff_ids"] += [digest_of(layer) for layer in layers]
        config.pop("history", None)  # it would have to name every layer
        described = json.dumps(config).encode()
        stacked = [*below, *layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _reference(_CONFIG, described),
            "layers": [_reference(_LAYER, layer) for layer in stacked],
        }
        blobs = {digest_of(blob): blob for blob in (described, *stacked)}
        own = tuple(digest_of(layer) for layer in layers)
        return cls(json.dumps(manifest).encode(), blobs, own)


class Registry:
    """Serves in the running loop, to be used as an async context. Removes from the engine, at the
    end, what was pulled from it."""

    def __init__(self, docker_host: str, base: str) -> None:
        self._docker_host = docker_host
        self._base = base
        self._numbers = itertools.count()
        self._images: dict[str, Image] = {}
        self._slow: set[str] = set()
        self._released = asyncio.Event()
        self._trickling = asyncio.Event()

    async def __aenter__(self) -> Registry:
        self._saved = await asyncio.to_thread(self._save)
        app = web.Application()
        app.router.add_get("/v2/", self._answer)
        app.router.add_get("/v2/{name}/manifests/{reference}", self._manifest)
        app.router.add_get("/v2/{name}/blobs/{digest}", self._blob)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, 0)
        await site.start()
        self.address = f"{HOST}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()
        await self._runner.cleanup()
        await asyncio.to_thread(self._remove_pulled)

    def small(self) -> str:
        """An image that nobody has pulled yet; its name."""
        return self._add("small", [layer(1024)])

    def slow(self, layers: int) -> str:
        """The same with so many layers that trickle until `release`."""
        name = self._add("slow", [layer(LAYER_BYTES) for _ in range(layers)])
        self._slow.update(self._images[name.split("/")[1].partition(":")[0]].own)
        return name

    def release(self) -> None:
        """Send at once all that is still to come."""
        self._released.set()

    async def until_trickling(self) -> None:
        """Until the first layer is asked for. Raises DevError."""
        try:
            await asyncio.wait_for(self._trickling.wait(), SECONDS_TO_BEGIN)
        except TimeoutError:
            raise DevError("the engine did not begin to pull the slow image") from None

    def _add(self, kind: str, layers: list[bytes]) -> str:
        name = f"{kind}-{next(self._numbers)}"
        self._images[name] = Image.on(self._saved, layers)
        return f"{self.address}/{name}:1"

    async def _answer(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({})

    async def _manifest(self, request: web.Request) -> web.StreamResponse:
        image = self._image(request)
        headers = {"Docker-Content-Digest": image.digest}
        return web.Response(body=image.manifest, content_type=_MANIFEST, headers=headers)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        digest = request.match_info["digest"]
        blob = self._image(request).blobs.get(digest)
        if blob is None:
            raise web.HTTPNotFound
        if digest in self._slow and request.method == "GET":
            return await self._trickle(request, blob)
        return web.Response(body=blob, content_type="application/octet-stream")

    async def _trickle(self, request: web.Request, blob: bytes) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(blob)
        await response.prepare(request)
        self._trickling.set()
        sent = 0
        while sent < len(blob) - 1 and not self._released.is_set():
            await response.write(blob[sent : sent + 1])
            sent += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), SECONDS_A_BYTE)
        await response.write(blob[sent:])
        await response.write_eof()
        return response

    def _image(self, request: web.Request) -> Image:
        try:
            return self._images[request.match_info["name"]]
        except KeyError:
            raise web.HTTPNotFound from None

    def _save(self) -> bytes:
        with engine.client(self._docker_host) as client:
            return b"".join(client.get_image(self._base))

    def _remove_pulled(self) -> None:
        with engine.client(self._docker_host) as client:
            for image in client.images(filters={"reference": f"{self.address}/*"}):
                for tag in image["RepoTags"] or []:
                    try:
                        client.remove_image(tag, force=True)
                    except DockerException as error:
                        console.print(f"{tag} could not be removed: {error}", markup=False)


def layer(size: int) -> bytes:
    """A tar with one file of so many random bytes: no other layer is the same."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        about = tarfile.TarInfo(f"layer-{os.urandom(8).hex()}")
        about.size = size
        archive.addfile(about, io.BytesIO(os.urandom(size)))
    return packed.getvalue()


def digest_of(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _reference(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "size": len(blob), "digest": digest_of(blob)}


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    if member is None:
        raise ValueError(f"{name} is no file")
    return member.read()
