"""A language that a model speaks: drawn by its own probabilities, its entropy and losses exact."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import chisquare
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evaluation.files import InputError
from evaluation.records import read_observations
from ladder.cli import main
from ladder.config import load_config
from ladder.corpora import open_corpus
from ladder.corpora.sampled import Sampled
from ladder.corpora.settings import SAMPLED_VALIDATION, SampledCorpus
from ladder.corpora.speaker import Speaker, speaker_vocabulary
from ladder.grid_exponents import Known, known_of
from ladder.score import ModelScorer

VOCABULARY, LENGTH = 5, 4


def speaker(folder: Path, seed: int = 0, spread: float = 12.0) -> Path:
    """A tiny model of five tokens, of which the last ends a document."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=8,
        )
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(spread if weight.dim() > 1 else 1)
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({c: i for i, c in enumerate("abcd.")}, unk_token=None))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token=".").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Sampled:
    folder = tmp_path_factory.mktemp("sampled")
    corpus = Sampled(config(speaker(folder / "speaker")), folder / "corpus")
    corpus.prepare()
    return corpus


def config(model: Path, **more: object) -> SampledCorpus:
    given = {"length": LENGTH, "sequences": 9000, "held_out": 4000, **more}
    return SampledCorpus(kind="sampled", model=str(model), **given)


def shares(speaker: Speaker) -> dict[tuple[int, ...], float]:
    """The probability of every sequence there can be, by one forward pass of each."""
    every = np.array(list(itertools.product(range(VOCABULARY), repeat=LENGTH)))
    tokens = np.column_stack([np.full(len(every), VOCABULARY - 1), every])
    with torch.inference_mode():
        logits = speaker.loaded.model(input_ids=torch.from_numpy(tokens)).logits.double()
    logs = (logits / speaker.temperature).log_softmax(-1)[:, :-1]
    picked = logs.gather(-1, torch.from_numpy(every)[:, :, None])[:, :, 0].sum(-1).exp()
    return dict(zip(map(tuple, every.tolist()), picked.tolist(), strict=True))


def test_sequences_come_as_often_as_the_speaker_says(spoken: Sampled) -> None:
    known = shares(spoken.speaker)
    assert sum(known.values()) == pytest.approx(1)
    drawn = spoken.batch(seed=0, step=1, sequences=9000, length=LENGTH + 1)
    assert (drawn[:, 0] == VOCABULARY - 1).all()
    counts = dict.fromkeys(known, 0)
    for row in drawn[:, 1:].tolist():
        counts[tuple(row)] += 1
    common = [key for key in known if 9000 * known[key] >= 5]
    seen = [*(counts[key] for key in common), 9000 - sum(counts[key] for key in common)]
    expected = [*(9000 * known[key] for key in common)]
    expected.append(9000 - sum(expected))
    assert len(common) > 50
    assert chisquare(seen, expected).pvalue > 1e-3


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_entropy_is_that_of_all_sequences(tmp_path: Path, temperature: float) -> None:
    corpus = Sampled(
        config(speaker(tmp_path / "speaker"), temperature=temperature), tmp_path / "corpus"
    )
    assert corpus.entropy_rate is None
    corpus.prepare()
    exact = -sum(p * np.log(p) for p in shares(corpus.speaker).values() if p) / LENGTH
    assert corpus._index.entropy_se < 0.01
    assert corpus.entropy_rate == pytest.approx(exact, abs=4 * corpus._index.entropy_se)


def test_the_speaker_loses_the_entropy_and_nobody_less(spoken: Sampled, tmp_path: Path) -> None:
    own = ModelScorer(spoken.speaker.loaded.model)
    assert spoken.validation_loss(own, LENGTH) == pytest.approx(spoken.entropy_rate, abs=1e-6)
    other = ModelScorer(Speaker(str(speaker(tmp_path, seed=1)), 1.0).loaded.model)
    assert spoken.validation_loss(other, LENGTH) > spoken.entropy_rate + 0.1


def test_the_loss_is_that_of_drawn_tokens_without_their_noise(
    spoken: Sampled, tmp_path: Path
) -> None:
    other = ModelScorer(Speaker(str(speaker(tmp_path, seed=1)), 1.0).loaded.model)
    drawn = spoken.batch(seed=3, step=1, sequences=9000, length=LENGTH + 1)
    nats = other.nats(drawn).mean(axis=1)
    error = nats.std() / np.sqrt(len(nats))
    assert spoken.validation_loss(other, LENGTH) == pytest.approx(nats.mean(), abs=5 * error)


def test_the_entropy_is_told_with_its_standard_error_once_it_was_drawn(
    spoken: Sampled, tmp_path: Path
) -> None:
    told = known_of(spoken, spoken.config.length)
    assert told.entropy_rate == told.floor == spoken.entropy_rate
    assert told.entropy_se is not None
    assert 0 < told.entropy_se < spoken.entropy_rate / 10
    assert told.unigram_entropy is None
    assert known_of(Sampled(spoken.config, tmp_path), 8) == Known()


def test_every_sequence_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    corpus = Sampled(
        config(speaker(tmp_path / "speaker"), sequences=60, repeat=2), tmp_path / "corpus"
    )
    corpus.prepare()
    first, second = (
        np.vstack([corpus.batch(5, step, 20, LENGTH + 1) for step in steps])
        for steps in ((1, 2, 3), (4, 5, 6))
    )
    rows = sorted(corpus._block(0).tolist())
    assert sorted(first.tolist()) == rows == sorted(second.tolist())
    assert first.tolist() != second.tolist()
    assert corpus.batch(6, 1, 20, LENGTH + 1).tolist() != first[:20].tolist()
    assert corpus.batch(5, 2, 20, LENGTH + 1, slice(4, 9)).tolist() == first[24:29].tolist()
    corpus.check(120, LENGTH + 1)
    with pytest.raises(InputError, match=r"needs 121 and 60 are drawn; .* repeat: 2\.02$"):
        corpus.check(121, LENGTH + 1)


def test_drawing_goes_on_where_it_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = config(speaker(tmp_path / "speaker"), sequences=9000, held_out=16)
    whole = Sampled(own, tmp_path / "whole")
    whole.prepare()
    cut = Sampled(own, tmp_path / "cut")
    draw, drawn = Speaker.draw, []

    def fails(self: Speaker, start: int, sequences: int, length: int, rng: object) -> object:
        drawn.append(sequences)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return draw(self, start, sequences, length, rng)

    monkeypatch.setattr(Speaker, "draw", fails)
    with pytest.raises(KeyboardInterrupt):
        cut.prepare()
    assert cut.entropy_rate is None
    cut.prepare()
    assert drawn == [4096, 4096, 808, 808, 16]
    names = sorted(path.name for path in (tmp_path / "whole").glob("*.npy"))
    assert len(names) == 4
    for name in [*names, "entropy.json"]:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_of_this_project_speaks_by_its_newest_checkpoint(tmp_path: Path) -> None:
    for step in (9, 100):
        speaker(tmp_path / "T1L" / "checkpoints" / f"step-{step}", seed=step)
    assert Speaker(str(tmp_path / "T1L"), 1.0).folder.name == "step-100"
    assert speaker_vocabulary(str(tmp_path / "T1L")) == VOCABULARY


def test_a_ladder_is_trained_on_what_a_speaker_says(tmp_path: Path, tiny_config: Path) -> None:
    document = yaml.safe_load(tiny_config.read_text())
    document["corpus"] = {
        "kind": "sampled",
        "model": str(speaker(tmp_path / "speaker")),
        "length": LENGTH,
        "sequences": 1100,
        "held_out": 64,
    }
    document["model"]["sequence_length"] = LENGTH
    document["ladder"] = {"sizes": ["a", "c", "big"], "tokens": [1_000, 4_000]}
    document["targets"] = []
    path, runs = tmp_path / "spoken.yaml", tmp_path / "runs"
    path.write_text(yaml.safe_dump(document))
    assert main(["train", str(path), "--runs", str(runs), "--engine", "here"]) == 0
    spoken = open_corpus(load_config(str(path)).corpus, runs / "corpus")
    for folder in ("a-1Kt", "big-4Kt"):
        rows = read_observations(runs / folder / "scores.parquet")
        assert set(rows["task"]) == {SAMPLED_VALIDATION}
        assert (rows["loss"] > spoken.floor(LENGTH)).all()


def test_mistakes_are_one_line(tmp_path: Path, spoken: Sampled) -> None:
    with pytest.raises(InputError, match="train the speaker first"):
        speaker_vocabulary(str(tmp_path))
    with pytest.raises(InputError, match=r"corpus.length: 4 must be model.sequence_length, 7$"):
        spoken.check(1, 8)
    own = speaker(tmp_path / "speaker")
    with pytest.raises(InputError, match=r"corpus.length: 9 is beyond the 8 tokens"):
        Sampled(config(own, length=9), tmp_path / "long").prepare()
    with pytest.raises(InputError, match=r"corpus.start: 5 is beyond the speaker's 5 tokens"):
        Sampled(config(own, start=5), tmp_path / "start").prepare()
    Sampled(config(own, sequences=9), tmp_path / "corpus").prepare()
    speaker(tmp_path / "speaker", seed=1)
    with pytest.raises(InputError, match="was drawn with another speaker; remove the folder"):
        Sampled(config(own, sequences=9), tmp_path / "corpus").prepare()
    damaged = next(iter((tmp_path / "corpus").glob("*-0.npy")))
    damaged.write_bytes(damaged.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"0\.npy: cannot be read"):
        Sampled(config(own, sequences=9), tmp_path / "corpus").batch(0, 1, 2, LENGTH + 1)
