"""No pattern, parse or read of foreign words costs more than linear time (invariant 14).

Patterns: every one in the code, found by import and by its source, is re2's, which is linear by
design. Functions that read foreign words: found by their source, and each timed on its worst input
of n and of 16 n in the same run; one that is new is missed here by name until it is listed.
"""

from __future__ import annotations

import ast
import gc
import importlib
import json
import pkgutil
import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import re2

import controller
from controller.client import ids
from controller.core import discretion, globs, names, plaintext, quantity, resources, sizes, subject
from controller.core.reasons import Reason
from controller.engines import docker, rootpaths
from controller.engines import dockerwords as words
from controller.engines.base import EngineRefused
from controller.kube import answers, session_keys

ROOT = Path(controller.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
BACKTRACKING = {"re", "fnmatch", "regex", "sre_compile", "glob", "shlex", "textwrap", "string"}


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages([str(ROOT)], "controller."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def values(of: object, depth: int = 0) -> Iterator[object]:
    """What a module, a class, or what they hold, holds."""
    yield of
    if depth > 4:
        return
    inner: list[object] = []
    if isinstance(of, ModuleType) or (isinstance(of, type) and of.__module__[:10] == "controller"):
        inner = list(vars(of).values())
    elif isinstance(of, dict):
        inner = [*of.keys(), *of.values()]
    elif isinstance(of, list | tuple | set | frozenset):
        inner = list(of)
    for each in inner:
        if not isinstance(each, ModuleType):
            yield from values(each, depth + 1)


def test_every_pattern_is_of_the_engine_that_is_linear_by_design() -> None:
    found = [value for module in modules() for value in values(module)]
    assert not [value for value in found if isinstance(value, re.Pattern)]
    kind: Any = type(re2.compile("x"))
    patterns = {str(value.pattern) for value in found if isinstance(value, kind)}
    assert words._PATHS.pattern in patterns, "nothing was looked at"
    assert len(patterns) > 25


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_imports_an_engine_that_backtracks(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & BACKTRACKING
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            assert (node.module or "").partition(".")[0] not in BACKTRACKING
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "__import__")


# ------------------------------------------------------------- functions

Work = Callable[[int], Callable[[], object]]
"""Of n: what to time."""


def of(function: Callable[[Any], object], *texts: str) -> Work:
    """`function` on a text made of one of these over and over; timed on all of them."""

    def prepare(n: int) -> Callable[[], object]:
        inputs = [(text * n)[:n] for text in texts]
        return lambda: [function(each) for each in inputs]

    return prepare


def tolerant(function: Callable[[Any], object]) -> Callable[[Any], object]:
    def call(value: Any) -> object:
        try:
            return function(value)
        except (ValueError, EngineRefused, rootpaths.UnsafePath):
            return None

    return call


HOSTILE = (
    *(":1", ":11", "bind host port for 1.1:1", "[::1]:1", 'exec: "a":', "cannot mkdir: ", "(/a"),
    *('chdir to cwd ("', 'mounting "a" to rootfs at "', "a/", " /a b/c", "'/", '"/', "x://", "0f"),
    *("runc create failed: ", "denied: ", "a", " ", "\u202e", "listen a a:", "overlay2", "\t\n"),
    "write cpu.max memory.max could not find an available pool",
)
SECRETS = ["a" * 50, "ab" * 50, "0f" * 300, "\u202e" * 30]


def quantities(n: int) -> Callable[[], object]:
    texts = [("1" * n), f"1e{'9' * n}", "." * n, f"{'9' * n}Ei"]
    return lambda: [tolerant(quantity.parse)(text) for text in texts]


def secrets(n: int) -> Callable[[], object]:
    """The text is as long as it may be, and the secrets are many, and all nearly in it."""
    text = "abcdefgh" * (discretion.MAX_TEXT // 8)
    many = [f"abcdefghabcdefghabcdefg{i}" for i in range(n // 10)]
    return lambda: discretion.repeats(text, many)


def status(n: int) -> Callable[[], object]:
    condition = {"type": "T", "status": "True", "reason": "R", "message": "\u200b" * n}
    raw = {"phase": "NONE", "createdByUserId": "\n" * n, "conditions": [condition]}
    return lambda: subject._read_status(raw | {f"v{i}": "v" for i in range(n // 10)})


def stream(n: int) -> Callable[[], object]:
    chunks = [b"x"] * n + [b"\n"] * n + [b"ab\ncd"] * n
    return lambda: list(docker._lines(chunks))


def root(n: int) -> Callable[[], object]:
    links = {"/a": rootpaths.Entry("b/" * 8), "/b": rootpaths.Entry("/" + "a/" * n)}
    paths = ["/" + "a/" * n, "/" + "x" * n, "../" * n]
    return lambda: [tolerant(rootpaths.Root(links.get).resolve)(path) for path in paths]


def event(n: int) -> Callable[[], object]:
    attributes = {f"label{i}": "v" for i in range(n)} | {names.UID_LABEL: "u"}
    raw = {"Action": "die", "Actor": {"ID": "i", "Attributes": attributes}}
    return lambda: words.event(json.loads(json.dumps(raw)))


REFUSAL = Reason.ENGINE_REFUSED
TIMED: dict[str, Work] = {
    "client.ids.object_name": of(ids.object_name, "a", "é", "-", "\ud800"),
    "client.ids._is_plain": of(ids._is_plain, "a-", "a"),
    "client.ids.annotations_of": of(ids.annotations_of, "a", "é"),
    "client.ids.id_of": of(lambda text: ids.id_of(text, {}), "id-a", "a"),
    "client.ids._decode": of(ids._decode, "id-aaaaaaa"),
    "core.discretion.repeats": secrets,
    "core.discretion._forms": of(lambda t: list(discretion._forms(t)), "a", " a", "\\'", "\u2028"),
    "core.discretion._encoded": of(lambda t: list(discretion._encoded(t)), "a", "<&", "\ud800"),
    "core.globs.matches": of(lambda text: globs.matches(text, "*a" * 20 + "b"), "a", "ab"),
    "core.plaintext.visible": of(plaintext.visible, "a", "\u202e", "é"),
    "core.plaintext.one_line": of(plaintext.one_line, "a", " ", "\u202e "),
    "core.plaintext.in_url": of(plaintext.in_url, "a", "\u202e", "\ud800"),
    "core.quantity.parse": quantities,
    "core.quantity.units": of(tolerant(quantity.units), "1", "."),
    "core.quantity.millis": of(tolerant(quantity.millis), "1", "."),
    "core.resources._all_visible": of(tolerant(resources._all_visible), "a", "é", "\u202e"),
    "core.resources._read_quantity": of(tolerant(resources._read_quantity), "1"),
    "core.resources._read_port": of(tolerant(resources._read_port), "a", "-"),
    "core.resources._counted": of(lambda text: resources._counted("at", text), "a", "é"),
    "core.sizes.size": of(sizes.size, "a", "😀"),
    "core.subject._read_status": status,
    "core.subject.read_spec": of(
        lambda text: subject.read_spec(
            {"image": text, "workingDir": text, "ports": [{"name": "A", "path": text}]}
        ),
        *("a", "/a", "/.a", "a-"),
    ),
    "engines.docker._lines": stream,
    "engines.rootpaths.resolve": root,
    "engines.dockerwords.check_image": of(
        tolerant(words.check_image), "a", "a-", "a__", "a.", "a/", ":1", "A"
    ),
    "engines.dockerwords.image_reference": of(words.image_reference, ":", "@", "/"),
    "engines.dockerwords.event": event,
    "engines.dockerwords._time": of(tolerant(words._time), "0", "2026-"),
    "engines.dockerwords.refusal": of(lambda t: words.refusal(t, REFUSAL, SECRETS), *HOSTILE),
    "engines.dockerwords.told": of(words.told, *HOSTILE),
    "engines.dockerwords.pull_refusal": of(lambda t: words.pull_refusal("a", t), *HOSTILE),
    "engines.dockerwords.lost_engine": of(lambda t: words.lost_engine(500, t), *HOSTILE),
    "engines.dockerwords.plain": of(words.plain, *HOSTILE),
    "engines.dockerwords._own_path": of(words._own_path, "/a", "/proc", "overlay2/"),
    "engines.dockerwords._cause": of(words._cause, *HOSTILE),
    "engines.dockerwords.runc_advisory": of(
        lambda text: words.runc_advisory({"Components": [{"Name": "runc", "Version": text}]}),
        *("1.", "v1.1.1-rc"),
    ),
    "kube.answers.parse": lambda n: (
        lambda: [
            tolerant(answers.parse)(raw)
            for raw in (b"[" * n, b'"' + b"\\u202e" * n + b'"', b"9" * n, b'{"a":' * n)
        ]
    ),
    "kube.session_keys.decoded": lambda n: (
        lambda: session_keys.decoded(b64encode(b"\xff" * n).decode())
    ),
}

OF_OURS = {
    "core.globs._compiled": "a pattern of the operator's settings",
    "core.globs._end_of_set": "a pattern of the operator's settings",
    "core.globs._set": "a pattern of the operator's settings",
    "core.globs._literal": "a pattern of the operator's settings",
    "core.plaintext._shown": "one character",
    "core.quantity._decimal": "what `parse` has bounded",
    "core.resources._plain": "pydantic's words",
    "core.resources.parse": "pydantic: each model is read in `read_spec` and `_read_status`",
    "core.resources.__init__": "an exception",
    "core.resources.check": "one comparison",
    "core.resources.condition": "one of sixteen",
    "core.sizes.memory": "of a walk over what is kept, once for each of its parts",
    "core.subject._needed": "a loop over the metadata",
    "core.subject.read": "made of the others",
    "engines.dockerwords.container_body": "a loop over the image's labels",
    "engines.dockerwords.pull_too_slow": "a sentence",
    "engines.dockerwords.run_state": "a word of a table",
    "engines.dockerwords._blanked": "a loop over the image's labels",
    "engines.dockerwords.container": "a loop over what the engine tells",
    "engines.dockerwords.listed_ports": "a loop over what the engine tells",
    "engines.dockerwords.image_complaint": "a loop over what the engine tells",
    "engines.dockerwords.resolved_paths": "a loop over what the engine tells",
    "engines.dockerwords.has_run": "one comparison",
    "engines.dockerwords._ports": "a loop over what the engine tells",
    "engines.dockerwords._limits": "four numbers",
    "engines.rootpaths.__init__": "an exception",
    "engines.rootpaths._depth": "of a path that `resolve` has bounded",
    "engines.rootpaths.entry": "one look into a table",
    "engines.rootpaths.way": "of a path that `resolve` has bounded",
    "engines.rootpaths._parts": "timed as a part of `resolve`",
    "engines.rootpaths._shown": "what is shown of a path that `resolve` has bounded",
    "engines.rootpaths._leads": "two comparisons",
    "engines.rootpaths._within": "two comparisons",
    "engines.rootpaths.check_mount": "made of `resolve`",
    "engines.rootpaths.check_working_directory": "made of `resolve`",
    "kube.answers.read": "adds parts up",
    "kube.answers.parse_light": "made of `parse`",
    "kube.session_keys.entry": "made of `decoded`",
    "kube.session_keys.store": "an operation",
    "kube.session_keys.delete": "an operation",
    "kube.session_keys.__init__": "an exception",
    "client.ids._base32": "the standard library's",
}

READ_HERE = (
    *("core/discretion", "core/globs", "core/plaintext", "core/quantity", "core/resources"),
    *("core/sizes", "core/subject", "engines/dockerwords", "engines/rootpaths", "kube/answers"),
    *("kube/session_keys", "client/ids"),
)
"""Modules whose texts are others'. Elsewhere texts are passed on, not read."""
FOREIGN = ("str", "bytes", "object", "Mapping[str, Any]")


def takes_text(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    kinds = [ast.unparse(a.annotation) for a in arguments if a.annotation is not None]
    return any(kind.split(" | ")[0] in FOREIGN for kind in kinds)


def test_every_function_that_reads_foreign_words_is_timed() -> None:
    found = set()
    for module in READ_HERE:
        for node in ast.walk(ast.parse((ROOT / f"{module}.py").read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and takes_text(node):
                found.add(f"{module.replace('/', '.')}.{node.name}")
    found.add("engines.docker._lines")
    assert found - set(TIMED) - set(OF_OURS) == set(), "time it below, or say why it needs not be"
    assert (set(TIMED) | set(OF_OURS)) - found == set(), "it is gone"


SMALL, TIMES = 500, 16


def seconds(work: Callable[[], object]) -> float:
    """The least of some runs, of this thread's own: what others on the machine do only adds, and
    so does the collector, which walks over whatever else is in memory."""
    least = float("inf")
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            began = time.thread_time()
            work()
            least = min(least, time.thread_time() - began)
    finally:
        gc.enable()
    return max(least, 1e-6)


def growth(prepare: Work) -> float:
    return seconds(prepare(SMALL * TIMES)) / seconds(prepare(SMALL))


def looped(n: int) -> Callable[[], object]:
    text = "x" * n
    return lambda: [ord(c) for c in text]


@pytest.mark.parametrize("name", TIMED)
def test_it_takes_linear_time(name: str) -> None:
    """Sixteen times the input takes sixteen times as long; quadratic would be 256 times."""
    for _ in range(3):  # a busy machine may spoil one
        linear = max(growth(looped), TIMES)
        grown = growth(TIMED[name])
        if grown < 4 * linear:
            return
    pytest.fail(f"{name}: {grown:.0f} times as long for {TIMES} times as much, linear {linear:.0f}")


def test_what_is_not_linear_would_be_seen() -> None:
    pattern = re.compile(r":\d+\S* failed")
    assert growth(of(pattern.search, ":1")) > 4 * TIMES


@pytest.mark.parametrize("text", HOSTILE)
def test_megabytes_are_read_like_kilobytes(text: str) -> None:
    small, large = text * 8192, text * (1 << 19)  # both are cut
    for read in (
        lambda t: words.refusal(t, REFUSAL, SECRETS),
        lambda t: words.pull_refusal("a", t),
        lambda t: words.lost_engine(500, t),
    ):
        assert seconds(lambda: read(large)) < 8 * seconds(lambda: read(small)) + 1e-3  # noqa: B023
