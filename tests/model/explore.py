"""Breadth-first search through all states of a scenario, each checked; then what it adds up to.

    in every state     `properties.of_state`, and those of decisions, writes and calls on the way
    from every state   `calm` is followed until nothing is left to do: then the Sandbox is as
                       wished. A calm that comes back to where it was is a livelock, and a write
                       that changes nothing is one too: at rest nothing is written (invariant 5).
    while it lasts     from every state with an engine away, another in its place or the Secret's
                       name taken, the same with that going on: it is told, and nothing is done

A violation is raised with its shortest trace, one action per line.
"""

from __future__ import annotations

import gc
from collections import deque
from dataclasses import dataclass
from time import process_time
from typing import NamedTuple

from tests.model import properties
from tests.model.calm import belongs_to_other, calm
from tests.model.shell import Shell
from tests.model.state import Violation, World
from tests.model.steps import FAULT, USER, Scenario, Steps
from tests.model.words import Words

CALM_STEPS = 400
"""More steps than any calm takes: it livelocks."""


class Node(NamedTuple):
    world: World
    users: int
    faults: int


@dataclass(frozen=True, slots=True)
class Found:
    """What an exploration saw."""

    scenario: str
    states: int
    transitions: int
    depth: int
    decisions: int
    """Different questions that were put to `decide`."""
    seconds: float
    """Of the processor."""
    complete: bool
    kinds: frozenset[str]
    """Which acts of users and faults there were."""

    def __str__(self) -> str:
        end = "all states" if self.complete else "cut off"
        return (
            f"{self.scenario}: {self.states} states ({end}), {self.transitions} transitions, "
            f"depth {self.depth}, {self.decisions} decisions, {self.seconds:.1f} s"
        )


class Explorer:
    """One exploration."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.words = Words(scenario.spec)
        self.steps = Steps(scenario, self.words, Shell(self.words))
        self._from: dict[Node, tuple[Node, str] | None] = {}
        self._calm: dict[bool, set[World]] = {True: set(), False: set()}
        self._kinds: set[str] = set()

    def run(self, most: int = 10**9) -> Found:
        """Explore until nothing is new, or `most` states were seen. Raises Violation."""
        gc.disable()  # nothing here is a cycle, and looking for them takes a third of the time
        try:
            return self._run(most)
        finally:
            gc.enable()

    def _run(self, most: int) -> Found:
        began = process_time()
        first = Node(
            self.steps.created(World(name_taken="name taken" in self.scenario.fault)),
            self.scenario.users,
            self.scenario.faults,
        )
        self._from[first] = None
        level, depth, transitions = [first], 0, 0
        while level and len(self._from) < most:
            following: list[Node] = []
            for node in level:
                transitions += self._expand(node, following)
            depth += 1
            level = following
        return Found(
            self.scenario.name,
            len(self._from),
            transitions,
            depth,
            len(self.words._decisions),
            process_time() - began,
            not level,
            frozenset(self._kinds) | ({"name taken"} if first.world.name_taken else set()),
        )

    def _expand(self, node: Node, following: list[Node]) -> int:
        count = 0
        try:
            self._settles(node.world)
            if _lasts(node.world):
                self._settles(node.world, heals=False)
            successors = self.steps.successors(node.world, node.users > 0, node.faults > 0)
            for action, world, cost, kind in successors:
                count += 1
                if kind:
                    self._kinds.add(kind)
                after = Node(world, node.users - (cost == USER), node.faults - (cost == FAULT))
                if after in self._from:
                    continue
                self._from[after] = (node, action)
                following.append(after)
                try:
                    properties.of_state(world)
                except Violation:
                    node = after
                    raise
        except Violation as violation:
            violation.trace = [*self._way(node), *violation.trace, f"=> {violation}"]
            raise
        return count

    def _settles(self, world: World, heals: bool = True) -> None:
        """When nothing new goes wrong, it comes to rest: as wished, if what is wrong `heals`."""
        seen, way, actions = self._calm[heals], dict[World, int](), deque[str]()
        try:
            while world not in seen:
                if world in way and self._only_retries(list(way)[way[world] :]):
                    break
                if world in way or len(way) > CALM_STEPS:
                    raise Violation("converges", "it goes on for ever")
                way[world] = len(way)
                step = calm(self.steps, world, heals)
                if step is None:
                    self._rests(world, heals)
                    break
                actions.append(step.action)
                world = step.world
                properties.of_state(world)
            if world.name_taken and world in way:
                self._rests(world, heals)
        except Violation as violation:
            stop = "-- faults stop" if heals else "-- what is wrong goes on"
            violation.trace = [stop, *actions, *violation.trace]
            raise
        seen.update(way)

    def _rests(self, world: World, heals: bool) -> None:
        as_ever = world.engine_up and not world.name_taken
        as_ever = as_ever and world.swapped == belongs_to_other(self.steps, world)
        if heals or as_ever:
            properties.at_rest(self.words, world)
        else:
            properties.while_it_lasts(self.words, world)

    @staticmethod
    def _only_retries(turn: list[World]) -> bool:
        """Where a name stays taken it is asked for again and again, and no status is written."""
        writes = (one.pend for world in turn for one in world.ones if one.pend is not None)
        return turn[0].name_taken and all(pend.step for pend in writes)

    def _way(self, node: Node) -> list[str]:
        actions: list[str] = []
        at = self._from[node]
        while at is not None:
            node, action = at
            actions.append(action)
            at = self._from[node]
        return actions[::-1]


def _lasts(w: World) -> bool:
    """Something is wrong that need not be over soon."""
    return not w.engine_up or w.swapped or w.name_taken
