"""Which cluster: an ApiClient from a kubeconfig that was named, or from the Pod's own account."""

from __future__ import annotations

from pathlib import Path

from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.incluster_config import load_incluster_config
from kubernetes.aio.config.kube_config import load_kube_config


async def connect(kubeconfig: str | Path | None = None, context: str | None = None) -> ApiClient:
    """Without a kubeconfig, the service account of the Pod this runs in.

    A kubeconfig that happens to lie in the home directory is never taken. Raises
    kubernetes.aio.config's ConfigException where neither can be had.
    """
    configuration = Configuration()
    # Each wait holds a connection for its watch: with the default of 100, a hundred waits would
    # leave none for anything else.
    configuration.connection_pool_maxsize = 0
    # Reads that are answered "not now, try again after n seconds" are tried again, up to 10 times.
    configuration.client_go_retries = True
    if kubeconfig is None:
        load_incluster_config(client_configuration=configuration)
    else:
        await load_kube_config(
            config_file=str(kubeconfig),
            context=context,
            client_configuration=configuration,
            persist_config=False,
        )
    return ApiClient(configuration)
