"""Hugging Face models from a config, with seeded initial weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from evaluation.files import InputError
from ladder.mup import Factors
from ladder.settings import Model
from ladder.shapes import Shape

if TYPE_CHECKING:
    import torch
    from torch import nn
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

    `attention` is one of execution.attention; raises InputError where its package is missing, or
    the architecture has no attention. `factors`, by a parameter's name, are those of a
    parametrisation.
    """
    import torch
    from transformers import AutoModelForCausalLM

    own = hugging_face_config(config, shape, vocabulary)
    if not shape.heads:
        if attention != "sdpa":
            raise InputError(f"execution.attention {attention}: {own.model_type} has no attention")
        attention = "eager"  # What transformers calls having none.
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
        for module in model.modules():
            if hasattr(module, "A_log"):
                _start_scan(module, generator)
        for name, weight in model.named_parameters():
            if weight.ndim < 2:
                continue
            scale = factors.get(name, Factors()).init
            if config.init == "normal" and weight.ndim == 2:
                std = config.init_std * scale
                torch.nn.init.trunc_normal_(
                    weight, 0.0, std, -3 * std, 3 * std, generator=generator
                )
                continue
            std = weight[0].numel() ** -0.5  # Fan-in; of a convolution, its tokens.
            if weight is model.get_input_embeddings().weight:
                std = config.embedding_std
            elif weight is model.get_output_embeddings().weight:
                std *= config.head_scale
            weight.normal_(0, std * scale, generator=generator)
    return model


@contextmanager
def scoring_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within it, sdpa in the place of flash attention.

    Scores are computed in fp32, but for execution.precision bf16 under fsdp, and packed rows bring
    a mask; flash attention takes neither.
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


def freeze_norms(model: PreTrainedModel) -> None:
    """Have the gains of all norms stay as they are, out of every optimizer."""
    for module in model.modules():
        if "Norm" in type(module).__name__:
            module.weight.requires_grad_(False)


def _start_scan(module: nn.Module, generator: torch.Generator) -> None:
    """Initial A, D and dt of a state space as its authors draw them (state-spaces/mamba, Mamba2).

    A uniform between -16 and -1, dt log-uniform between 0.001 and 0.1, behind a softplus. What
    transformers puts there differs between its architectures, follows the global seed, or lets a
    head's memory shrink with the number of heads.
    """
    module.A_log.uniform_(1, 16, generator=generator).log_()
    module.D.fill_(1.0)
    dt = module.dt_bias.uniform_(math.log(1e-3), math.log(0.1), generator=generator).exp_()
    dt.expm1_().log_()  # The inverse of softplus.


def hugging_face_config(config: Model, shape: Shape, vocabulary: int) -> PretrainedConfig:
    """The Hugging Face config of a size; biases and norms keep their own initial values."""
    from transformers import AutoConfig

    options: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        # A state space has no such bound: what it is scored on is cut as for other models.
        "max_position_embeddings": config.sequence_length,
        "tie_word_embeddings": False,
        "use_cache": False,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    architecture = config.built_as
    if shape.heads:
        options["intermediate_size"] = shape.hidden
        options["num_attention_heads"] = shape.heads
        options["rope_parameters"] = {"rope_type": "default", "rope_theta": config.rope_theta}
        if architecture != "gpt_neox":
            options["num_key_value_heads"] = shape.keys
        if architecture == "qwen3" or shape.head_width:
            options["head_dim"] = shape.head
    if architecture == "mamba2":
        options["layer_norm_epsilon"] = config.norm_eps
    elif architecture == "gpt_neox":
        options["layer_norm_eps"] = config.norm_eps
    else:
        options["rms_norm_eps"] = config.norm_eps
    if shape.ssm:
        options |= _mixer_options(shape, architecture, config.sequence_length)
    return AutoConfig.for_model(architecture, **options)


def _mixer_options(shape: Shape, architecture: str, sequence_length: int) -> dict[str, Any]:
    """What the Hugging Face config of mamba2 or falcon_h1 says of its state-space mixer."""
    mixer = shape.mixer
    # A chunk beyond the sequence would be padding.
    chunk = min(mixer.chunk, 1 << (sequence_length - 1).bit_length())
    if architecture == "mamba2":
        return {
            "num_heads": mixer.heads,
            "head_dim": mixer.head_width,
            "expand": mixer.inner // shape.width,
            "state_size": mixer.state,
            "n_groups": mixer.groups,
            "conv_kernel": mixer.conv,
            "chunk_size": chunk,
        }
    multipliers = ("embedding", "lm_head", "key", "attention_in", "attention_out", "ssm_in")
    return {
        "mamba_n_heads": mixer.heads,
        "mamba_d_head": mixer.head_width,
        "mamba_d_ssm": mixer.inner,
        "mamba_d_state": mixer.state,
        "mamba_n_groups": mixer.groups,
        "mamba_d_conv": mixer.conv,
        "mamba_chunk_size": chunk,
        "mamba_rms_norm": False,
        **{f"{name}_multiplier": 1.0 for name in (*multipliers, "ssm_out")},
        "mlp_multipliers": [1.0] * 2,
        "ssm_multipliers": [1.0] * 5,
    }
