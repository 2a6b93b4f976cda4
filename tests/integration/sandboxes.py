"""The Sandbox resource on a real API server, as plain JSON: what a client without models sees; and
kubectl."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes import client

from controller.core.names import API_VERSION, GROUP, KIND, PLURAL, VERSION
from dev.apiserver import ControlPlane
from dev.binaries import ensure_binaries

Json = dict[str, Any]


def kubectl(cluster: ControlPlane, *arguments: str) -> str:
    command = [str(ensure_binaries().kubectl), f"--kubeconfig={cluster.kubeconfig}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Refused(Exception):
    """The API server said no: `causes` maps the fields it names to what it says of them."""

    def __init__(self, causes: dict[str, str]) -> None:
        super().__init__(causes)
        self.causes = causes


class Sandboxes:
    """Sandboxes of one namespace."""

    def __init__(self, api_client: Any, namespace: str = "default") -> None:
        self._api = client.CustomObjectsApi(api_client)
        self._at = (GROUP, VERSION, namespace, PLURAL)

    def create(self, spec: Json, *, dry: bool = False, **metadata: Any) -> Json:
        """Create one, of a generated name unless `metadata` has one."""
        metadata = metadata if "name" in metadata else {"generateName": "sbx-"} | metadata
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
        with _refusals():
            return self._json(
                self._api.create_namespaced_custom_object(
                    *self._at, body, **self._dry(dry), field_validation="Strict"
                )
            )

    def try_update(self, stored: Json, spec: Json) -> Json:
        """What an update of the spec would give; nothing is stored."""
        name = stored["metadata"]["name"]
        with _refusals():
            return self._json(
                self._api.replace_namespaced_custom_object(
                    *self._at, name, stored | {"spec": spec}, dry_run="All"
                )
            )

    def write_status(self, stored: Json, status: Json) -> Json:
        with _refusals():
            return self._json(
                self._api.patch_namespaced_custom_object_status(
                    *self._at, stored["metadata"]["name"], {"status": status}
                )
            )

    def get(self, name: str) -> Json:
        return self._json(self._api.get_namespaced_custom_object(*self._at, name))

    def select(self, field_selector: str) -> set[str]:
        """Names of those that a field selector finds."""
        found = self._json(
            self._api.list_namespaced_custom_object(*self._at, field_selector=field_selector)
        )
        return {item["metadata"]["name"] for item in found["items"]}

    @contextmanager
    def holding(self, spec: Json, **metadata: Any) -> Iterator[Json]:
        """One that is gone afterwards."""
        created = self.create(spec, **metadata)
        try:
            yield created
        finally:
            self._api.delete_namespaced_custom_object(*self._at, created["metadata"]["name"])

    @staticmethod
    def _dry(dry: bool) -> Json:
        return {"dry_run": "All"} if dry else {}

    @staticmethod
    def _json(answer: Any) -> Json:
        return dict(answer)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except client.ApiException as error:
        if error.status not in (400, 422):
            raise
        answer = json.loads(error.body)
        causes = answer.get("details", {}).get("causes") or [{"message": answer["message"]}]
        raise Refused({c.get("field", ""): c["message"] for c in causes}) from None
