"""`make demo` uses a cluster of the user's only where the command line names it."""

import os
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def test_a_kubeconfig_of_the_environment_is_ignored() -> None:
    assert "--kubeconfig" not in _make_demo(KUBECONFIG="/somebodys", CONTEXT="production")


def test_a_kubeconfig_of_the_command_line_is_used() -> None:
    told = _make_demo("KUBECONFIG=/mine", "CONTEXT=test")
    assert "--kubeconfig '/mine' --context 'test'" in told


def _make_demo(*arguments: str, **environment: str) -> str:
    return subprocess.run(
        ["make", "--dry-run", "demo", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
