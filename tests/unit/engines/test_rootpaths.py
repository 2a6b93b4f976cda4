"""Paths inside a hostile root, against a resolver that walks the whole tree like the kernel."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from controller.core.resources import ENGINE_FILES
from controller.engines import rootpaths
from controller.engines.rootpaths import Entry, Root, UnsafePath
from tests.unit.engines.trees import follow

Tree = dict[str, str | None]
"""Absolute path -> target of a symlink; None is a directory or file."""


def asked(tree: Tree, path: str) -> Entry | None:
    """As Docker answers: the directory part is resolved silently, a link at the end is told."""
    where = posixpath.join(followed(tree, posixpath.dirname(path)), posixpath.basename(path))
    return Entry(tree[where]) if where in tree else None


def followed(tree: Tree, path: str) -> str:
    """Where a path leads, by the kernel's rules and in the scope of the root."""
    return follow(path, tree.get)


def seen_by_the_runtime(tree: Tree) -> Tree:
    """With its own /dev, /proc and /sys, in which links lead to places of the host."""
    kernel = ("/dev/", "/proc/", "/sys/")
    own = {"/proc/a": "/x/b", "/proc/b": "a", "/dev/a": "/proc/b", "/sys/a": "/etc"}
    return {path: at for path, at in tree.items() if not path.startswith(kernel)} | own


PARTS = st.sampled_from(["a", "b", "x", "dev", "proc", "sys", "etc", "hosts", "..", ".", "null"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
PLAIN = PATHS.map(posixpath.normpath).filter(lambda path: path != "/")
TARGETS = st.one_of(st.none(), PATHS, st.lists(PARTS, min_size=1, max_size=4).map("/".join))
TREES = st.dictionaries(PLAIN, TARGETS, max_size=10)


@given(TREES, PLAIN)
@example({"/x": "/dev"}, "/x")
@example({"/x": "/"}, "/x/dev")
@example({"/x": "a", "/a": ".."}, "/x/proc")
@example({"/dev/b": "/a/a/a", "/x": "/dev/b/../../dev"}, "/x")
@example({"/proc/a": "/a", "/x": "/proc/a"}, "/x")
def test_what_is_approved_leads_to_no_forbidden_place(tree: Tree, path: str) -> None:
    root = Root(lambda at: asked(tree, at))
    try:
        files = rootpaths.check_engine(root)
        real = rootpaths.check_mount(root, path, files)
    except UnsafePath:
        return
    assert real == followed(tree, path)
    assert real == followed(seen_by_the_runtime(tree), path)
    assert real != "/"
    assert not real.startswith(("/dev/", "/proc/", "/sys/"))
    assert real not in ("/dev", "/proc", "/sys", *ENGINE_FILES, *files)


@given(TREES, PLAIN)
@example({"/a": "/proc"}, "/a/self")
def test_no_process_starts_among_the_kernels_files(tree: Tree, path: str) -> None:
    root = Root(lambda at: asked(tree, at))
    try:
        rootpaths.check_working_directory(root, path)
    except UnsafePath:
        return
    for seen in (tree, seen_by_the_runtime(tree)):
        assert not f"{followed(seen, path)}/".startswith(("/dev/", "/proc/", "/sys/"))


@given(TREES)
@example({"/etc": "/dev"})
@example({"/etc/hosts": "/dev/null"})
def test_the_engines_own_files_lead_to_no_forbidden_place(tree: Tree) -> None:
    try:
        files = rootpaths.check_engine(Root(lambda at: asked(tree, at)))
    except UnsafePath:
        return
    for file in files:
        assert not f"{file}/".startswith(("/dev/", "/proc/", "/sys/"))
        assert file != "/"
    assert all(followed(tree, path) == path for path in ("/dev", "/proc", "/sys"))


@pytest.mark.parametrize(
    ("tree", "path", "words"),
    [
        ({"/x": "/dev"}, "/x", "/x leads to /dev inside the container"),
        ({"/x": "/"}, "/x/dev", "/x/dev leads to /dev inside the container"),
        ({"/x": "/"}, "/x", "the root itself"),
        ({}, "/dev/shm", "/dev/shm"),
        ({}, "/sys/fs", "/sys/fs"),
        ({}, "/etc/hosts", "a file that the engine mounts itself"),
        ({"/sbin": "usr/sbin"}, "/usr/sbin/docker-init", "a file that the engine mounts itself"),
        ({"/a": "b", "/b": "a"}, "/a", "symbolic links"),
        ({"/dev/fd": "/a", "/x": "/dev/fd/x"}, "/x", "/x leads to /dev/fd/x inside the container"),
        ({"/x": "/none/../a"}, "/x", "goes back from a directory that does not exist"),
        ({"/x": "/etc"}, "/x", "where the engine mounts files"),
        ({}, "/" + "/".join("a" * 40), "parts"),
    ],
)
def test_what_is_refused_says_why(tree: Tree, path: str, words: str) -> None:
    root = Root(lambda at: Entry(tree[at]) if at in tree else None)
    files = rootpaths.check_engine(root)
    with pytest.raises(UnsafePath) as refused:
        rootpaths.check_mount(root, path, files)
    assert words in refused.value.why


def test_a_link_to_an_ordinary_place_is_fine() -> None:
    root = Root(lambda at: Entry("/run") if at == "/var/run" else None)
    assert rootpaths.check_mount(root, "/var/run/app") == "/run/app"


def test_the_questions_are_bounded() -> None:
    root = Root(lambda at: None)
    refused = 0
    for i in range(100):
        try:
            rootpaths.check_mount(root, f"/{i}/" + "/".join("abcdefghij"))
        except UnsafePath:
            refused += 1
    assert refused > 0
    assert len(root.visited) <= rootpaths.MAX_QUESTIONS


def test_hostile_names_are_shown_without_what_terminals_obey() -> None:
    root = Root(lambda at: Entry("/dev") if at.startswith("/\u202e") else None)
    with pytest.raises(UnsafePath) as refused:
        rootpaths.check_mount(root, "/\u202e" + "x" * 500)
    assert refused.value.why.isprintable()
    assert len(refused.value.why) < 400
