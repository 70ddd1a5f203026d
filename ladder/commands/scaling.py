"""The command that reports what multipliers have become: scales."""

from __future__ import annotations

from pathlib import Path

from tyro import conf

from ladder.commands.options import Flag


def scales(
    runs: conf.Positional[Path],
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """Learned multipliers of runs: spread over rows, columns, layers.

    Example: ladder scales runs/recipes

    Args:
        runs: A runs folder, one run's folder, or a checkpoint, `RUNS/RUNG/checkpoints/step-N`; of
            runs the newest checkpoints are read.
        json: Print one JSON document, which holds every matrix too.
        out: Write a .json or .csv file.
    """
    from ladder import tables
    from ladder.scales import document, learned, spreads

    tables.check_out(out)
    found = learned(runs)
    written = document(found)
    tables.emit(written, written["rows"], json, out)
    if json:
        return
    columns = ("kind of matrix", "side", "matrices", "mean", "rms", "within +-", "layers +-")
    rows = spreads(found)
    for run, step in dict.fromkeys((row.run, row.step) for row in rows):
        tables.show(
            f"multipliers of {run} after step {step}: +- within a matrix, and of means over layers",
            (*columns, "smallest", "largest"),
            [
                (
                    row.kind,
                    row.side,
                    row.matrices,
                    *(
                        f"{value:.3f}"
                        for value in (
                            row.mean,
                            row.rms,
                            row.sd_within,
                            row.sd_between,
                            row.smallest,
                            row.largest,
                        )
                    ),
                )
                for row in rows
                if (row.run, row.step) == (run, step)
            ],
            keys=2,
        )
