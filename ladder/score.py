"""Scores a rung's model as it trains, or any model on tasks and texts, keeping what it scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from evaluation.encoding import EncodedTask
from evaluation.metrics import score_row
from evaluation.models import LoadedModel
from evaluation.ranks import ONE, Ranks
from evaluation.scoring import score_task
from evaluation.store import Store
from evaluation.suites import Selection
from evaluation.texts import score_text
from ladder.corpora import Array, Corpus, Tokens
from ladder.model import scoring_attention
from ladder.results import Results

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
    watch: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Rows of the observations table: `base` with the held-out loss and each task's scores.

    `length` is the tokens of a training sequence; the score of every choice is kept in `store`;
    `watch` is called before each task.
    """
    with scoring_attention(model):
        loss = corpus.validation_loss(ModelScorer(model), length)
        rows = [{**base, "task": corpus.validation, "loss": loss, "loss_unit": "nats/token"}]
        if store is not None:
            store.claim()
        for encoded in tasks:
            watch()
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

    def log_probabilities_of(
        self, tokens: Tokens, positions: NDArray[np.int64], nodes: NDArray[np.int64]
    ) -> Array:
        """Log-probabilities (K,), nats, that these nodes (K,) follow tokens (B, T).

        `positions` (K,) count through the tokens, row by row.
        """
        with torch.inference_mode():
            logits = self.model(input_ids=self._ids(tokens)).logits.flatten(0, 1).double()
            log_z = logits.logsumexp(dim=-1)  # (B T)
            rows, columns = self._ids(positions), self._ids(nodes)
            return np.asarray((logits[rows, columns] - log_z[rows]).cpu().numpy())

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
) -> Results:
    """Score all that is selected.

    What the store holds is not scored again, and the model is loaded only where something is left
    to score; each task is kept as soon as it is scored.
    """
    results = Results(selection, texts)
    if store is not None:
        results.load(store)
    tasks, unread = results.tasks_left, results.texts_left
    count = len(tasks) + len(unread)
    if not count:
        return results
    loaded = load()
    kept = store if ranks.rank == 0 else None
    if kept is not None:
        kept.claim()
    for number, task in enumerate(tasks, 1):
        encoded = loaded.encode(task, task.name in selection.pmi)
        shown = watch(f"{task.name} ({number} of {count})")
        scores = results.scores[task.name] = score_task(loaded.model, encoded, shown, ranks)
        if kept is not None:
            kept.write(scores)
    for number, path in enumerate(unread, len(tasks) + 1):
        shown = watch(f"{path.stem} ({number} of {count})")
        text = results.read[path] = score_text(loaded, path, shown, ranks)
        if kept is not None:
            kept.write(text)
    return results
