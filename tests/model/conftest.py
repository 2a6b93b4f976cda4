"""Says at the end what was explored, and what caught each mutant."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = [
        str(value)
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "model"
    ]
    if lines:
        terminalreporter.section("model of the decision core")
        for line in lines:
            terminalreporter.write_line(line)
