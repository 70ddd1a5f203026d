"""A trained model that speaks: which it is, and sequences drawn from it with their entropy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluation.files import InputError, read_json, whole_digest

if TYPE_CHECKING:
    from evaluation.models import LoadedModel

Tokens = NDArray[np.int64]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """Sequences drawn from a speaker."""

    tokens: Tokens
    """(B, T + 1), the start first."""
    entropy: Array
    """Mean entropy of the token to come, nats per token, (B,): what no model can do better."""


class Speaker:
    """A model whose next token has the probabilities softmax(logits / temperature)."""

    def __init__(self, model: str, temperature: float) -> None:
        self.folder = model_folder(model)
        self.temperature = temperature

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model and its tokenizer, on a GPU where there is one."""
        import torch

        from evaluation.models import load_model

        return load_model(str(self.folder), device="cuda" if torch.cuda.is_available() else "cpu")

    def start(self) -> int:
        """The token that documents end with, or begin with; InputError where there is neither."""
        tokenizer = self.loaded.tokenizer
        for token in (tokenizer.eos_token_id, tokenizer.bos_token_id):
            if token is not None:
                return int(token)
        raise InputError(
            f"corpus.model {self.folder}: its tokenizer has no end or beginning of a document; "
            "name a token with corpus.start"
        )

    def digest(self) -> str:
        """Digest of the weights and of the config that they are read by."""
        files = [*sorted(self.folder.glob("*.safetensors")), self.folder / "config.json"]
        return hashlib.sha256("".join(map(whole_digest, files)).encode()).hexdigest()

    def draw(self, start: int, sequences: int, length: int, rng: np.random.Generator) -> Drawn:
        """Sequences of `length` tokens, each drawn after the start and all before it.

        Raises InputError for a model that keeps no keys and values to go on from, as hybrids.
        """
        import torch

        model = self.loaded.model
        tokens = np.full((sequences, length + 1), start, dtype=np.int64)
        entropy, past = np.zeros(sequences), None
        with torch.inference_mode():
            for place in range(length):
                last = torch.from_numpy(tokens[:, place : place + 1]).to(model.device)  # (B, 1)
                said: Any = model(input_ids=last, past_key_values=past, use_cache=True)
                past = getattr(said, "past_key_values", None)
                if past is None:
                    raise InputError(
                        f"corpus.model {self.folder}: {model.config.model_type} keeps no keys and "
                        "values; draw from a transformer"
                    )
                logs = self._logs(said.logits[:, -1])  # (B, V)
                shares = np.exp(logs)
                entropy -= (shares * logs).sum(axis=-1)
                cumulative = shares.cumsum(axis=-1)
                drawn = rng.random(sequences) * cumulative[:, -1]
                tokens[:, place + 1] = (cumulative <= drawn[:, None]).sum(axis=-1)
        return Drawn(tokens, entropy / length)

    def log_probabilities(self, tokens: Tokens) -> Array:
        """Log-probabilities (B, T, V), nats, of what follows each of the tokens (B, T)."""
        import torch

        model = self.loaded.model
        with torch.inference_mode():
            return self._logs(model(input_ids=torch.from_numpy(tokens).to(model.device)).logits)

    def _logs(self, logits: Any) -> Array:
        scaled = logits.double() / self.temperature
        return np.asarray(scaled.log_softmax(dim=-1).cpu().numpy())


def model_folder(model: str) -> Path:
    """The folder of a speaker's weights: the one given, or a run's newest checkpoint."""
    path = Path(model).expanduser()
    if (path / "config.json").is_file():
        return path
    steps = [p for p in (path / "checkpoints").glob("step-*") if (p / "config.json").is_file()]
    if not steps:
        raise InputError(
            f"corpus.model {model}: is neither a folder of a Hugging Face model nor a trained "
            "run's; train the speaker first, or give its folder"
        )
    return max(steps, key=lambda p: int(p.name.removeprefix("step-")))


def speaker_vocabulary(model: str) -> int:
    """Tokens that a speaker knows, by its config; no torch."""
    path = model_folder(model) / "config.json"
    found = read_json(path)
    size = found.get("vocab_size") if isinstance(found, dict) else None
    if not isinstance(size, int) or size < 1:
        raise InputError(f"{path}: says no vocab_size; draw from a causal language model")
    return size
