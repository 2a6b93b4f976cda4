"""One scenario's failure is its own, and what is compared decides how the command ends."""

from pathlib import Path
from typing import Any, cast

import pytest

from bench import __main__ as command
from bench.figures import Row, compared, milliseconds
from bench.lab import Lab, Sizes
from bench.results import Load, Run
from dev.progress import DevError
from tests.unit.bench.runs import run_of


class BrokenLab:
    """A lab whose operator has said why, and which counts how often it was mended."""

    def __init__(self, *, mends: bool = True) -> None:
        self.mended = 0
        self.operator = self
        self._mends = mends

    def last_words(self) -> str:
        return "last [words] of [/nobody]"

    async def mend(self) -> None:
        self.mended += 1
        if not self._mends:
            raise DevError("beyond mending")


@pytest.mark.parametrize("mends", [True, False])
async def test_the_others_are_measured_when_one_fails(
    monkeypatch: pytest.MonkeyPatch, mends: bool
) -> None:
    row = Row("good", "w", milliseconds([0.1]))

    async def good(_: Lab) -> list[Row]:
        return [row]

    async def bad(_: Lab) -> list[Row]:
        raise ConnectionError("cut")

    monkeypatch.setattr(command, "SCENARIOS", {"bad": bad, "good": good})
    monkeypatch.setattr(Load, "now", lambda: Load(0.0, 0.0))
    lab, run = BrokenLab(mends=mends), Run("2026-01-02T03:04:05+00:00", {}, {})
    for name in ("bad", "good"):
        await command._scenario(name, cast(Lab, lab), run)
    assert run.failures == {"bad": "ConnectionError: cut"}
    assert run.rows == [row]
    assert lab.mended == 1


def test_the_command_fails_when_something_got_slower(tmp_path: Path) -> None:
    quick, slow = tmp_path / "quick.json", tmp_path / "slow.json"
    for path, took in ((quick, 0.1), (slow, 0.2)):
        row = compared("s", "w", milliseconds([took] * 20), milliseconds([0.1] * 20))
        run_of(row).write(path)
    shown: dict[str, Any] = {"only": None, "quick": False, "keep": False}
    command.main(**shown, against=slow, results=quick)
    with pytest.raises(DevError, match="1 of the figures got slower"):
        command.main(**shown, against=quick, results=slow)


@pytest.mark.parametrize(
    ("chosen", "published"), [(["good", "bad"], True), (["good", "bad", "never"], False)]
)
def test_what_was_measured_to_the_end_is_published_even_if_the_clean_up_fails(
    monkeypatch: pytest.MonkeyPatch, chosen: list[str], published: bool
) -> None:
    def measure(_: list[str], run: Run, __: Sizes) -> None:
        run.results["good"] = run_of(Row("good", "w", milliseconds([0.1]))).results["scenario"]
        run.failures["bad"] = "DevError: no"
        raise OSError("the clean-up failed")

    written = list[Run]()

    def publish(run: Run) -> list[Path]:
        written.append(run)
        return []

    monkeypatch.setattr(command, "SCENARIOS", dict.fromkeys(chosen))
    monkeypatch.setattr(command, "_begin", lambda _: Run("2026-01-02T03:04:05+00:00", {}, {}))
    monkeypatch.setattr(command, "_measure_all", measure)
    monkeypatch.setattr(command, "publish", publish)
    with pytest.raises(OSError, match="clean-up"):
        command.main(only=chosen, quick=False, keep=True, against=None, results=None)
    assert bool(written) is published
