"""Our scores are those of lm-evaluation-harness and olmo_eval on real tasks, as they were recorded.

benchmarks/parity.py recorded them, in environments of their own, with a model that is made here
once more from its seed.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from evaluation.choices import ChoiceScores
from evaluation.encoding import EncodedTask
from evaluation.models import load_model
from evaluation.scoring import score_task

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
RIVALS = ("lm-eval", "olmo-eval")
TASKS = ("arc_easy_val_rc_5shot", "hellaswag_val_rc_5shot")


@dataclass(frozen=True)
class Comparison:
    parity: ModuleType
    recorded: dict[str, Any]
    weights: str
    ours: dict[str, tuple[EncodedTask, ChoiceScores]]

    def rows(self, task: str, rival: str) -> list[dict[str, Any]]:
        return [row[rival] for row in self.recorded["tasks"][task]["documents"]]


@pytest.fixture(scope="module")
def comparison(olmes: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    if not BENCHMARKS.is_dir():
        pytest.skip("no benchmarks/, as in a source distribution")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        rivals, parity = (importlib.import_module(name) for name in ("rivals", "parity"))
    folder = tmp_path_factory.mktemp("parity") / "model"
    weights = rivals.make_model(folder)
    model = load_model(str(folder))
    recorded = json.loads(parity.RESULTS.read_text())
    ours = {}
    for name in TASKS:
        encoded = model.encode(rivals.documents(name, parity.DOCUMENTS[name]))
        ours[name] = encoded, score_task(model.model, encoded)
    return Comparison(parity, recorded, weights, ours)


def test_the_model_is_the_one_that_the_rivals_had(comparison: Comparison) -> None:
    # Whatever else fails here, if this does, the generator of the weights has changed.
    assert comparison.weights == comparison.recorded["model"]["weights"]


@pytest.mark.parametrize("task", TASKS)
def test_the_documents_are_those_that_the_rivals_had(comparison: Comparison, task: str) -> None:
    encoded, _ = comparison.ours[task]
    documents = comparison.recorded["tasks"][task]["documents"]
    assert [item.id for item in encoded.task.items] == [row["id"] for row in documents]
    assert encoded.task.digest() == comparison.recorded["tasks"][task]["digest"]


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("task", TASKS)
def test_tokens_are_the_rivals(comparison: Comparison, task: str, rival: str) -> None:
    encoded, _ = comparison.ours[task]
    theirs = [row["tokens"] for row in comparison.rows(task, rival)]
    assert comparison.parity.rivals.token_digests(encoded) == theirs


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("task", TASKS)
def test_log_likelihoods_are_the_rivals(comparison: Comparison, task: str, rival: str) -> None:
    _, scores = comparison.ours[task]
    for item, row in zip(scores.items, comparison.rows(task, rival), strict=True):
        np.testing.assert_allclose(
            item.log_likelihoods,
            row["log_likelihoods"],
            rtol=0,
            atol=comparison.parity.TOLERANCE,
            err_msg=f"{task}, item {item.id}",
        )


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("task", TASKS)
def test_metrics_are_the_rivals(comparison: Comparison, task: str, rival: str) -> None:
    _, scores = comparison.ours[task]
    rows = comparison.rows(task, rival)
    for metric in comparison.parity.MATCHES[rival]:
        ours, theirs = np.array(comparison.parity.metric_pairs(scores, rows, rival, metric)).T
        assert np.isfinite(theirs).all()
        tolerance = 0 if metric in comparison.parity.ACCURACIES else comparison.parity.CLOSE
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, err_msg=metric)


def test_the_model_is_far_from_one_that_knows_nothing(comparison: Comparison) -> None:
    # Its scores would agree whatever we did.
    for task in TASKS:
        encoded, scores = comparison.ours[task]
        flat = np.concatenate([item.log_likelihoods for item in scores.items])
        per_token = flat / np.array(encoded.tokens)
        uniform = -np.log(comparison.recorded["model"]["shape"]["vocab_size"])
        assert np.std(per_token) > 0.5
        assert abs(per_token.mean() - uniform) > 1
