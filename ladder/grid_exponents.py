"""Exponents of a ladder that is a grid of sizes and tokens, kept beside those of other corpora."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.files import InputError, read_json
from ladder.corpora import Corpus
from ladder.plan import Rung
from predict.drawing import printable
from predict.exponents import Exponents, exponents
from predict.slices import TOLERANCE, groups
from predict.slices_compare import LEAST_POINTS

KEPT = "exponents.json"
"""The file of a runs folder."""

NAMES = ("alpha_D", "beta_N")
"""Mean exponents, of L(N) at a fixed D and of L(D) at a fixed N."""

MOST = 1e6
"""Above any entropy in nats, and any exponent that points bound."""


@dataclass(frozen=True)
class Mean:
    """A mean exponent over slices, as another runs folder tells it."""

    value: float
    sd: float | None
    """Between slices; None for one slice."""
    slices: int


@dataclass(frozen=True)
class CorpusPoint:
    """The mean exponents of one corpus and what is known of its entropy."""

    corpus: str
    """Name of the config."""
    folder: str
    entropy_rate: float
    """Nats per token."""
    entropy_se: float | None
    """Standard error, where the rate is an estimate."""
    means: dict[str, Mean]
    """By NAMES; one of them may be missing."""


@dataclass(frozen=True)
class Known:
    """What a corpus tells of its entropy, nats per token; None for what is not known."""

    entropy_rate: float | None = None
    """Of the next token in the long run."""
    entropy_se: float | None = None
    """Its standard error, where it was estimated on sequences that were drawn."""
    floor: float | None = None
    """Of sequences as long as the models', which no model can fall below."""
    unigram_entropy: float | None = None
    bigram_entropy: float | None = None
    doubt: str = ""
    """Why the exact entropies could not be computed; empty where they were, or are unknown."""


@dataclass(frozen=True)
class GridExponents:
    """Every fit to the held-out loss of a grid, and the mean exponents of other corpora."""

    corpus: str
    """Name of the config."""
    folder: str
    """Name of the runs folder."""
    known: Known
    found: Exponents | None
    """None where nothing could be fitted."""
    reason: str = ""
    """Why nothing could be."""
    lowest: tuple[float, str] | None = None
    """The lowest held-out loss of a rung, and the rung."""
    others: tuple[CorpusPoint, ...] = ()
    """Of the folders beside this one."""
    left_out: tuple[str, ...] = ()
    """Files beside this one that tell no exponents against entropy, each with the reason."""

    def document(self) -> dict[str, Any]:
        """RUNS/exponents.json: that of `ladder exponents`, and the corpus."""
        if self.found is None:
            raise ValueError(self.reason)
        return {
            **self.found.document(),
            "corpus": self.corpus,
            "entropy_rate": self.known.entropy_rate,
            "entropy_se": self.known.entropy_se,
            "unigram_entropy": self.known.unigram_entropy,
            "bigram_entropy": self.known.bigram_entropy,
        }

    @property
    def own(self) -> CorpusPoint | None:
        """The corpus as one of several; None without entropy or exponents."""
        if self.found is None or self.found.slices is None or self.known.entropy_rate is None:
            return None
        means = {m.name: Mean(m.mean, m.sd, m.slices) for m in self.found.slices.means}
        return CorpusPoint(
            self.corpus, self.folder, self.known.entropy_rate, self.known.entropy_se, means
        )

    @property
    def unbounded(self) -> list[str]:
        """Mean exponents that are missing, as no slice of theirs bounds its own."""
        slices = self.found.slices if self.found else None
        wanted = dict.fromkeys(s.exponent_name for s in slices.slices) if slices else {}
        known = {mean.name for mean in slices.means} if slices else set()
        return [name for name in wanted if name not in known]

    def lines(self) -> list[str]:
        """The mean exponents and the floor in a few lines."""
        if self.found is None:
            return [f"no exponents: {self.reason}"]
        lines = [] if self.found.slices else [f"no slices: {self.found.slices_reason}"]
        for mean in self.found.slices.means if self.found.slices else ():
            spread = "" if mean.sd is None else f" +- {mean.sd:.3f}"
            ends = ""
            if mean.mse_ratio_lower is not None and mean.mse_ratio_upper is not None:
                ends = f" (95% {ratio(mean.mse_ratio_lower)} to {ratio(mean.mse_ratio_upper)})"
            told = ", ".join(f"{verdict} {n}" for verdict, n in mean.verdicts.items())
            lines.append(
                f"{mean.name} {mean.mean:.3f}{spread} over {mean.slices} slices; MSE of an "
                f"exponential over a power law's {ratio(mean.mse_ratio)}{ends}; verdicts: {told}"
            )
        lines += [f"{name}: no slice bounds it" for name in self.unbounded]
        check = self.found.entropy
        if check is not None and check.floor is not None:
            line = f"floor of the law of N and D {check.floor:.4f}"
            if check.lower is not None and check.upper is not None:
                word = "holds" if check.holds else "does not hold"
                line += f", 95% {check.lower:.4f} to {check.upper:.4f}, which {word} the entropy"
            else:
                line += ", without an interval; the entropy is"
            lines.append(f"{line} {check.value:.4f} {self.found.loss_unit}")
        return lines


def ratio(value: float) -> str:
    """A ratio of mean squares as people write it."""
    if 0.01 <= value < 1000:
        return f"{value:.3g}"
    return f"{value:.1e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")


def is_grid(rungs: Iterable[Rung]) -> bool:
    """Whether LEAST_POINTS sizes share as many token counts, within a hundredth."""
    places = sorted({(rung.params, rung.tokens) for rung in rungs})
    if not places:
        return False
    counts = groups(np.array([float(tokens) for _, tokens in places]), TOLERANCE)
    sizes: dict[int, set[int]] = {}
    for (params, _), count in zip(places, counts.tolist(), strict=True):
        sizes.setdefault(count, set()).add(params)
    shared = [found for found in sizes.values() if len(found) >= LEAST_POINTS]
    crossed = [n for n in set().union(*shared) if sum(n in s for s in shared) >= LEAST_POINTS]
    return len(crossed) >= LEAST_POINTS


def known_of(corpus: Corpus, length: int) -> Known:
    """What a corpus tells of sequences of `length` tokens."""
    try:
        exact, doubt = corpus.exact(length), ""
    except InputError as error:
        # An eigenvalue that does not settle leaves the loss's own floor as it is.
        exact, doubt = None, str(error)
    return Known(
        corpus.entropy_rate,
        getattr(corpus, "entropy_se", None),
        corpus.floor(length),
        None if exact is None else exact.unigram_entropy,
        None if exact is None else exact.bigram_entropy,
        doubt,
    )


def grid_exponents(
    observations: pd.DataFrame, task: str, name: str, folder: Path, known: Known
) -> GridExponents:
    """Fit the held-out loss `task` of the rungs of a runs folder, and read the folders beside it.

    `name` is the config's. Where too few runs have finished, the reason is told.
    """
    rows = observations[
        (observations["role"] == "ladder") & (observations["task"] == task) & observations["final"]
    ].dropna(subset=["loss"])
    lowest = None
    if len(rows):
        best = rows.loc[rows["loss"].idxmin()]
        lowest = float(best["loss"]), str(best["run"])
    found, reason = None, ""
    try:
        # A walk without choice has entropy 0, where every fit's floor is bounded anyway.
        found = exponents(observations, task=task, entropy=known.floor or None)
    except InputError as error:
        reason = str(error)
    others, left_out = read_others(folder)
    return GridExponents(
        name, folder.resolve().name, known, found, reason, lowest, others, left_out
    )


def read_others(folder: Path) -> tuple[tuple[CorpusPoint, ...], tuple[str, ...]]:
    """The corpora of the folders beside a runs folder by entropy, and what is none, with why."""
    own = folder.resolve()
    points, left_out = [], []
    for path in sorted(own.parent.glob(f"*/{KEPT}")):
        if path.parent.resolve() == own:
            continue
        try:
            points.append(_read(path))
        except InputError as error:
            left_out.append(printable(f"{path.parent.name}/{KEPT}: {error}"))
    return tuple(sorted(points, key=lambda p: (p.entropy_rate, p.folder))), tuple(left_out)


def _read(path: Path) -> CorpusPoint:
    try:
        document = read_json(path)
    except InputError:
        raise InputError("not readable as JSON") from None
    foreign = InputError("not written by `ladder run` on a grid")
    if not isinstance(document, dict) or document.get("version") != 1:
        raise foreign
    corpus, rate, se = (document.get(k) for k in ("corpus", "entropy_rate", "entropy_se"))
    if not isinstance(corpus, str) or "entropy_rate" not in document:
        raise foreign
    if rate is None:
        raise InputError(f"the entropy of {corpus} is not known")
    if not _sane(rate) or not (se is None or _sane(se)):
        raise foreign
    means: dict[str, Mean] = {}
    rows = document.get("means")
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, dict) or row.get("name") not in NAMES:
            raise foreign
        value, sd, slices = row.get("mean"), row.get("sd"), row.get("slices")
        if (
            value is None
            or not _sane(value)
            or not (sd is None or _sane(sd))
            or not isinstance(slices, int)
        ):
            raise foreign
        means[row["name"]] = Mean(float(value), None if sd is None else float(sd), slices)
    if not means:
        raise InputError(f"has no mean exponent of {corpus}")
    spread = None if se is None else float(se)
    return CorpusPoint(printable(corpus), printable(path.parent.name), float(rate), spread, means)


def _sane(value: Any) -> bool:
    """Whether it is a number that an entropy or an exponent may be, and a figure can show."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MOST
