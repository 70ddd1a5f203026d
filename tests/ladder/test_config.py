"""Configs are read strictly, and a mistake is named with a way to mend it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from evaluation.files import InputError
from ladder.config import differences, dump_config, find_config, load_config, parse_config


@pytest.fixture
def document() -> dict:
    return yaml.safe_load(find_config("quickstart").read_text())


def test_a_shipped_config_is_found_by_name_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config("quickstart").name == "quickstart"
    assert load_config("quickstart.yaml").name == "quickstart"
    with pytest.raises(InputError, match=r"shipped configs are olmo2, .*quickstart, .*text"):
        load_config("quickstrat")


def test_a_dumped_config_reads_back_the_same(tmp_path: Path) -> None:
    config = load_config("quickstart")
    path = tmp_path / "x.yaml"
    path.write_text(dump_config(config))
    assert load_config(str(path)) == config
    assert differences(config, load_config(str(path))) == []


def test_an_unknown_key_is_named_with_the_nearest_known_one(document: dict) -> None:
    document["recipe"]["weight_decy"] = 0.1
    with pytest.raises(InputError) as error:
        parse_config(document, "x.yaml")
    assert str(error.value) == (
        "x.yaml: recipe.weight_decy: unknown key; did you mean 'weight_decay'?"
    )


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("model", "sizes", "3K", "widht"), 3, "model.sizes.3K.widht: unknown key"),
        (("corpus", "tasks", 0, "itms"), 3, "did you mean 'items'?"),
        (("corpus", "kind"), "songs", "corpus.kind"),
        (("corpus", "nodes"), "many", r"corpus.nodes: .*'many'"),
        (("corpus", "gain"), float("nan"), "corpus.gain"),
        (("ladder", "sizes"), ["3K", "9K"], "size '9K' is not among model.sizes"),
        (("name",), "../evil", "name"),
        (("model", "sizes", "3K", "heads"), 3, "even multiple of heads"),
        (("corpus", "tasks", 0, "ratio"), [4, 2], "1 < low < high"),
        (("corpus", "tasks", 0, "answer_rank"), [1, 900], "beyond the graph's nodes"),
        (("corpus", "tasks", 1, "name"), "next_of_4", "same name"),
        (("evaluation", "at"), [1.5], "shares of the run"),
    ],
)
def test_a_bad_value_is_named_in_one_line(
    document: dict, path: tuple, value: object, problem: str
) -> None:
    section = document
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    with pytest.raises(InputError, match=problem) as error:
        parse_config(document, "x.yaml")
    assert "\n" not in str(error.value)


def test_a_missing_section_is_named(document: dict) -> None:
    del document["corpus"]
    with pytest.raises(InputError, match=r"x\.yaml: corpus: is missing; add it"):
        parse_config(document, "x.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\nseed: 1\nname: b\n", "name stands twice, in lines 1 and 3; keep one"),
        ("model:\n  sizes: {a: 1, a: 2}\n", "a stands twice, in line 2; keep one"),
    ],
)
def test_a_key_that_stands_twice_is_refused_rather_than_the_last_one_taken(
    text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        load_config(str(path))
    assert said in str(raised.value)
    assert str(path) in str(raised.value)


def test_keys_that_are_merged_or_of_two_sections_may_be_the_same(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    document = find_config("quickstart").read_text()
    path.write_text(document)
    assert load_config(str(path), ("recipe={<<: {betas: [0.9, 0.95]}, betas: [0.9, 0.98]}",))


def test_files_that_are_no_config_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: [")
    with pytest.raises(InputError, match="not readable as YAML"):
        load_config(str(path))
    path.write_text("just words")
    with pytest.raises(InputError, match="must hold keys and values"):
        load_config(str(path))


def test_settings_are_overridden_by_key_and_differences_are_named() -> None:
    plain = load_config("quickstart")
    changed = load_config("quickstart", ("corpus.seed=3", "recipe.weight_decay=0"))
    assert changed.corpus.seed == 3
    assert differences(plain, changed) == [
        "corpus.seed: 0 -> 3",
        "recipe.weight_decay: 0.1 -> 0.0",
    ]
    with pytest.raises(InputError, match="KEY=VALUE"):
        load_config("quickstart", ("corpus.seed",))
    with pytest.raises(InputError, match="did you mean 'seed'"):
        load_config("quickstart", ("corpus.sed=1",))
    with pytest.raises(InputError, match="no section"):
        load_config("quickstart", ("name.x=1",))
