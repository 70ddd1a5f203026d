"""Hugging Face models from a config, with seeded initial weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from evaluation.files import InputError
from ladder.mup import Factors
from ladder.settings import Model
from ladder.shapes import Shape

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def build_model(
    config: Model,
    shape: Shape,
    vocabulary: int,
    seed: int,
    attention: str = "sdpa",
    factors: Mapping[str, Factors] = MappingProxyType({}),
) -> PreTrainedModel:
    """A model of the config's architecture with seeded initial weights, fp32, untied.

    `attention` is one of execution.attention; raises InputError where its package is missing.
    `factors`, by a parameter's name, are those of a parametrisation.
    """
    import torch
    from transformers import AutoModelForCausalLM

    own = hugging_face_config(config, shape, vocabulary)
    try:
        model = AutoModelForCausalLM.from_config(own, attn_implementation=attention)
    except (ImportError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"execution.attention {attention}: cannot be used ({reason}); install its package, "
            "such as flash-attn, or take sdpa"
        ) from error
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim < 2:
                continue
            scale = factors.get(name, Factors()).init
            if config.init == "normal":
                std = config.init_std * scale
                torch.nn.init.trunc_normal_(
                    weight, 0.0, std, -3 * std, 3 * std, generator=generator
                )
                continue
            std = weight.shape[1] ** -0.5
            if weight is model.get_input_embeddings().weight:
                std = config.embedding_std
            elif weight is model.get_output_embeddings().weight:
                std *= config.head_scale
            weight.normal_(0, std * scale, generator=generator)
    return model


@contextmanager
def scoring_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within it, sdpa in the place of flash attention.

    Scores are computed in fp32 and packed rows bring a mask; flash attention takes neither.
    """
    before = model.config._attn_implementation
    if before in ("sdpa", "eager"):
        yield
        return
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def hugging_face_config(config: Model, shape: Shape, vocabulary: int) -> PretrainedConfig:
    """The Hugging Face config of a size; biases and norms keep their own initial values."""
    from transformers import AutoConfig

    options: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": config.sequence_length,
        "tie_word_embeddings": False,
        "use_cache": False,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
    }
    if config.architecture == "gpt_neox":
        options["layer_norm_eps"] = config.norm_eps
    else:
        options["num_key_value_heads"] = shape.keys
        options["rms_norm_eps"] = config.norm_eps
    if config.architecture == "qwen3":
        options["head_dim"] = shape.width // shape.heads
    return AutoConfig.for_model(config.architecture, **options)
