"""A short round of what `make chaos` does for ten minutes, in a process of its own."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from dev.cluster import CHECKOUT
from tests.chaos.conftest import TOLD

SECONDS = 90
SEED = "90"
LONGEST_SECONDS = 540
"""The round, and what the checks at its end wait for on a busy machine."""


@pytest.mark.timeout(LONGEST_SECONDS + 30)
def test_a_short_round(record_property: Callable[[str, object], None]) -> None:
    argv = [sys.executable, "-m", "tests.chaos", "--seconds", str(SECONDS), "--seed", SEED]
    try:
        ended = subprocess.run(
            argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"not over in {LONGEST_SECONDS} s:\n{_text(late.stdout)}{_text(late.stderr)}")
    assert ended.returncode == 0, ended.stdout[-20_000:] + ended.stderr[-5_000:]
    record_property(TOLD, ended.stdout)


def _text(printed: str | bytes | None) -> str:
    """What a process that was killed had printed: bytes, even where text was asked for."""
    return printed.decode(errors="replace") if isinstance(printed, bytes) else printed or ""
