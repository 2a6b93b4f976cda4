"""A container's environment, put together from the spec, Secrets and ConfigMaps.

Kubernetes' order: envFrom in order, then env, later ones win; then the session key. What is not
there yet is named and waited for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from controller.core import sizes
from controller.core.reasons import Reason
from controller.core.resources import SandboxSpec
from controller.kube.api import KubeApi, NotFound
from controller.kube.session_keys import MIN_LENGTH, decoded

LONGEST_KEY = 8192
"""Of a user's session key, in base64: servers take 8 KiB of headers as a rule."""
_NAME_SHOWN = 64
"""Characters of a variable's name in a message."""


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

    One object after the other is read, and what is too much ends it: see core/sizes.py. Raises
    NotThere, ApiError.
    """
    reader = _Reader(api, namespace, spec)
    found = _Variables(spec)
    for i, source in enumerate(spec.env_from):
        at = f"spec.envFrom[{i}]"
        if source.secret_ref is not None:
            ref = source.secret_ref
            data = await reader.secret(ref.name, f"{at}.secretRef", ref.optional)
            found.expect(at, ref.name, len(data or {}))
            for name, coded in (data or {}).items():
                found.take_coded(at, source.prefix + name, coded)
        if source.config_map_ref is not None:
            ref = source.config_map_ref
            data = await reader.config_map(ref.name, f"{at}.configMapRef", ref.optional)
            found.expect(at, ref.name, len(data or {}))
            for name, value in (data or {}).items():
                found.take(at, source.prefix + name, str(value))
    for variable in spec.env:
        if variable.value_from is None:
            found.own(variable.name, variable.value or "")
            continue
        selector = variable.value_from.secret_key_ref
        at = f"spec.env[{variable.name}].valueFrom.secretKeyRef"
        entry = await reader.entry(selector.name, selector.key, at, selector.optional)
        if entry is not None and not found.take_coded(at, variable.name, entry):
            reader.no_text(selector.name, selector.key, at, selector.optional)
    key = generated
    if spec.session_key.mode == "SecretRef":
        key = await reader.session_key(spec)
    if key is not None:
        for env_name in spec.session_key.env_names:
            found.own(env_name, key)
        found.secrets.add(key)
    return Environment(found.variables, key, frozenset(found.secrets))


class _Variables:
    """The variables so far, never more than are allowed. Nothing is decoded before it was found to
    fit."""

    def __init__(self, spec: SandboxSpec) -> None:
        self.variables: dict[str, str] = {}
        self.secrets: set[str] = set()
        self._entries = len(spec.env) + len(spec.session_key.env_names)
        arguments = (*(spec.command or ()), *(spec.args or ()))
        values = (variable.value or "" for variable in spec.env)
        self._bytes = sum(map(sizes.size, arguments)) + sum(map(sizes.size, values))

    def expect(self, at: str, name: str, count: int) -> None:
        """So many come from one object."""
        self._entries += count
        if self._entries > sizes.MAX_VARIABLES:
            raise _too_much(
                at,
                f"with the {count} entries of {name} the container would have {self._entries}"
                f" variables, and {sizes.MAX_VARIABLES} are allowed",
            )

    def take(self, at: str, name: str, value: str) -> None:
        self._count(at, name, sizes.size(value))
        self.variables[name] = value

    def take_coded(self, at: str, name: str, coded: object) -> bool:
        """A value in base64, which is secret. Returns whether it is a text."""
        if not isinstance(coded, str):
            return False
        self._count(at, name, len(coded) * 3 // 4 - coded[-2:].count("="))
        value = decoded(coded)
        if value is None:
            return False
        self.variables[name] = value
        self.secrets.add(value)
        return True

    def own(self, name: str, value: str) -> None:
        """One of the spec's own: the spec as a whole was counted."""
        self.variables[name] = value

    def _count(self, at: str, name: str, size: int) -> None:
        string = sizes.size(name) + 1 + size
        if string > sizes.MAX_STRING_BYTES:
            raise _too_much(
                at,
                f"variable {name[:_NAME_SHOWN]} has {string} bytes, and {sizes.MAX_STRING_BYTES}"
                " are allowed for one",
            )
        self._bytes += string
        if self._bytes > sizes.MAX_ENVIRONMENT_BYTES:
            raise _too_much(
                at,
                f"with variable {name[:_NAME_SHOWN]} command, args and environment have"
                f" {self._bytes} bytes together, and {sizes.MAX_ENVIRONMENT_BYTES} are allowed",
            )


def _too_much(at: str, what: str) -> NotThere:
    return NotThere(
        Reason.INVALID_SPEC, f"{at}: {what}; name single entries in spec.env, or mount a volume"
    )


async def session_key_of_user(api: KubeApi, namespace: str, spec: SandboxSpec) -> str | None:
    """The key of mode SecretRef, None where there is none (yet) or it will be refused.

    Raises ApiError.
    """
    try:
        return await _Reader(api, namespace, spec).session_key(spec)
    except NotThere:
        return None


class _Reader:
    """Reads each Secret once, one at a time, and keeps of it only what the spec refers to."""

    def __init__(self, api: KubeApi, namespace: str, spec: SandboxSpec) -> None:
        self._api = api
        self._namespace = namespace
        self._secrets: dict[str, dict[str, Any] | None] = {}
        """The entries, in base64, by name; None where there is no such Secret."""
        self._whole = {s.secret_ref.name for s in spec.env_from if s.secret_ref is not None}
        self._keys: dict[str, set[str]] = {}
        refs = [v.value_from.secret_key_ref for v in spec.env if v.value_from is not None]
        for ref in (*refs, spec.session_key.secret_ref):
            if ref is not None:
                self._keys.setdefault(ref.name, set()).add(ref.key)

    async def secret(self, name: str, at: str, optional: bool) -> dict[str, Any] | None:
        """The entries of a Secret, those that the spec refers to."""
        if name not in self._secrets:
            try:
                secret = await self._api.get_secret(self._namespace, name)
            except NotFound:
                self._secrets[name] = None
            else:
                self._secrets[name] = self._wanted(name, secret.get("data") or {})
        found = self._secrets[name]
        if found is None and not optional:
            raise NotThere(
                Reason.SECRET_NOT_FOUND, f"{at}: Secret {name} does not exist; it is waited for"
            )
        return found

    def _wanted(self, name: str, data: dict[str, Any]) -> dict[str, Any]:
        if name not in self._whole:
            return {key: data[key] for key in self._keys.get(name, set()) & data.keys()}
        return data  # what is too much of it is refused before anything else is read

    async def entry(self, name: str, key: str, at: str, optional: bool) -> str | None:
        """One entry, in base64."""
        secret = await self.secret(name, at, optional)
        value = (secret or {}).get(key)
        if not isinstance(value, str):
            self.no_text(name, key, at, optional)
            return None
        return value

    def no_text(self, name: str, key: str, at: str, optional: bool) -> None:
        if not optional:
            raise NotThere(
                Reason.SECRET_NOT_FOUND,
                f"{at}: Secret {name} has no text under key {key}; it is waited for",
            )

    async def session_key(self, spec: SandboxSpec) -> str | None:
        ref = spec.session_key.secret_ref
        if spec.session_key.mode != "SecretRef" or ref is None:
            return None
        at = "spec.sessionKey.secretRef"
        coded = await self.entry(ref.name, ref.key, at, optional=False)
        if coded is not None and len(coded) > LONGEST_KEY:
            raise NotThere(
                Reason.INVALID_SPEC,
                f"{at}: the key in Secret {ref.name} is longer than an HTTP header can carry",
            )
        key = None if coded is None else decoded(coded)
        if key is None:
            self.no_text(ref.name, ref.key, at, optional=False)
        elif len(key) < MIN_LENGTH:
            raise NotThere(
                Reason.SESSION_KEY_TOO_SHORT,
                f"{at}: the key in Secret {ref.name} has fewer than {MIN_LENGTH} characters",
            )
        return key

    async def config_map(self, name: str, at: str, optional: bool) -> dict[str, Any] | None:
        try:
            found = await self._api.get_config_map(self._namespace, name)
        except NotFound:
            if optional:
                return None
            raise NotThere(
                Reason.CONFIG_MAP_NOT_FOUND,
                f"{at}: ConfigMap {name} does not exist; it is waited for",
            ) from None
        return dict(found.get("data") or {})
