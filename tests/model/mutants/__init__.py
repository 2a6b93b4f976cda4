"""Rules of the operator, each broken in one way, to show that the model notices.

A mutant names the SCENARIO (of `tests.model.scenarios`) that breaks and the property it is
CAUGHT_BY, and changes either what `decide` is asked, what it answers, or one rule by name.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from controller.core import decide as core
from controller.core.decide import Decision
from controller.core.rules import Rules
from controller.core.state import Seen
from controller.core.subject import Subject


class Mutation:
    """What a mutant may change, until its test is over."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def setattr(self, owner: Any, name: str, rule: Any) -> None:
        """Put another rule in the place of one."""
        self._patch.setattr(owner, name, rule)

    def of_questions(self, changed: Callable[[Subject, Seen], tuple[Subject, Seen]]) -> None:
        """Have `decide` take something else for what was asked and seen."""
        real = core.decide

        def decide(subject: Subject, seen: Seen, rules: Rules, now: datetime) -> Decision:
            return real(*changed(subject, seen), rules, now)

        self._patch.setattr(core, "decide", decide)

    def of_decisions(self, changed: Callable[[Decision, Subject, Seen], Decision]) -> None:
        """Have `decide` say something else."""
        real = core.decide

        def decide(subject: Subject, seen: Seen, rules: Rules, now: datetime) -> Decision:
            return changed(real(subject, seen, rules, now), subject, seen)

        self._patch.setattr(core, "decide", decide)
