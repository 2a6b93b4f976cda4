"""Manifests made at random from the CRD's own schema: sound ones, and such with a fault or two.

    sound(schema)       what the schema of a field lets in, before the rules between fields
    specs(schema)       whole specs that also keep the rules: most are accepted
    families(schema)    one of those, and five with up to three faults: some of these pass, too
    examples(...)       so many of a strategy, the same for the same seed

Own code and not hypothesis-jsonschema: that reads neither x-kubernetes-int-or-string nor list maps,
and has no way to be nearly right.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC
from typing import Any

import hypothesis
import re2
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

Schema = dict[str, Any]
Json = Any
SPOILED = 5
ITEMS = 3
"""Most lists are short: what matters is what is in them."""

ODD: tuple[Json, ...] = (
    *(None, True, False, -1, 0, 1, 1.5, 8000.0, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63)),
    *(
        "",
        " ",
        ".",
        "..",
        "/",
        "//",
        "/..",
        "\0",
        "\n",
        "\x1b[2J",
        "\x7f",
        "\x9b",
        "\ud800",
        "\ufeff",
    ),
    *("x" * 300, "x" * 5000, "é\u202e…", "$(V)", "--privileged", "1e99", "NaN", "null", "0"),
    *(
        [],
        {},
        [[]],
        [None],
        {"": ""},
        {"name": "v"},
        [{"name": "v"}, {"name": "v"}],
        {"a": {"b": {}}},
    ),
)


def sound(schema: Schema) -> st.SearchStrategy[Json]:
    """What the schema of one field lets in."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        number = st.integers(1, 65535)
        return st.one_of(number, _text(schema))
    match schema["type"]:
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(schema["minimum"], schema.get("maximum", 2**63 - 1))
        case "string":
            return _text(schema)
        case "array":
            return _list(schema)
        case _:
            return _object(schema)


def _text(schema: Schema) -> st.SearchStrategy[str]:
    if schema.get("format") == "date-time":
        return st.datetimes(timezones=st.just(UTC)).map(
            lambda moment: moment.isoformat().replace("+00:00", "Z")
        )
    low, high = schema.get("minLength", 0), schema["maxLength"]
    pattern = schema.get("pattern", "")
    # What Python's patterns do not know, they cannot be made from; it is asked of what was made.
    others = [re2.compile(p) for p in (entry["pattern"] for entry in schema.get("allOf", ()))]
    if "\\p{" in pattern or not pattern:
        others += [re2.compile(pattern)] if pattern else []
        plain = st.characters(exclude_categories=["C", "Zl", "Zp"]) if others else st.characters()
        texts = st.text(plain, min_size=low, max_size=min(high, 40))
    else:
        texts = st.from_regex(str(pattern), fullmatch=True)
    return texts.filter(
        lambda text: (
            low <= len(text) <= high
            and not text.endswith("\n")
            and all(other.search(text) for other in others)
        )
    )


def _list(schema: Schema) -> st.SearchStrategy[list[Json]]:
    keys = schema.get("x-kubernetes-list-map-keys")
    unique: Any = None
    if keys:
        unique = lambda entry: tuple(entry.get(key) for key in keys)  # noqa: E731
    elif schema["x-kubernetes-list-type"] == "set":
        unique = repr
    most = min(schema["maxItems"], ITEMS)
    least = schema.get("minItems", 0)
    return st.lists(sound(schema["items"]), min_size=least, max_size=most, unique_by=unique)


def _object(schema: Schema) -> st.SearchStrategy[dict[str, Json]]:
    if "additionalProperties" in schema:
        values = sound(schema["additionalProperties"])
        keys = st.one_of(
            st.from_regex(r"[a-z][-._/a-z0-9]{0,8}", fullmatch=True), st.text(max_size=8)
        )
        return st.dictionaries(keys, values, max_size=ITEMS)
    fields = {name: sound(node) for name, node in schema["properties"].items()}
    required = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {name: field for name, field in fields.items() if name in required},
        optional={name: field for name, field in fields.items() if name not in required},
    )


def specs(schema: Schema) -> st.SearchStrategy[dict[str, Json]]:
    """Specs that keep the rules between fields, as a careful user's do."""
    return sound(schema).map(_mended)


def _mended(spec: dict[str, Json]) -> dict[str, Json]:
    spec = copy.deepcopy(spec)
    spec.pop("templateRef", None)
    spec.setdefault("image", "busybox")
    for source in spec.get("envFrom", ()):
        if "secretRef" in source:
            source.pop("configMapRef", None)
        else:
            source.setdefault("configMapRef", {"name": "v"})
    for variable in spec.get("env", ()):
        if "valueFrom" in variable:
            variable.pop("value", None)
        else:
            variable.setdefault("value", "")
    for field, key in (("ports", "containerPort"), ("ports", "hostPort"), ("volumes", "mountPath")):
        if field in spec:
            spec[field] = _distinct(spec[field], key)
    for volume in spec.get("volumes", ()):
        volume.setdefault("managed", {})
    if spec.get("ports") and "readiness" in spec:
        spec["readiness"]["httpGet"]["port"] = spec["ports"][0]["name"]
    else:
        spec.pop("readiness", None)
    key = spec.get("sessionKey", {})
    if key.get("mode") == "SecretRef":
        key.setdefault("secretRef", {"name": "v"})
    else:
        key.pop("secretRef", None)
    return spec


def _distinct(entries: list[Json], key: str) -> list[Json]:
    found = {entry[key]: entry for entry in entries if key in entry}
    return [entry for entry in entries if key not in entry or found[entry[key]] is entry]


@st.composite
def families(draw: st.DrawFn, schema: Schema) -> list[dict[str, Json]]:
    """A spec that keeps the rules, and five of one to three faults: making one takes longest."""
    spec = draw(specs(schema))
    return [spec, *(_spoiled(draw, spec) for _ in range(SPOILED))]


def _spoiled(draw: st.DrawFn, spec: dict[str, Json]) -> dict[str, Json]:
    spec = copy.deepcopy(spec)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(spec))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["odd", "odd", "odd", "gone", "unknown", "twice"])):
            case "odd":
                holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
            case "gone":
                del holder[key]
            case "unknown" if isinstance(holder, dict):
                holder[draw(st.sampled_from(["hostPath", "privileged", "x", ""]))] = {"path": "/"}
            case "twice" if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
            case _:
                holder[key] = [holder[key]]
    return spec


def _places(node: Json) -> Iterator[tuple[Any, Any]]:
    """Every place in a tree that holds something: the object or list, and the key."""
    entries = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in entries:
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)


def examples(strategy: st.SearchStrategy[Json], count: int, seed: int) -> list[Json]:
    """The same for the same seed. Nothing is shrunk: what fails is shown as it is."""
    found: list[Json] = []

    @hypothesis.seed(seed)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: Json) -> None:
        found.append(example)

    collect()
    return found
