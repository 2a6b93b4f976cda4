"""What a round survived is told even where it passed: a table that nobody sees shows nothing."""

import pytest

TOLD = "chaos"
"""The property of a test that holds what its round printed."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("passed", ()):
        for name, told in report.user_properties:
            if name == TOLD:
                terminalreporter.section(f"{report.nodeid}: what it survived")
                terminalreporter.write_line(told)
