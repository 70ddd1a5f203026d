"""Walks: exact entropy, exact loss, reproducible batches, tasks with the right answers."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.files import InputError
from ladder.corpora.settings import WalksCorpus, WalkTask
from ladder.corpora.walks import Walks

TASK = WalkTask(name="next", choices=4, answer_rank=(2, 5), ratio=(2, 40), items=100)


class Known:
    """A model that is a table of what follows a node."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def log_probabilities(self, tokens: np.ndarray) -> np.ndarray:
        return self.table[tokens]

    def nats(self, tokens: np.ndarray) -> np.ndarray:
        return -self.table[tokens[:, :-1], tokens[:, 1:]]


@pytest.fixture(scope="module")
def walks() -> Walks:
    return Walks(WalksCorpus(kind="walks", nodes=24, seed=4, validation_walks=64, tasks=(TASK,)))


def test_the_transition_matrix_is_one(walks: Walks) -> None:
    assert walks.transition.sum(axis=1) == pytest.approx(1)
    assert (np.diag(walks.transition) == 0).all()
    assert walks.stationary @ walks.transition == pytest.approx(walks.stationary)
    assert walks.stationary.sum() == pytest.approx(1)
    power = np.linalg.matrix_power(walks.transition, 2000)
    assert power[0] == pytest.approx(walks.stationary, abs=1e-9)


def test_the_entropy_rate_is_that_of_long_walks(walks: Walks) -> None:
    sample = walks.batch(seed=1, step=1, sequences=2000, length=101)
    surprise = -np.log(walks.transition[sample[:, :-1], sample[:, 1:]])
    error = surprise.std() / np.sqrt(surprise.size)
    assert surprise.mean() == pytest.approx(walks.entropy_rate, abs=5 * error)


def test_walks_visit_edges_as_often_as_the_matrix_says(walks: Walks) -> None:
    sample = walks.batch(seed=2, step=1, sequences=4000, length=51)
    counts = np.zeros((24, 24))
    np.add.at(counts, (sample[:, :-1].ravel(), sample[:, 1:].ravel()), 1)
    expected = counts.sum(axis=1, keepdims=True) * walks.transition
    chi2 = ((counts - expected) ** 2 / np.maximum(expected, 1e-12))[expected > 5]
    assert chi2.mean() == pytest.approx(1, abs=0.3)


def test_a_batch_is_a_function_of_seed_and_step(walks: Walks) -> None:
    one = walks.batch(1, 7, 4, 9)
    assert one.shape == (4, 9)
    assert (one == walks.batch(1, 7, 4, 9)).all()
    assert not (one == walks.batch(1, 8, 4, 9)).all()
    assert not (one == walks.batch(2, 7, 4, 9)).all()


def test_the_true_model_has_exactly_the_entropy_rate_as_its_loss(walks: Walks) -> None:
    with np.errstate(divide="ignore"):
        log_p = np.where(walks.transition > 0, np.log(walks.transition), -1e3)
    assert walks.validation_loss(Known(log_p), 12) == pytest.approx(walks.entropy_rate)


def test_a_worse_model_loses_by_its_divergence(walks: Walks) -> None:
    uniform = np.full((24, 24), -np.log(24))
    loss = walks.validation_loss(Known(uniform), 400)
    # By the control variate the loss is H + E[log 24 - H(row)], so it errs by the rows seen.
    assert loss == pytest.approx(np.log(24), abs=0.01)


def test_items_have_the_answer_and_distractors_that_the_task_promises(walks: Walks) -> None:
    (task,) = walks.tasks()
    assert len(task.items) == 100
    encode = walks.tokenizer().encode
    for item in task.items:
        p = walks.transition[encode(item.context)[-1]]
        nodes = [encode(choice)[0] for choice in item.choices]
        assert len(set(nodes)) == 4
        answer = p[nodes[item.gold]]
        assert np.sort(p)[::-1].tolist().index(answer) + 1 in range(2, 6)
        ratios = [answer / p[n] for i, n in enumerate(nodes) if i != item.gold]
        assert all(2 <= r <= 40 * (1 + 1e-9) for r in ratios)
    assert {item.gold for item in task.items} == {0, 1, 2, 3}


def test_too_few_fitting_items_are_refused() -> None:
    hard = TASK.model_copy(update={"choices": 24})
    with pytest.raises(InputError, match="next: only 0 of 100 items fit"):
        Walks(WalksCorpus(kind="walks", nodes=24, tasks=(hard,))).tasks()


def test_words_and_nodes_are_one_to_one(walks: Walks) -> None:
    words = " ".join(walks._word(i) for i in range(24))
    assert walks.tokenizer().encode(words) == list(range(24))
