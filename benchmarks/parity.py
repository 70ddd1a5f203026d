"""Holds our scores to those of lm-evaluation-harness and of AI2's in-loop evaluation.

    python benchmarks/parity.py [--folder FOLDER] [--lm-eval PYTHON] [--olmo-eval PYTHON]

See benchmarks/rivals.py for the options, the environments and the model. Writes what the rivals
gave to benchmarks/results/parity.json, to which tests/evaluation/test_parity.py holds every later
version, and prints what benchmarks/parity.md holds; fails where a score is too far from a rival's.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rivals
import torch

from evaluation.choices import ChoiceScores, ItemScores
from evaluation.encoding import EncodedTask
from evaluation.metrics import measure
from evaluation.models import load_model
from evaluation.scoring import score_task

RESULTS = Path(__file__).parent / "results" / "parity.json"
DOCUMENTS = {
    "arc_easy_val_rc_5shot": (*range(60), 98, 109),
    "hellaswag_val_rc_5shot": tuple(range(30)),
}
"""By number. What is right in 98 and 109 depends on whether the space before a choice counts."""
TOLERANCE = 1e-4
"""Nats by which a choice's log-likelihood may differ, all sides in fp32."""

CLOSE = 1e-5
"""By which a metric may differ that is no matter of right or wrong."""

BATCH = 8
ACCURACIES = ("acc", "acc_norm", "acc_bytes", "len_norm_v1", "len_norm_v2")
"""The rivals' metrics that are right or wrong, and so must be equal."""

Metric = Callable[[ItemScores, Mapping[str, float]], float]
MATCHES: dict[str, dict[str, tuple[str, Metric]]] = {
    "lm-eval": {
        "acc": ("acc", lambda item, own: own["acc"]),
        "acc_norm": ("acc_per_char", lambda item, own: own["acc_per_char"]),
        "acc_bytes": ("acc_per_byte", lambda item, own: own["acc_per_byte"]),
    },
    "olmo-eval": {
        "bpb_v1": ("bpb", lambda item, own: own["bpb"]),
        "bpb_v2": ("bpb_v2", lambda item, own: own["bpb_v2"]),
        "acc": ("acc", lambda item, own: own["acc"]),
        # Both of its versions count the space before a choice; our acc_per_char does not.
        "len_norm_v1": ("acc per char and space", lambda item, own: per_char_and_space(item)),
        "len_norm_v2": ("acc per char and space", lambda item, own: per_char_and_space(item)),
        "soft_v1": ("soft", lambda item, own: own["soft"]),
        "soft_log_v1": ("-task_ce", lambda item, own: -own["task_ce"]),
        "ce_loss_v1": ("nats per char", lambda item, own: nats_per_char(item)),
    },
}
"""By rival, its metric: what it is of ours, and how that is got from an item and our metrics."""


def main() -> None:
    """Ask everybody, compare, write and print."""
    options = rivals.arguments()
    pythons = rivals.environments(options)
    folder = options.folder / "model"
    weights = rivals.make_model(folder)
    recorded: dict[str, Any] = {
        "model": {**rivals.recipe(), "weights": weights},
        "versions": rivals.versions(),
        "tasks": {},
    }
    ours: dict[str, tuple[EncodedTask, ChoiceScores]] = {}
    torch.set_num_threads(1)
    model = load_model(str(folder))
    recorded["model"]["parameters"] = model.model.num_parameters()
    for name, numbers in DOCUMENTS.items():
        encoded = model.encode(rivals.documents(name, numbers))
        ours[name] = encoded, score_task(model.model, encoded)
        documents = [{"id": item.id} for item in encoded.task.items]
        recorded["tasks"][name] = {"digest": encoded.task.digest(), "documents": documents}
    for rival in (rivals.start(name, python, folder) for name, python in pythons.items()):
        if rival.weights != weights:
            raise SystemExit(f"{rival.name} has other weights, {rival.weights}")
        for name, (encoded, _) in ours.items():
            path = rivals.write_documents(encoded.task, options.folder / f"{name}.jsonl")
            numbers = DOCUMENTS[name]
            answer = rival.ask(
                task=name, documents=str(path), numbers=numbers, batch=BATCH, raw=True
            )
            rows = recorded["tasks"][name]["documents"]
            for row, found in zip(rows, answer["documents"], strict=True):
                row[rival.name] = rounded(found)
        rival.close()
    RESULTS.write_text(as_lines(recorded))
    failed = report(recorded, ours)
    sys.exit(failed)


def report(
    recorded: Mapping[str, Any], ours: Mapping[str, tuple[EncodedTask, ChoiceScores]]
) -> str | None:
    """Print the tables; the reason where anything is not as it must be."""
    print("`python benchmarks/parity.py`\n")
    model = recorded["model"]
    size = f"{model['parameters'] / 1e6:.1f}M parameters"
    print(f"An OLMo-2 of {size} from seed {model['seed']}, GPT-NeoX-20b tokenizer, fp32, CPU.\n")
    print(*(f"- {name}: {held}" for name, held in recorded["versions"].items()), sep="\n")
    print("\n| task | documents | choices | rival | same tokens | largest difference, nats |")
    print("| --- | --- | --- | --- | --- | --- |")
    failed = None
    for name, (encoded, scores) in ours.items():
        for rival in MATCHES:
            rows = [row[rival] for row in recorded["tasks"][name]["documents"]]
            own = rivals.token_digests(encoded)
            same = sum(a == row["tokens"] for a, row in zip(own, rows, strict=True))
            off = largest_difference(scores, rows)
            choices = sum(len(item.log_likelihoods) for item in scores.items)
            counts = f"{len(rows)} | {choices} | {rival} | {same} of {len(own)}"
            print(f"| {name} | {counts} | {off:.1e} |")
            if same < len(own) or off >= TOLERANCE:
                failed = f"{name}: {rival} differs"
    print(
        "\n| task | rival's metric | ours | rival | task-ladder | largest difference, a document |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (_, scores) in ours.items():
        for rival, metrics in MATCHES.items():
            rows = [row[rival] for row in recorded["tasks"][name]["documents"]]
            for theirs, (label, _) in metrics.items():
                pairs = np.array(metric_pairs(scores, rows, rival, theirs))
                off = np.abs(pairs[:, 0] - pairs[:, 1]).max()
                mine, other = pairs.mean(axis=0)
                values = f"{other:.6f} | {mine:.6f} | {off:.1e}"
                print(f"| {name} | {rival} {theirs} | {label} | {values} |")
                if off > (0 if theirs in ACCURACIES else CLOSE):
                    failed = f"{name}: {rival}'s {theirs} differs"
    print()
    for name, (_, scores) in ours.items():
        flips = sum(
            per_char_and_space(item)
            != measure(replace(scores, items=(item,)))["acc_per_char"].value
            for item in scores.items
        )
        print(
            f"- {name}: counting the space before a choice turns {flips} of {len(scores.items)} "
            "documents from right to wrong or back."
        )
    return failed


def largest_difference(scores: ChoiceScores, rows: list[Mapping[str, Any]]) -> float:
    """The largest difference of a choice's log-likelihood, nats."""
    return max(
        abs(mine - theirs)
        for item, row in zip(scores.items, rows, strict=True)
        for mine, theirs in zip(item.log_likelihoods, row["log_likelihoods"], strict=True)
    )


def metric_pairs(
    scores: ChoiceScores, rows: list[Mapping[str, Any]], rival: str, metric: str
) -> list[tuple[float, float]]:
    """Of every document our value and the rival's of one of its metrics."""
    found = []
    for item, row in zip(scores.items, rows, strict=True):
        own = {name: v.value for name, v in measure(replace(scores, items=(item,))).items()}
        found.append((MATCHES[rival][metric][1](item, own), row["metrics"][metric]))
    return found


def per_char_and_space(item: ItemScores) -> float:
    """Accuracy where the space before a choice is one of its characters."""
    length = np.array(item.characters) + np.array(item.spaces)
    return float(int(np.argmax(np.array(item.log_likelihoods) / length)) == item.gold)


def nats_per_char(item: ItemScores) -> float:
    """Cross-entropy of the right answer, over its characters without the space."""
    return -item.log_likelihoods[item.gold] / item.characters[item.gold]


def rounded(found: Mapping[str, Any]) -> dict[str, Any]:
    """A rival's document to nine digits, all that fp32 has."""
    return {
        "tokens": found["tokens"],
        "log_likelihoods": [digits(value) for value in found["log_likelihoods"]],
        "metrics": {name: digits(value) for name, value in found["metrics"].items()},
    }


def digits(value: float) -> float:
    """Nine significant digits."""
    return float(f"{value:.9g}") if math.isfinite(value) else value


def as_lines(recorded: Mapping[str, Any]) -> str:
    """The JSON with a line for each document, so that a change shows as one."""
    text = json.dumps({**recorded, "tasks": {}}, indent=1)[:-4]
    tasks = []
    for name, task in recorded["tasks"].items():
        lines = ",\n".join("   " + json.dumps(document) for document in task["documents"])
        tasks.append(
            f'\n  {json.dumps(name)}: {{"digest": {json.dumps(task["digest"])}, "documents": [\n'
            f"{lines}]}}"
        )
    return text + "{" + ",".join(tasks) + "\n }\n}\n"


if __name__ == "__main__":
    main()
