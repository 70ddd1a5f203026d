"""Whether what a config names is there: files, tasks, a graph, a speaker; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from evaluation.files import InputError
from evaluation.suites import select
from ladder.config import Experiment
from ladder.corpora.chain_settings import GraphCorpus, NgramCorpus
from ladder.corpora.documents import find
from ladder.corpora.settings import SampledCorpus, Source, TextCorpus


def missing(config: Experiment) -> list[str]:
    """What training would stop at, a line each; empty where all that can be told is there.

    Of data sets and tokenizers on the Hugging Face hub nothing is asked, for that is a download.
    """
    return [line for check in _checks(config) for line in _said(check)]


def _checks(config: Experiment) -> Iterator[Callable[[], object]]:
    corpus = config.corpus
    text = corpus.of if isinstance(corpus, NgramCorpus) else corpus
    if isinstance(text, TextCorpus):
        for source in text.sources:
            yield from _source_checks(source)
        if text.tasks:
            yield partial(select, text.tasks)
    elif isinstance(text, GraphCorpus):
        yield lambda: text.vocabulary_size
    elif isinstance(text, SampledCorpus):
        from ladder.corpora.speaker import Speaker

        yield lambda: Speaker(text.model, text.temperature).folder


def _source_checks(source: Source) -> Iterator[Callable[[], object]]:
    what = f"corpus.sources, {source.name}"
    for patterns, where in (
        (source.files, what),
        (source.tokens, what),
        (source.validation, f"{what}, validation"),
    ):
        if patterns:
            yield partial(find, patterns, where)


def _said(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except InputError as error:
        return [str(error).replace("--tasks ", "corpus.tasks, ")]
    return []
