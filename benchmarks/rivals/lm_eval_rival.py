"""lm-evaluation-harness as a rival: runs in its own environment, one JSON order a line on stdin.

    python benchmarks/rivals/lm_eval_rival.py MODEL

An order names a JSONL file of documents (context, choices without their leading space, gold) and a
batch size. The harness makes its own requests of them, HFLM scores them, and the harness's own
task tells what is right. The answer, a line on stdout, holds CPU seconds with and without
tokenisation, and for every document log-likelihoods, metrics and a digest of its tokens.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sys
import time
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

import torch
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM

METRICS = ("acc", "acc_norm", "acc_bytes")


class TimedHFLM(HFLM):
    """HFLM that remembers the tokens of its requests and the CPU seconds behind tokenisation."""

    seconds = 0.0
    tokens: list[tuple[list[int], list[int]]]

    def _loglikelihood_tokens(self, requests, *args, **kwargs):  # type: ignore[no-untyped-def]
        self.tokens = [(list(context), list(choice)) for _, context, choice in requests]
        begin = time.process_time()
        found = super()._loglikelihood_tokens(requests, *args, **kwargs)
        self.seconds = time.process_time() - begin
        return found


def main(folder: str) -> None:
    """Load the model, then answer orders until stdin ends."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    answers = sys.stdout
    # Whatever the harness prints must not end up among the answers.
    with contextlib.redirect_stdout(sys.stderr):
        model = TimedHFLM(pretrained=folder, device="cpu", dtype="float32", batch_size=1)
        print(json.dumps({"weights": weights_digest(model.model)}), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(model, json.loads(line))), file=answers, flush=True)


def answer(model: TimedHFLM, order: dict[str, Any]) -> dict[str, Any]:
    """Score one file of documents."""
    task = ConfigurableTask(
        config={
            "task": order["task"],
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": order["documents"]}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "context",
            "doc_to_choice": "choices",
            "doc_to_target": "gold",
            "target_delimiter": " ",
            "metric_list": [{"metric": metric} for metric in METRICS],
        }
    )
    task.build_all_requests()
    model.batch_size_per_gpu = order["batch"]
    begin = time.process_time()
    with torch.inference_mode():
        scores = model.loglikelihood(task.instances, disable_tqdm=True)
    seconds = time.process_time() - begin
    documents: dict[int, list[int]] = {}
    for place, request in enumerate(task.instances):
        documents.setdefault(request.doc_id, []).append(place)
    found = []
    for number, doc in enumerate(task.test_docs()):
        own = documents[number]
        metrics = task.process_results(doc, [scores[place] for place in own])
        found.append(
            {
                "log_likelihoods": [scores[place][0] for place in own],
                "tokens": digest([model.tokens[place] for place in own]),
                "metrics": {name: float(metrics[name]) for name in METRICS},
            }
        )
    return {"seconds": seconds, "scoring_seconds": model.seconds, "documents": found}


def digest(tokens: list[tuple[list[int], list[int]]]) -> str:
    """What tells a document's tokens from others."""
    return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()[:16]


def weights_digest(model: torch.nn.Module) -> str:
    """SHA-256 of all weights as they are used."""
    total = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        total.update(name.encode() + weight.detach().numpy().tobytes())
    return total.hexdigest()


if __name__ == "__main__":
    main(sys.argv[1])
