"""Every setting of the operator, in this one place: environment variables and their defaults.

`SANDBOX_OPERATOR_<NAME>` sets each; the command line's options are the same fields.
"""

from __future__ import annotations

import ipaddress
import json
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from controller.core import quantity
from controller.core.rules import Rules
from controller.core.state import Limits

ENV_PREFIX = "SANDBOX_OPERATOR_"

Names = Annotated[list[str], NoDecode]
Texts = Annotated[dict[str, list[str]], NoDecode]
Numbers = Annotated[dict[str, list[int]], NoDecode]
Host = Annotated[str, Field(pattern=r"^[^\s/@?#]+$", max_length=253)]
# NoDecode: the validators below read the texts of variables and of options alike.


class Settings(BaseSettings):
    """Validated when the operator starts; a wrong one ends it with a message that names it."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    kubeconfig: str | None = None
    """Path of the kubeconfig. Default: KUBECONFIG, else the Pod's service account, else
    ~/.kube/config."""
    context: str | None = None
    """Context of the kubeconfig. Default: its current one."""
    namespaces: Names = []
    """Namespaces to watch, separated by commas. Default: all."""
    instance_name: Annotated[
        str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
    ] = "default"
    """Tells operators apart that share a cluster or an engine: each touches only what it made.
    Changing it abandons what was made under the old name."""
    docker_host: str | None = None
    """Address of the Docker engine, such as unix:///var/run/docker.sock. Default: DOCKER_HOST,
    else Docker's own default."""
    accepted_engine_ids: Names = []
    """IDs of former Docker engines, separated by commas, whose containers are given up. Without
    it, a Sandbox whose engine was exchanged waits for it (reason EngineChanged)."""
    publish_address: Host = "127.0.0.1"
    """IP address on the engine's host that ports are published on."""
    url_host: Host = "127.0.0.1"
    """Host in the URLs that clients see."""
    probe_host: Host = "127.0.0.1"
    """Host that the operator dials to probe readiness."""
    engine_concurrency: Annotated[int, Field(ge=1, le=128)] = 8
    """How many containers the engine creates or starts at once."""
    engine_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 60.0
    """Seconds until a call to the engine counts as unanswered."""
    api_concurrency: Annotated[int, Field(ge=1, le=256)] = 32
    """How many Sandboxes are reconciled with the API server at once."""
    probe_concurrency: Annotated[int, Field(ge=1, le=256)] = 32
    """How many readiness probes are under way at once."""
    resync_seconds: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """Seconds between two full comparisons of the API server with the engine."""
    default_cpu: str = ""
    """CPU limit of a Sandbox that has none, such as 2 or 500m. Empty: no limit."""
    default_memory: str = "2Gi"
    """Memory limit of a Sandbox that has none. Empty: no limit."""
    default_pids: Annotated[int, Field(ge=0)] = 512
    """Limit of processes of a Sandbox that has none. 0: no limit."""
    allowed_images: Texts = {"*": ["*"]}
    """Images allowed by namespace, or "*" for all: JSON of patterns, such as
    {"*": ["ghcr.io/openhands/*"]}. Default: any."""
    allowed_runtimes: Texts = {}
    """OCI runtimes that spec.security.runtime may name, by namespace: JSON. Default: none."""
    allowed_host_ports: Numbers = {}
    """Host ports that spec.ports[].hostPort may name, by namespace: JSON. Default: none."""
    allowed_labels: Texts = {}
    """Keys that spec.labels may hold, by namespace: JSON of patterns. Docker's container gets them,
    and whatever reads its labels there may take them for orders. Default: none."""
    require_patched_runc: bool = False
    """Make and start nothing on an engine whose runc may lack the fix of CVE-2025-31133. Otherwise
    the log and an Event say so. Distributions may have brought the fix to an older version."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged."""
    log_format: Literal["plain", "json"] = "plain"
    """plain for people, json for collectors."""

    @field_validator("namespaces", "accepted_engine_ids", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [part for part in (p.strip() for p in value.split(",")) if part]
        return value

    @field_validator(
        "allowed_images",
        "allowed_runtimes",
        "allowed_host_ports",
        "allowed_labels",
        mode="before",
    )
    @classmethod
    def _read_json(cls, value: object) -> object:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError('should be JSON, such as {"*": []}') from None

    @field_validator("publish_address")
    @classmethod
    def _address(cls, value: str) -> str:
        ipaddress.ip_address(value)  # its message says what an address is
        return value

    @field_validator("default_cpu")
    @classmethod
    def _cpu(cls, value: str) -> str:
        if value:
            quantity.millis(value)
        return value

    @field_validator("default_memory")
    @classmethod
    def _memory(cls, value: str) -> str:
        if value:
            quantity.units(value)
        return value

    def rules(self) -> Rules:
        """The part that the decision core reads."""
        return Rules(
            allowed_images={k: tuple(v) for k, v in self.allowed_images.items()},
            allowed_runtimes={k: tuple(v) for k, v in self.allowed_runtimes.items()},
            allowed_host_ports={k: tuple(v) for k, v in self.allowed_host_ports.items()},
            allowed_labels={k: tuple(v) for k, v in self.allowed_labels.items()},
            default_limits=Limits(
                cpu_millis=quantity.millis(self.default_cpu) if self.default_cpu else None,
                memory_bytes=quantity.units(self.default_memory) if self.default_memory else None,
                pids=self.default_pids or None,
            ),
            url_host=self.url_host,
        )
