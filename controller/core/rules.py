"""What the operator's settings allow and how they fill gaps: the part of them `decide` reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from controller.core import globs
from controller.core.resources import SandboxSpec
from controller.core.state import Limits

ANY_NAMESPACE = "*"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A field that may not be what it is."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Rules:
    """Per namespace (or `*`), what reaches beyond the container; nothing unless listed.

    Images are patterns as in a shell (`registry.example/team/*`); the default lets any in. So are
    labels: proxies, schedulers and updaters that read the engine take them for orders.
    """

    allowed_images: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {ANY_NAMESPACE: ("*",)}
    )
    allowed_runtimes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    allowed_host_ports: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    allowed_labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    default_limits: Limits = field(default_factory=Limits)
    url_host: str = "127.0.0.1"

    def refuse(self, namespace: str, spec: SandboxSpec) -> Refusal | None:
        """The first field of `spec` that the settings do not allow in `namespace`."""
        if spec.image is not None and not any(
            globs.matches(spec.image, pattern) for pattern in _of(self.allowed_images, namespace)
        ):
            return Refusal(
                "spec.image", f"image {spec.image} is not among the operator's allowed_images"
            )
        runtime = spec.security.runtime if spec.security else None
        if runtime is not None and runtime not in _of(self.allowed_runtimes, namespace):
            return Refusal(
                "spec.security.runtime",
                f"runtime {runtime} is not among the operator's allowed_runtimes",
            )
        for port in spec.ports:
            if port.host_port is not None and port.host_port not in _of(
                self.allowed_host_ports, namespace
            ):
                return Refusal(
                    f"spec.ports[{port.name}].hostPort",
                    f"host port {port.host_port} is not among the operator's allowed_host_ports",
                )
        for label in spec.labels:
            patterns = _of(self.allowed_labels, namespace)
            if not any(globs.matches(label, pattern) for pattern in patterns):
                return Refusal(
                    f"spec.labels[{label}]",
                    f"label {label} is not among the operator's allowed_labels",
                )
        return None

    def labels(self, namespace: str) -> tuple[str, ...]:
        """Patterns of the labels that a container of the namespace may have."""
        return _of(self.allowed_labels, namespace)

    def limits(self, spec: SandboxSpec) -> Limits:
        """The spec's limits, the settings' where it has none."""
        asked, default = spec.limits(), self.default_limits
        return Limits(
            cpu_millis=asked.cpu_millis if asked.cpu_millis is not None else default.cpu_millis,
            memory_bytes=(
                asked.memory_bytes if asked.memory_bytes is not None else default.memory_bytes
            ),
            pids=asked.pids if asked.pids is not None else default.pids,
        )


def _of(table: Mapping[str, tuple[T, ...]], namespace: str) -> tuple[T, ...]:
    return table.get(namespace, ()) + table.get(ANY_NAMESPACE, ())
