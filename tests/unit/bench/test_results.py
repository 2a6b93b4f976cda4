"""What a run's file keeps, and what is published of it."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.figures import Figures, Point, Row, compared, milliseconds
from bench.published import publish
from bench.results import Run, _version
from dev.progress import DevError
from tests.unit.bench.runs import run_of

CREATE = compared("create", "POST to RUNNING", milliseconds([0.3, 0.31]), milliseconds([0.25]), 1.2)
CURVED = Row("create", "alone", milliseconds([0.3, 0.31, 0.4]), curve="one at a time")
POINTS = [
    Row("scale", f"{at} running", Figures.of([1.5], "%"), point=Point("at rest", at))
    for at in (1, 10)
]


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = run_of(CREATE, CURVED, *POINTS, population=10)
    run.failures["idle"] = "DevError: no"
    run.write(tmp_path / "run.json")
    assert Run.read(tmp_path / "run.json") == run
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"results": {"a": {"rows": [{}]}}}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(DevError, match="no results"):
        Run.read(tmp_path / "other.json")
    with pytest.raises(DevError, match="no results"):
        Run.read(tmp_path / "missing.json")


def test_a_page_with_table_and_pictures_is_published(tmp_path: Path) -> None:
    run = run_of(CREATE, CURVED, *POINTS)
    run.failures["idle"] = "DevError: no"
    written = {path.name: path.read_text() for path in publish(run, tmp_path)}
    page = written.pop("latest.md")
    assert all(f"({name})" in page for name in written)
    assert "| POST to RUNNING | 300 / 310 ms | 250 ms | 1.22 x | median <= 1.2 x | NO |" in page
    assert "- idle: DevError: no" in page
    pictures = {name: text for name, text in written.items() if name.endswith(".svg")}
    assert len(pictures) == 2
    for text in pictures.values():
        ElementTree.fromstring(text)  # noqa: S314 - written a moment ago
    assert "one at a time" in pictures["2026-01-02-0304-distributions.svg"]
    assert "at rest" in pictures["2026-01-02-0304-costs.svg"]


def test_a_curve_may_begin_at_zero(tmp_path: Path) -> None:
    rows = [
        Row("stopped", f"{at} stopped", milliseconds([0.1]), point=Point("listing", at))
        for at in (0, 200)
    ]
    picture = publish(run_of(*rows), tmp_path)[2]
    assert "listing" in picture.read_text()


def test_a_binary_tells_its_version_itself(tmp_path: Path) -> None:
    binary = tmp_path / "etcd"
    binary.write_text("#!/bin/sh\necho etcd Version: 3.6.5\necho Git SHA: none\n")
    binary.chmod(0o755)
    assert _version(binary) == "3.6.5"
    binary.write_text("#!/bin/sh\nexit 1\n")
    assert _version(binary) == ""


def test_a_run_without_curves_is_published_too(tmp_path: Path) -> None:
    assert all(path.exists() for path in publish(run_of(CREATE), tmp_path))
