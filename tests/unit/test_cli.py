"""The command line, as a user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller import __version__, app, logs
from controller.cli import cli
from controller.generate import GENERATED, ROOT
from controller.settings import ENV_PREFIX, Settings

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _logging_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "configure", lambda level, form: None)


def test_help_names_every_setting_with_its_variable_and_what_it_does() -> None:
    result = RUNNER.invoke(cli, ["run", "--help"], terminal_width=400)
    assert result.exit_code == 0
    said = " ".join(result.output.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in said
        assert f"[env: {ENV_PREFIX}{name.upper()}]" in said
        assert " ".join((field.description or "?").split()) in said


def test_a_wrong_setting_ends_it_with_one_line_and_no_traceback() -> None:
    result = RUNNER.invoke(cli, ["run", "--api-concurrency", "many"])
    assert result.exit_code == 2
    errors = [line for line in result.output.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1
    assert "--api-concurrency (SANDBOX_OPERATOR_API_CONCURRENCY)" in errors[0]
    assert "Traceback" not in result.output


def test_what_stops_the_start_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(settings: Settings) -> None:
        raise app.StartupError("no usable credentials")

    monkeypatch.setattr(app, "run", fails)
    result = RUNNER.invoke(cli, ["run"])
    assert result.exit_code == 1
    assert result.output.strip() == "sandbox-operator: no usable credentials"


def test_the_crds_are_the_committed_file() -> None:
    path = next(path for path, _ in GENERATED if path.startswith("crds/"))
    result = RUNNER.invoke(cli, ["crds"])
    assert result.output == (Path(ROOT) / path).read_text()


def test_the_version() -> None:
    assert RUNNER.invoke(cli, ["version"]).output.strip() == __version__
