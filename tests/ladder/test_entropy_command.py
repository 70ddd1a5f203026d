"""The command `ladder entropy`: its table, its JSON, and one clear line for a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ladder.cli import main
from ladder.config import load_config
from ladder.corpora.walks import Walks

KEYS = {
    *("version", "name", "kind", "vocabulary", "nodes", "edges", "transitions", "start", "length"),
    *("entropy_rate", "floor", "unigram_entropy", "bigram_entropy", "stationary_entropy"),
    *("uniform_entropy", "period", "second_eigenvalue", "relaxation_time"),
    *("mixing_time", "mixing_time_reason"),
}


def test_the_document_holds_what_is_known_of_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["entropy", "origins-er", "--json", "--out", "found.csv"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == KEYS
    assert found["version"] == 1
    assert (found["edges"], found["transitions"]) == (found["transitions"] / 2, 2 * found["edges"])
    assert found["floor"] == found["entropy_rate"] < np.log(found["nodes"])
    assert pd.read_csv("found.csv")["entropy_rate"].tolist() == [found["entropy_rate"]]
    # Nothing was written but what was asked for.
    assert [path.name for path in tmp_path.iterdir()] == ["found.csv"]


def test_the_table_tells_the_quick_starts_entropy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["entropy", "quickstart"]) == 0
    printed = capsys.readouterr().out
    rate = Walks(load_config("quickstart").corpus).entropy_rate
    for words in (f"{rate:.6f}", "mixing time", "256", f"{np.log(256):.6f}"):
        assert words in printed


def test_a_uniform_start_has_a_floor_of_its_own_and_a_tree_never_mixes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = "corpus={kind: graph, barabasi_albert: {nodes: 50, attach: 1}, start: uniform}"
    assert main(["entropy", "quickstart", "--set", tree, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["floor"] != found["entropy_rate"]
    assert (found["period"], found["relaxation_time"]) == (2, None)
    assert main(["entropy", "quickstart", "--set", tree]) == 0
    assert "never, for it is periodic" in capsys.readouterr().out


def test_a_language_is_counted_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("\n\n".join(f"word {n} and word" for n in range(300)))
    of = (
        "{kind: text, tokenizer: bytes, held_out: 0.1, "
        'sources: [{name: a, files: [text.txt], separator: "\\n\\n"}]}'
    )
    sets = ["--set", f"corpus={{kind: ngram, of: {of}}}"]
    assert main(["entropy", "quickstart", *sets, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["entropy_rate"] < found["unigram_entropy"] < np.log(found["nodes"])


def test_a_corpus_whose_entropy_is_not_known_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["entropy", "text"]) == 2
    error = capsys.readouterr().err
    assert "the entropy of a corpus of kind text is not known exactly" in error
    assert error.count("\n") == 1
