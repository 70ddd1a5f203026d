"""A Hugging Face model with its tokenizer: loaded as data, known by its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_model import SHAPE, TASK, saved, tokenizer
from tokenizers import Tokenizer, models
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertLMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    PreTrainedTokenizerFast,
)

from evaluation.files import InputError
from evaluation.fingerprints import fingerprint
from evaluation.models import LoadedModel, check_kernels, load_model


def test_what_cannot_be_loaded_or_scored_is_named(tmp_path: Path) -> None:
    loaded = load_model(str(saved(tmp_path / "m")))
    small = LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=50))
    with pytest.raises(InputError, match="beyond the model's vocabulary of 50"):
        LoadedModel(small, loaded.tokenizer).encode(TASK)
    with pytest.raises(InputError, match="holds no config"):
        load_model(str(tmp_path))
    with pytest.raises(InputError, match="there are float32"):
        load_model(str(tmp_path / "m"), dtype="int3")
    with pytest.raises(InputError, match="--device moon"):
        load_model(str(tmp_path / "m"), device="moon")
    (tmp_path / "m" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(str(tmp_path / "m"))


def test_the_window_is_the_models(tmp_path: Path) -> None:
    assert load_model(str(saved(tmp_path, window=10))).encode(TASK).cut == 3


def test_a_context_stands_behind_what_the_tokenizer_puts_there() -> None:
    words = tokenizer()
    raw = words.backend_tokenizer
    raw.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    both = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    encoder = LoadedModel(None, both).encoder  # type: ignore[arg-type]
    (bare,) = encoder.plain(["the sky"])
    # BOS before it, no EOS behind it, since it goes on; and no second BOS.
    assert encoder.opening(["the sky", "<s>the sky", ""]) == [[0, *bare], [0, *bare], [0]]
    assert encoder.opening([""]) == [[]]
    assert encoder.start == 0


@pytest.mark.parametrize(("bos", "eos", "start"), [(None, "</s>", 1), (None, None, None)])
def test_without_bos_a_sequence_starts_with_eos_or_nothing(
    bos: str | None, eos: str | None, start: int | None
) -> None:
    words = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer().backend_tokenizer, bos_token=bos, eos_token=eos
    )
    encoder = LoadedModel(None, words).encoder  # type: ignore[arg-type]
    assert encoder.start == start
    assert encoder.opening(["sky"]) == encoder.plain(["sky"])


def test_other_weights_of_the_same_shape_are_another_model(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    known = fingerprint(folder)
    assert fingerprint(saved(tmp_path / "same")) == known
    loaded = load_model(str(folder))
    with torch.no_grad():
        next(loaded.model.parameters()).add_(0.5)
    loaded.model.save_pretrained(folder)
    assert fingerprint(folder) != known


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    folder, said = saved(tmp_path / "m"), tmp_path / "ran"
    config = (folder / "config.json").read_text()
    mapped = '{"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},'
    config = config.replace('"model_type": "llama"', '"model_type": "evil"').replace("{", mapped, 1)
    (folder / "config.json").write_text(config)
    (folder / "evil.py").write_text(f"open({str(said)!r}, 'w').close()\n")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(str(folder))
    assert not said.exists()


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"holds no weights for model\.layers\.1\.mlp\.up_proj"):
        load_model(str(folder))
    (folder / "model.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(str(folder))


def test_a_model_whose_weights_are_no_numbers_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="says NaN of tokens 0, 1 and 2; its weights are damaged"):
        load_model(str(folder))


def test_a_model_that_looks_ahead_is_refused(tmp_path: Path) -> None:
    words = tokenizer()
    shape = {k: v for k, v in SHAPE.items() if k != "num_key_value_heads"}
    BertLMHeadModel(BertConfig(**shape, vocab_size=len(words))).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is no causal language model"):
        load_model(str(tmp_path))


def test_a_text_that_the_tokenizer_cannot_read_is_an_error_of_one_line() -> None:
    raw = Tokenizer(models.WordLevel({"sky": 0}, unk_token=None))
    words = PreTrainedTokenizerFast(tokenizer_object=raw)
    with pytest.raises(InputError, match="the tokenizer cannot read this text"):
        LoadedModel(None, words).encoder.plain(["snow"])  # type: ignore[arg-type]


def test_kernels_that_need_a_gpu_are_named_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Mamba2Config(
        hidden_size=8, num_hidden_layers=1, num_heads=2, head_dim=8, n_groups=1, vocab_size=32
    )
    model = Mamba2ForCausalLM(config)
    check_kernels(model, "--device")
    (tmp_path / "causal_conv1d.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"^--device cpu: transformers takes causal_conv1d for"):
        check_kernels(model, "--device")
    check_kernels(load_model(str(saved(tmp_path / "llama"))).model, "--device")
