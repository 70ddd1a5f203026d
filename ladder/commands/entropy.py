"""The command that tells what is exactly known of a corpus: entropy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tyro import conf

from evaluation.files import InputError
from ladder.commands.options import Flag, Names

if TYPE_CHECKING:
    from ladder.corpora.exact import Exact


def entropy(
    config: conf.Positional[str],
    runs: Path | None = None,
    set: conf.UseAppendAction[Names] = (),
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """Exact entropies of a config's corpus; how fast its walks mix.

    Example: ladder entropy origins-er

    Args:
        config: A YAML file, or the name of a shipped config such as quickstart.
        runs: Folder for everything that is written, which is nothing unless text must be counted
            first; runs/NAME by default.
        set: Override a setting, KEY=VALUE such as corpus.seed=1.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from ladder import tables
    from ladder.config import load_config
    from ladder.corpora import open_corpus
    from ladder.corpora.chain_settings import NgramCorpus
    from ladder.runs import RunsFolder

    tables.check_out(out)
    experiment = load_config(config, set)
    folder = RunsFolder(runs or Path("runs") / experiment.name)
    corpus = open_corpus(experiment.corpus, folder.corpus)
    if isinstance(experiment.corpus, NgramCorpus):
        folder.prepare(experiment)
        corpus.prepare()
    exact = corpus.exact(experiment.model.sequence_length)
    if exact is None:
        raise InputError(
            f"{config}: the entropy of a corpus of kind {experiment.corpus.kind} is not known "
            "exactly; that of walks, graph and ngram is"
        )
    found = exact.document()
    document = {"version": 1, "name": experiment.name, "kind": experiment.corpus.kind, **found}
    tables.emit(document, [document], json, out)
    if not json:
        _show(experiment.name, exact)


def _show(name: str, exact: Exact) -> None:
    from ladder import tables

    relaxed, mixed = exact.relaxation_time, exact.mixing_time
    rows = [
        ("entropy rate", f"{exact.entropy_rate:.6f}"),
        (f"floor of {exact.length} tokens, {exact.start} start", f"{exact.floor:.6f}"),
        ("bigram entropy", f"{exact.bigram_entropy:.6f}"),
        ("unigram entropy", f"{exact.unigram_entropy:.6f}"),
        ("stationary entropy", f"{exact.stationary_entropy:.6f}"),
        ("uniform entropy", f"{exact.uniform_entropy:.6f}"),
    ]
    tables.show(f"{name}: exact entropies", ("", "nats"), rows)
    steps = "never, for it is periodic" if relaxed is None else f"{relaxed:.4g} steps"
    tables.show(
        "the chain",
        ("", ""),
        [
            ("vocabulary", f"{exact.vocabulary:,}"),
            ("nodes", f"{exact.nodes:,}"),
            ("edges", f"{exact.edges:,}"),
            ("transitions", f"{exact.transitions:,}"),
            ("second eigenvalue, modulus", f"{exact.second_eigenvalue:.5f}"),
            ("relaxation time", steps),
            ("mixing time", exact.mixing_time_reason or f"{mixed:,} steps"),
            ("period", exact.period),
        ],
    )
