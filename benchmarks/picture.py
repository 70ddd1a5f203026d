"""Draws one task's fits from a runs folder: the picture of the README.

python benchmarks/picture.py runs/quickstart next_of_8 docs/quickstart.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

from evaluation.files import write_text
from evaluation.records import read_observations
from predict import TwoStage, audit
from predict.drawing import to_svg
from predict.plots import task_figure


def main(runs: str, task: str, out: str) -> None:
    """Fit the finished runs and write the figure."""
    table = read_observations(Path(runs) / "observations.parquet")
    model = TwoStage("published", tasks=[task]).fit(table)
    rows = audit(model, table).rows
    figure = task_figure(model.fits_[task], [row.prediction for row in rows], rows, model.method)
    write_text(out, to_svg(figure))


if __name__ == "__main__":
    main(*sys.argv[1:])
