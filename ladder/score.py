"""Scores a rung's model as it trains, or any model on tasks and texts, keeping what it scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from evaluation.choices import ChoiceScores
from evaluation.encoding import EncodedTask
from evaluation.files import InputError
from evaluation.metrics import score_row
from evaluation.models import LoadedModel
from evaluation.ranks import ONE, Ranks
from evaluation.scoring import score_task
from evaluation.store import Store
from evaluation.suites import Selection, result_rows
from evaluation.text_scores import TextScores, text_row
from evaluation.texts import score_text
from ladder.corpora import Array, Corpus, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Watch = Callable[[str], Callable[[float], None]]
"""Told the name of what is scored next, gives what is told its share."""


def score_rung(
    base: Mapping[str, Any],
    corpus: Corpus,
    length: int,
    model: PreTrainedModel,
    tasks: Sequence[EncodedTask],
    store: Store | None,
    ranks: Ranks = ONE,
) -> list[dict[str, Any]]:
    """Rows of the observations table: `base` with the held-out loss and each task's scores.

    `length` is the tokens of a training sequence; the score of every choice is kept in `store`.
    """
    loss = corpus.validation_loss(ModelScorer(model), length)
    rows = [{**base, "task": corpus.validation, "loss": loss, "loss_unit": "nats/token"}]
    if store is not None:
        store.claim()
    for encoded in tasks:
        scores = score_task(model, encoded, ranks=ranks)
        if store is not None:
            store.write(scores)
        rows.append({**base, **score_row(encoded.task, scores)})
    return rows


class ModelScorer:
    """A model as a corpus sees it when it measures the held-out loss."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    def log_probabilities(self, tokens: Tokens) -> Array:
        """Log-probabilities (B, T, V), nats, of what follows each of the tokens (B, T)."""
        with torch.inference_mode():
            logits = self.model(input_ids=self._ids(tokens)).logits
            return np.asarray(torch.log_softmax(logits.double(), dim=-1).cpu().numpy())

    def nats(self, tokens: Tokens) -> Array:
        """Loss (B, T - 1), nats, of every token (B, T) but the first of each row."""
        ids = self._ids(tokens)
        with torch.inference_mode():
            logits = self.model(input_ids=ids[:, :-1]).logits.float()  # (B, T - 1, V)
            loss = functional.cross_entropy(
                logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
            )
        return np.asarray(loss.view(len(ids), -1).double().cpu().numpy())

    def _ids(self, tokens: Tokens) -> torch.Tensor:
        return torch.from_numpy(tokens).to(self.model.device)


def score_model(
    load: Callable[[], LoadedModel],
    selection: Selection,
    texts: Sequence[Path],
    store: Store | None,
    watch: Watch,
    ranks: Ranks = ONE,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of results for all that is selected, and remarks on how they came about.

    What the store holds is not scored again, and the model is loaded only where something is left
    to score; each task is kept as soon as it is scored.
    """
    scores: dict[str, ChoiceScores] = {}
    read: dict[Path, TextScores] = {}
    if store is not None:
        for task in selection.tasks:
            if found := store.task(task, task.name in selection.pmi):
                scores[task.name] = found
        for path in texts:
            if known := store.text(path):
                read[path] = known
    left = [task for task in selection.tasks if task.name not in scores]
    unread = [path for path in texts if path not in read]
    if left or unread:
        loaded = load()
        if store is not None and ranks.rank == 0:
            store.claim()
        count = len(left) + len(unread)
        for number, task in enumerate(left, 1):
            encoded = loaded.encode(task, task.name in selection.pmi)
            found = score_task(
                loaded.model, encoded, watch(f"{task.name} ({number} of {count})"), ranks
            )
            scores[task.name] = found
            if store is not None and ranks.rank == 0:
                store.write(found)
        for number, path in enumerate(unread, len(left) + 1):
            read[path] = score_text(
                loaded, path, watch(f"{path.stem} ({number} of {count})"), ranks
            )
            if store is not None and ranks.rank == 0:
                store.write(read[path])
    rows = result_rows(selection, scores) + [text_row(read[path]) for path in texts]
    return rows, _remarks(selection, scores)


def rescore(
    selection: Selection, texts: Sequence[Path], store: Store
) -> tuple[list[dict[str, Any]], list[str]]:
    """The same rows from what the store holds; InputError where something was not scored."""

    def absent() -> LoadedModel:
        held = [*(task.name for task in selection.tasks), *(path.stem for path in texts)]
        gone = next((name for name in held if not store.path(name).is_file()), held[0])
        raise InputError(f"{store.path(gone)}: lacks what is asked for; evaluate without --rescore")

    return score_model(absent, selection, texts, store, lambda name: lambda share: None)


def _remarks(selection: Selection, scores: Mapping[str, ChoiceScores]) -> list[str]:
    remarks = []
    for task in selection.tasks:
        own = scores[task.name]
        if own.cut:
            remarks.append(f"{task.name}: {own.cut} contexts were cut to fit the model's window")
        if own.differ:
            remarks.append(
                f"{task.name}: {own.differ} choices have other tokens behind their context"
            )
    return remarks
