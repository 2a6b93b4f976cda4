"""What the operator wrote, by the API server's audit log: every request, refused ones included."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

USER = "sandbox-operator"
_WRITES = ["create", "update", "patch", "delete", "deletecollection"]


@dataclass(frozen=True)
class Write:
    """One write: `resource` is such as `sandboxes/status`."""

    verb: str
    resource: str
    name: str
    code: int

    @property
    def is_event(self) -> bool:
        return self.resource == "events"


class Audit:
    """The audit log of one API server, made by `flags`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._policy = directory / "policy.yaml"
        self._log = directory / "audit.log"
        rules = [
            {"level": "Metadata", "users": [USER], "verbs": _WRITES},
            {"level": "None"},
        ]
        self._policy.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "audit.k8s.io/v1",
                    "kind": "Policy",
                    "omitStages": ["RequestReceived"],
                    "rules": rules,
                }
            )
        )
        self._log.touch()

    @property
    def flags(self) -> tuple[str, ...]:
        return (f"--audit-policy-file={self._policy}", f"--audit-log-path={self._log}")

    def mark(self) -> int:
        """A place in the log: `since` tells what comes after it."""
        return self._log.stat().st_size

    def since(self, mark: int) -> list[Write]:
        return list(self._read(mark))

    def _read(self, mark: int) -> Iterator[Write]:
        with self._log.open("rb") as log:
            log.seek(mark)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                entry = json.loads(line)
                if entry["stage"] != "ResponseComplete":
                    continue
                at = entry.get("objectRef") or {}
                parts = [at.get("resource", ""), at.get("subresource", "")]
                yield Write(
                    entry["verb"],
                    "/".join(p for p in parts if p),
                    at.get("name", ""),
                    int((entry.get("responseStatus") or {}).get("code", 0)),
                )
