"""A container's environment, put together from the spec, Secrets and ConfigMaps.

Kubernetes' order: envFrom in order, then env, later ones win; then the session key. What is not
there yet is named and waited for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from controller.core.reasons import Reason
from controller.core.resources import SandboxSpec
from controller.kube.api import KubeApi, NotFound
from controller.kube.session_keys import MIN_LENGTH, entry


class NotThere(Exception):
    """Something that the environment refers to is missing or unusable. Carries no value."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables, and the session key among them. `repr` shows neither."""

    variables: dict[str, str] = field(repr=False)
    key: str | None = field(repr=False)
    secrets: frozenset[str] = field(repr=False)
    """Those of the values that came from Secrets, the key among them."""


async def resolve(
    api: KubeApi, namespace: str, spec: SandboxSpec, generated: str | None
) -> Environment:
    """Read everything that `spec` refers to. `generated` is the key of mode Generate.

    Raises NotThere, ApiError.
    """
    reader = _Reader(api, namespace)
    variables: dict[str, str] = {}
    secrets: set[str] = set()
    for i, source in enumerate(spec.env_from):
        at = f"spec.envFrom[{i}]"
        if source.secret_ref is not None:
            ref = source.secret_ref
            found = await reader.secret(ref.name, f"{at}.secretRef", ref.optional)
            for key in (found or {}).get("data") or {}:
                value = entry(found or {}, key)
                if value is not None:
                    variables[source.prefix + key] = value
                    secrets.add(value)
        if source.config_map_ref is not None:
            ref = source.config_map_ref
            found = await reader.config_map(ref.name, f"{at}.configMapRef", ref.optional)
            for key, value in ((found or {}).get("data") or {}).items():
                variables[source.prefix + key] = str(value)
    for variable in spec.env:
        if variable.value_from is None:
            variables[variable.name] = variable.value or ""
            continue
        selector = variable.value_from.secret_key_ref
        at = f"spec.env[{variable.name}].valueFrom.secretKeyRef"
        secret_value = await reader.entry(selector.name, selector.key, at, selector.optional)
        if secret_value is not None:
            variables[variable.name] = secret_value
            secrets.add(secret_value)
    key = generated
    if spec.session_key.mode == "SecretRef":
        key = await reader.session_key(spec)
    if key is not None:
        variables.update(dict.fromkeys(spec.session_key.env_names, key))
        secrets.add(key)
    return Environment(variables, key, frozenset(secrets))


async def session_key_of_user(api: KubeApi, namespace: str, spec: SandboxSpec) -> str | None:
    """The key of mode SecretRef, None where there is none (yet) or it will be refused.

    Raises ApiError.
    """
    try:
        return await _Reader(api, namespace).session_key(spec)
    except NotThere:
        return None


class _Reader:
    """Reads each object once."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._secrets: dict[str, dict[str, Any]] = {}

    async def secret(self, name: str, at: str, optional: bool) -> dict[str, Any] | None:
        if name not in self._secrets:
            try:
                self._secrets[name] = await self._api.get_secret(self._namespace, name)
            except NotFound:
                if optional:
                    return None
                raise NotThere(
                    Reason.SECRET_NOT_FOUND,
                    f"{at}: Secret {name} does not exist; it is waited for",
                ) from None
        return self._secrets[name]

    async def entry(self, name: str, key: str, at: str, optional: bool) -> str | None:
        secret = await self.secret(name, at, optional)
        value = entry(secret, key) if secret is not None else None
        if value is None and not optional:
            raise NotThere(
                Reason.SECRET_NOT_FOUND,
                f"{at}: Secret {name} has no text under key {key}; it is waited for",
            )
        return value

    async def session_key(self, spec: SandboxSpec) -> str | None:
        ref = spec.session_key.secret_ref
        if spec.session_key.mode != "SecretRef" or ref is None:
            return None
        at = "spec.sessionKey.secretRef"
        key = await self.entry(ref.name, ref.key, at, optional=False)
        if key is not None and len(key) < MIN_LENGTH:
            raise NotThere(
                Reason.SESSION_KEY_TOO_SHORT,
                f"{at}: the key in Secret {ref.name} has fewer than {MIN_LENGTH} characters",
            )
        return key

    async def config_map(self, name: str, at: str, optional: bool) -> dict[str, Any] | None:
        try:
            return await self._api.get_config_map(self._namespace, name)
        except NotFound:
            if optional:
                return None
            raise NotThere(
                Reason.CONFIG_MAP_NOT_FOUND,
                f"{at}: ConfigMap {name} does not exist; it is waited for",
            ) from None
