"""Credentials that expire: read again from their source when the API server refuses them."""

from __future__ import annotations

import asyncio
import base64
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.kube_config import load_kube_config

from controller.handlers import connection
from controller.kube import credentials as module
from controller.kube.api import ApiUnreachable, KubeApi, Unauthorized
from controller.kube.credentials import Credentials
from dev import pki


class Server:
    """Knows one token."""

    def __init__(self) -> None:
        self.token = "first"
        self.seen: list[str] = []

    def rotate(self, token: Path) -> None:
        self.token = "second"
        token.write_text(self.token)

    def rotate_late(self, token: Path) -> None:
        """The former one is refused already, and the file is empty still."""
        self.token = "second"
        token.write_text("")

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append(request.headers.get("Authorization", ""))
        if not self.seen[-1]:  # anonymous, as an API server has it
            return web.json_response({"reason": "Forbidden", "message": "no"}, status=403)
        if self.seen[-1] != f"Bearer {self.token}":
            return web.json_response({"reason": "Unauthorized", "message": "no"}, status=401)
        return web.json_response({"metadata": {"name": "team"}})


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


@pytest.fixture
async def kubeconfig(server: Server, tmp_path: Path, token: Path) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", server.answer)
    async with TestServer(application) as running:
        path = tmp_path / "kubeconfig"
        cluster = {"server": str(running.make_url("")).rstrip("/")}
        content = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": cluster}],
            "users": [{"name": "u", "user": {"tokenFile": str(token)}}],
        }
        path.write_text(yaml.safe_dump(content))
        yield str(path)


@pytest.fixture
async def api(kubeconfig: str) -> AsyncIterator[KubeApi]:
    api = KubeApi(await Credentials.find(kubeconfig, None))
    yield api
    await api.close()


async def test_a_token_that_was_replaced_is_read_again(
    server: Server, api: KubeApi, token: Path
) -> None:
    await api.get_namespace("team")
    server.rotate(token)
    await api.get_namespace("team")
    assert server.seen == ["Bearer first", "Bearer first", "Bearer second"]


async def test_many_calls_that_are_refused_at_once_read_it_once(
    server: Server, api: KubeApi, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []

    async def counted(**options: object) -> None:
        reads.append(options)
        await load_kube_config(**options)

    monkeypatch.setattr(module, "load_kube_config", counted)
    server.rotate(token)
    await asyncio.gather(*(api.get_namespace("team") for _ in range(20)))
    assert len(reads) == 1


async def test_one_that_was_not_replaced_is_refused_and_tried_again_later(
    server: Server, api: KubeApi, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.token = "second"
    with pytest.raises(Unauthorized):
        await api.get_namespace("team")
    with pytest.raises(Unauthorized):
        await api.get_namespace("team")
    server.rotate(token)
    monkeypatch.setattr(module, "_RENEWAL_SECONDS", 0.0)
    await api.get_namespace("team")
    assert server.seen.count("Bearer second") == 1


async def test_a_file_that_is_empty_for_a_moment_makes_nobody_anonymous(
    server: Server, api: KubeApi, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.get_namespace("team")
    server.rotate_late(token)
    with pytest.raises(ApiUnreachable):
        await api.get_namespace("team")
    server.rotate(token)
    monkeypatch.setattr(module, "_RENEWAL_SECONDS", 0.0)
    await api.get_namespace("team")
    assert "" not in server.seen


async def test_a_source_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(configuration: Configuration) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(module, "_READ_SECONDS", 0.01)
    with pytest.raises(TimeoutError):
        await Credentials(Configuration(), hang).renew(None)


async def test_a_certificate_that_was_replaced_makes_other_connections(tmp_path: Path) -> None:
    pki.ensure(tmp_path)
    first, second = (pki.client(tmp_path, user, []) for user in ("first", "second"))
    configuration = Configuration()
    configuration.cert_file, configuration.key_file = map(str, first)

    async def read(fresh: Configuration) -> None:
        fresh.cert_file, fresh.key_file = map(str, second)

    credentials = Credentials(configuration, read)
    before = credentials.tls
    assert await credentials.renew(None)
    assert credentials.tls is not before
    after = credentials.tls
    assert not await credentials.renew(None)
    assert credentials.tls is after


async def test_fixed_ones_are_never_read_again() -> None:
    assert not await Credentials(Configuration()).renew("Bearer first")


async def test_kopf_gets_what_the_operator_has() -> None:
    configuration = Configuration()
    configuration.host, configuration.proxy = "https://api.example", "http://proxy.example"
    credentials = Credentials(configuration)
    info = connection(credentials, "Bearer first")
    async with info.aiohttp_session as session:
        assert info.server == "https://api.example"
        assert session.headers["Authorization"] == "Bearer first"
        assert session._default_proxy == "http://proxy.example"
        assert isinstance(session.connector, aiohttp.TCPConnector)
        assert session.connector._ssl is credentials.tls
    info = connection(credentials, None)
    async with info.aiohttp_session as session:
        assert "Authorization" not in session.headers


async def test_keys_in_a_kubeconfig_are_left_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the certificate was replaced."""
    pki.ensure(tmp_path / "pki")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    kubeconfig = tmp_path / "kubeconfig"

    def write(user: str) -> None:
        certificate, key = pki.client(tmp_path / "pki", user, [])
        content = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [
                {
                    "name": "k",
                    "cluster": {
                        "server": "https://127.0.0.1:1",
                        "certificate-authority-data": _encoded(tmp_path / "pki" / "ca.crt"),
                    },
                }
            ],
            "users": [
                {
                    "name": "u",
                    "user": {
                        "client-certificate-data": _encoded(certificate),
                        "client-key-data": _encoded(key),
                    },
                }
            ],
        }
        kubeconfig.write_text(yaml.safe_dump(content))

    write("first")
    credentials = await Credentials.find(str(kubeconfig), None)
    assert list(temporary.iterdir()) == []
    write("second")
    before = credentials.tls
    assert await credentials.renew(None)
    assert credentials.tls is not before
    assert list(temporary.iterdir()) == []


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
