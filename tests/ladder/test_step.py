"""The loss is cross-entropy, whole or in chunks; a step that is not finite changes nothing."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from ladder import step as stepping
from ladder.model import build_model
from ladder.optim import build_optimizers
from ladder.parallel import Parallel
from ladder.settings import Execution, Model, Recipe
from ladder.shapes import Shape
from ladder.step import LossModel, optimizer_step

SHAPE = Shape(layers=2, width=16, heads=2, hidden=24)
TOKENS = torch.arange(36).view(4, 9) % 50
ALONE = Parallel(0, 1, "none", torch.device("cpu"))


def model() -> LossModel:
    built = build_model(Model(sequence_length=8, sizes={"x": SHAPE}), SHAPE, 50, seed=0)
    return LossModel(built, z_loss=0.01)


def gradients(loss_model: LossModel) -> list[torch.Tensor]:
    loss, _ = loss_model(TOKENS)
    loss.backward()
    return [weight.grad.clone() for weight in loss_model.parameters()]


def test_the_loss_is_cross_entropy_and_the_squared_log_of_the_denominator() -> None:
    loss_model = model()
    loss, nats = loss_model(TOKENS)
    logits = loss_model.model(input_ids=TOKENS[:, :-1]).logits.flatten(0, 1)
    expected = functional.cross_entropy(logits, TOKENS[:, 1:].flatten(), reduction="sum")
    assert nats.item() == pytest.approx(expected.item(), rel=1e-5)
    z = logits.logsumexp(-1).square().sum()
    assert loss.item() == pytest.approx((expected + 0.01 * z).item(), rel=1e-5)


@pytest.mark.parametrize("logits", [50, 350, 1550])
def test_chunks_change_neither_loss_nor_gradient(
    monkeypatch: pytest.MonkeyPatch, logits: int
) -> None:
    whole = gradients(model())
    monkeypatch.setattr(stepping, "CHUNK_LOGITS", logits)
    for one, other in zip(whole, gradients(model()), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_step_that_is_not_finite_changes_no_weight() -> None:
    loss_model = model()
    optimizers = build_optimizers(loss_model.model, Recipe())
    optimizers.set_learning_rate(0.1)
    with torch.no_grad():
        loss_model.model.get_output_embeddings().weight[3, 3] = float("nan")
    before = [weight.clone() for weight in loss_model.parameters()]
    with pytest.raises(FloatingPointError, match=r"lower recipe\.learning_rate_base"):
        optimizer_step(loss_model, optimizers, TOKENS, Recipe(), Execution(), ALONE, 4)
    for one, other in zip(before, loss_model.parameters(), strict=True):
        assert torch.equal(one.nan_to_num(), other.nan_to_num())


def test_ranks_share_the_rows_of_a_batch() -> None:
    for world in (1, 2, 3, 5):
        parts = [Parallel(rank, world, "ddp", torch.device("cpu")).rows(7) for rank in range(world)]
        assert [n for part in parts for n in range(7)[part]] == list(range(7))
        sizes = [len(range(7)[part]) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_half_precision_is_near_the_whole() -> None:
    found = {}
    for precision in ("fp32", "bf16"):
        loss_model = model()
        optimizers = build_optimizers(loss_model.model, Recipe())
        execution = Execution(precision=precision, device="cpu")
        found[precision] = optimizer_step(
            loss_model, optimizers, TOKENS, Recipe(), execution, ALONE, 4
        )
    assert found["bf16"].loss != found["fp32"].loss
    assert found["bf16"].loss == pytest.approx(found["fp32"].loss, rel=0.01)


def test_a_model_that_was_scored_goes_back_to_training() -> None:
    loss_model = model()
    loss_model.model.eval()
    loss_model(TOKENS)
    assert all(part.training for part in loss_model.modules())


@pytest.mark.parametrize("most", [1e-3, 1e3])
def test_gradients_are_clipped_as_torch_clips_them(most: float) -> None:
    loss_model, other = model(), model()
    gradients(loss_model), gradients(other)
    norm = ALONE.clip(tuple(loss_model.parameters()), most)
    expected = torch.nn.utils.clip_grad_norm_(other.parameters(), most)
    assert norm == expected.item()
    for one, two in zip(loss_model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)


KEPT = """
import ctypes
import torch
from ladder.config import Execution
from ladder.parallel import joined

class Held(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Held

def taken():
    before = libc.mallinfo2()
    tensor = torch.ones(2**24)
    after = libc.mallinfo2()
    return after.hblkhd - before.hblkhd, after.arena - before.arena

torch.set_num_threads(1)
print(*taken())
with joined(Execution(device="cpu")):
    rounds = [taken() for _ in range(40)]
print(max(mapped for mapped, _ in rounds), sum(grown for _, grown in rounds[20:]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is asked to")
def test_on_a_cpu_memory_that_a_step_frees_is_there_for_the_next() -> None:
    """What malloc holds is asked, not page faults, which a busy kernel adds to."""
    answer = subprocess.run(
        [sys.executable, "-c", KEPT], capture_output=True, text=True, check=True
    ).stdout
    (plain, _), (mapped, grown) = (map(int, line.split()) for line in answer.splitlines())
    assert plain >= 4 * 2**24, "by default a large block is mapped and given back"
    # The first few rounds leave scraps of alignment behind, as many as malloc's cache holds (7).
    assert (mapped, grown) == (0, 0), "after a few rounds all lies where something lay before"
