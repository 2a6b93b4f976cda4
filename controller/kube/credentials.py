"""Where the API server is and who asks, from a kubeconfig or the Pod's service account.

Tokens expire: a file of one is replaced, a plugin makes another. What the API server refuses is
read again from where it came from, so the operator outlives its tokens without a restart.

A key that stands in a kubeconfig is written to a file for OpenSSL to read, and removed at once: one
that is killed must not leave it behind.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.incluster_config import load_incluster_config
from kubernetes.aio.config.kube_config import _cleanup_temp_files, load_kube_config

_RENEWAL_SECONDS = 1.0
"""At most one renewal in so long: a plugin is a process, and every call may be refused at once."""

_READ_SECONDS = 15.0
"""A plugin may ask a server, and hang with it."""

Read = Callable[[Configuration], Awaitable[None]]


class Credentials:
    """One user of one API server."""

    def __init__(self, configuration: Configuration, read: Read | None = None) -> None:
        """`read` fills a Configuration from the source; None: they never change."""
        self._configuration = configuration
        self._read = read
        self._tls = _tls(configuration)
        self._renewing = asyncio.Lock()
        self._renewed_at = float("-inf")
        self._certificate = _content(configuration.cert_file)
        self._renewals = 0
        """Of the certificate."""

    @classmethod
    async def find(cls, kubeconfig: str | None, context: str | None) -> Credentials:
        """Those of the named kubeconfig, else KUBECONFIG, else the Pod's service account, else
        ~/.kube/config. Raises ConfigException where none of them is usable."""

        async def read(configuration: Configuration) -> None:
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

        configuration = Configuration()
        await read(configuration)
        server = urlsplit(configuration.host)
        if configuration.proxy is None and not proxy_bypass(server.hostname or ""):
            configuration.proxy = getproxies().get(server.scheme)
        found = cls(configuration, read)
        _cleanup_temp_files()
        return found

    @property
    def configuration(self) -> Configuration:
        return self._configuration

    @property
    def tls(self) -> ssl.SSLContext:
        """For connections to the API server; another one when the certificate is."""
        return self._tls

    async def authorization(self) -> str | None:
        """The header of that name; None where a certificate says who asks.

        A service account's token is read from its file once a minute. Raises whatever reading it
        raises; the message may hold a token.
        """
        settings = await self._configuration.auth_settings()
        found = settings.get("BearerToken")
        value = found["value"] if found else None
        return str(value).strip() if value else None

    async def renew(self, refused: str | None) -> bool:
        """The API server refused this `authorization`, or the certificate where that is None: read
        them again from their source.

        Returns whether there are others now. Raises whatever reading raises, TimeoutError and
        ConfigException among it; the former ones stay then.
        """
        if self._read is None:
            return False
        loop = asyncio.get_running_loop()
        async with self._renewing:
            before = self._renewals
            current = await self.authorization()
            if current == refused and loop.time() >= self._renewed_at + _RENEWAL_SECONDS:
                self._renewed_at = loop.time()
                await self._read_again(self._read)
                current = await self.authorization()
            return current != refused or self._renewals != before

    async def _read_again(self, read: Read) -> None:
        fresh = Configuration()
        try:
            async with asyncio.timeout(_READ_SECONDS):
                await read(fresh)
            if self._configuration.api_key and not fresh.api_key:
                # An empty file, a plugin that failed and was only logged. Without a token we
                # would be anonymous, who is forbidden things and never told to renew.
                raise ConfigException("the source of the credentials has no token now")
            certificate = _content(fresh.cert_file)
            if certificate != self._certificate:
                self._tls, self._certificate = _tls(fresh), certificate
                self._renewals += 1
        finally:
            _cleanup_temp_files()
        # One assignment, since kopf's thread reads it, too.
        self._configuration.api_key = fresh.api_key
        self._configuration.refresh_api_key_hook = fresh.refresh_api_key_hook


def _tls(configuration: Configuration) -> ssl.SSLContext:
    context: ssl.SSLContext = RESTClientObject(configuration).ssl_context
    return context


def _content(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None
