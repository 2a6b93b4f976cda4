"""Volumes that hide where others lead, against an engine that mounts one after the other.

Mounted   a root with volumes, as the runtime or as Docker's questions see it
mount     what an engine does: those with fewer parts first, each where its path leads by then
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from controller.engines import rootpaths
from controller.engines.rootpaths import Entry, Root, UnsafePath
from tests.unit.engines.trees import follow

Tree = dict[str, str | None]
"""Absolute path -> target of a symlink; None is a directory. Parents need not be named."""
KERNEL = ("/dev", "/proc", "/sys")
THE_KERNELS: Tree = {"/a": "/x/b", "/b": "a", "/l": "/"}
"""What is in the runtime's /dev, /proc and /sys, whatever the image has there."""


@dataclass
class Mounted:
    root: Tree
    mounts: list[tuple[str, Tree]] = field(default_factory=list)

    def entry(self, path: str) -> Entry | None:
        """What is at a path whose directories hold no link."""
        tree, inside = self.root, path
        for place, volume in self.mounts:
            if place == path:
                tree, inside = volume, "/"
            elif path.startswith(posixpath.join(place, "")):
                tree, inside = volume, path.removeprefix(place.rstrip("/"))
        if inside == "/":
            return Entry()
        if inside in tree:
            return Entry(tree[inside])
        return Entry() if any(known.startswith(f"{inside}/") for known in tree) else None

    def follow(self, path: str) -> str:
        def link(at: str) -> str | None:
            entry = self.entry(at)
            return None if entry is None else entry.link

        return follow(path, link)

    def mount(self, path: str, volume: Tree) -> str:
        """As engines do: what does not exist is made."""
        place = self.follow(path)
        self._make(place)
        self.mounts.append((place, volume))
        return place

    def _make(self, place: str) -> None:
        tree, inside = self.root, place
        for at, volume in self.mounts:
            if place == at or place.startswith(posixpath.join(at, "")):
                tree, inside = volume, place.removeprefix(at.rstrip("/")) or "/"
        tree.setdefault(inside, None)

    def is_mount(self, place: str) -> bool:
        seen = [at for at, _ in self.mounts if place.startswith(posixpath.join(at, ""))]
        last = max((i for i, (at, _) in enumerate(self.mounts) if at == place), default=-1)
        above = max((i for i, (at, _) in enumerate(self.mounts) if at in seen), default=-1)
        return last > above


def approved(root: Tree, volumes: list[tuple[str, Tree]]) -> bool:
    """Whether all that can be asked of the stopped container speaks for its start."""
    asked = Mounted(dict(root))
    for path, volume in volumes:
        asked.mount(path, dict(volume))
    if "/" in [place for place, _ in asked.mounts]:
        return False  # tried on Docker: it is seen there that the root is a volume
    seen = Root(asked.entry)
    try:
        files = rootpaths.check_engine(seen)
        places = {path: rootpaths.check_mount(seen, path, files) for path, _ in volumes}
        rootpaths.check_together(seen, places, asked.is_mount)
    except UnsafePath:
        return False
    return True


def mounted(root: Tree, volumes: list[tuple[str, Tree]]) -> list[str]:
    """Where the runtime mounts them."""
    runtime = Mounted(dict(root), [(at, dict(THE_KERNELS)) for at in KERNEL])
    return [runtime.mount(path, dict(volume)) for path, volume in volumes]


def in_order(volumes: list[tuple[str, Tree]]) -> list[tuple[str, Tree]]:
    return sorted(volumes, key=lambda volume: volume[0].count("/"))


PARTS = st.sampled_from(["a", "b", "c", "d", "dev", "proc"])
STEPS = st.one_of(PARTS, st.just(".."))
PATHS = st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
TARGETS = st.one_of(
    st.none(),
    st.just("/"),
    PATHS,
    st.lists(STEPS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts)),
    st.lists(STEPS, min_size=1, max_size=3).map("/".join),
)
TREES = st.dictionaries(PATHS, TARGETS, max_size=7)
VOLUMES = st.lists(st.tuples(PATHS, TREES), min_size=1, max_size=3, unique_by=lambda v: v[0])

HIDES_ANOTHER = (
    {"/d/l": "/dev", "/d/d": "/"},
    [("/d/l", {}), ("/d/d/d", {"/d/d": None, "/l": None})],
)
HIDES_ITS_OWN_WAY = ({"/a/b": "/"}, [("/a/b", {"/a/b": None})])
LEADS_TO_ANOTHERS_PLACE = (
    {"/d/l": "/dev/x/../../dev", "/dev/x": "/o/a/b", "/d/d": "/"},
    [("/d/l", {}), ("/d/d/d", {"/d": "/", "/l": "/o/dev"})],
)
LEADS_THROUGH_THE_KERNEL: tuple[Tree, list[tuple[str, Tree]]] = (
    {"/d/a": "/proc/l/dev", "/proc/l": "/o"},
    [("/d/a", {})],
)
HOSTILE = (HIDES_ANOTHER, HIDES_ITS_OWN_WAY, LEADS_TO_ANOTHERS_PLACE, LEADS_THROUGH_THE_KERNEL)


@settings(max_examples=300, deadline=None)
@given(TREES, VOLUMES)
@example(*HIDES_ANOTHER)
@example(*HIDES_ITS_OWN_WAY)
@example(*LEADS_TO_ANOTHERS_PLACE)
@example(*LEADS_THROUGH_THE_KERNEL)
def test_what_is_approved_is_mounted_at_no_forbidden_place(
    root: Tree, volumes: list[tuple[str, Tree]]
) -> None:
    volumes = in_order(volumes)
    try:
        fits = approved(root, volumes)
    except UnsafePath:
        return  # a loop: the engine mounts nothing
    assume(fits)
    for place in mounted(root, volumes):
        assert place != "/"
        assert not f"{place}/".startswith(("/dev/", "/proc/", "/sys/"))


@pytest.mark.parametrize(("root", "volumes"), HOSTILE)
def test_each_way_to_hide_is_one(root: Tree, volumes: list[tuple[str, Tree]]) -> None:
    """The attacks above do what they are for: each mounts something where nothing may be."""
    assert any(
        f"{place}/".startswith(("/dev/", "/proc/", "/sys/")) or place == "/"
        for place in mounted(root, volumes)
    )
    assert not approved(root, volumes)


@pytest.mark.parametrize(
    ("root", "paths"),
    [
        ({}, ["/w"]),
        ({}, ["/v", "/v/b", "/v/b/c/d", "/home/a/b", "/home/a/c"]),
        ({"/var/run": "/run"}, ["/run", "/var/run/app/b"]),
        ({"/lib": "usr/lib", "/usr/lib": None}, ["/lib/a", "/usr/lib/b"]),
    ],
)
def test_ordinary_volumes_are_approved(root: Tree, paths: list[str]) -> None:
    assert approved(root, in_order([(path, {}) for path in paths]))


def test_two_paths_to_one_place_and_a_way_through_another_are_refused() -> None:
    for root, paths in (
        ({"/a": "/b"}, ["/a", "/b"]),
        ({"/l": "/run"}, ["/l", "/run/app"]),
        ({"/a/b": "/a"}, ["/a/b"]),
    ):
        assert not approved(dict(root), in_order([(path, {}) for path in paths]))
