"""A tiny model with a tokenizer, saved as any Hugging Face model is, and a task for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from evaluation.tasks import Item, Task

TEXT = "Question: what is green? Answer: grass is green, the sky is blue and snow is white. " * 9
PROMPT = "Question: what is green? Answer: grass\n\nQuestion: "
TASK = Task(
    "colours",
    (
        Item("1", PROMPT + "what is blue? Answer:", (" the sky", " snow", " grass"), 0),
        Item("2", PROMPT + "what is white? Answer:", (" grass", " snow"), 1),
        Item("3", PROMPT + "sky? Answer:", (" é", " blue sky"), 1),
    ),
)
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def tokenizer() -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"]
    )
    raw.train_from_iterator([TEXT], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")


def saved(folder: Path, window: int = 256, sliding: bool = False) -> Path:
    torch.manual_seed(0)
    words = tokenizer()
    options = {**SHAPE, "vocab_size": len(words), "max_position_embeddings": window}
    if sliding:
        model = MistralForCausalLM(MistralConfig(**options, sliding_window=8))
    else:
        model = LlamaForCausalLM(LlamaConfig(**options))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4 if weight.dim() > 1 else 1)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def naive(model: PreTrainedModel, context: Sequence[int], choice: Sequence[int]) -> float:
    """Log-likelihood, nats, of a choice from one forward pass of one sequence."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*context, *choice]])).logits
    log_p = logits.double().log_softmax(-1)[0]
    return sum(float(log_p[len(context) + i - 1, t]) for i, t in enumerate(choice))
