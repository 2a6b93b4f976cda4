"""The folder docs/benchmarks: samples and pictures of each published run, and the page of the last.

<date>.json                   samples, machine, sizes; what COMPARE= reads
<date>-distributions.svg      latencies
<date>-costs.svg              cost against the number of Sandboxes
latest.md                     the table of the last run, with its pictures
"""

from __future__ import annotations

from pathlib import Path

from bench import plots
from bench.report import markdown
from bench.results import Run
from dev.cluster import CHECKOUT

FOLDER = CHECKOUT / "docs" / "benchmarks"


def publish(run: Run, folder: Path = FOLDER) -> list[Path]:
    """Write all of it; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = folder / f"{run.stamp}.json"
    run.write(samples)
    pictures = []
    for draw, what in ((plots.distributions, "distributions"), (plots.costs, "costs")):
        picture = folder / f"{run.stamp}-{what}.svg"
        draw(run.rows, picture)
        pictures.append(picture)
    page = folder / "latest.md"
    page.write_text(markdown(run, [picture.name for picture in pictures]))
    return [samples, *pictures, page]
