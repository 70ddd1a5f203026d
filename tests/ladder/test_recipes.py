"""Several recipes and seeds in one config: planned, trained and told apart."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from command_line import fails

from evaluation.files import InputError, read_json
from evaluation.records import read_observations, write_observations
from ladder import pipeline
from ladder.cli import main
from ladder.config import dump_config, load_config, parse_config
from ladder.plan import make_plan
from ladder.recipes_result import RecipesResult
from ladder.runs import RunsFolder
from predict.audit import audit
from predict.compare import compare, measured_targets
from predict.two_stage import TwoStage

RECIPES = {"adamw": {}, "muon": {"optimizer": "muon", "muon": {"ns_steps": 3}}}


@pytest.fixture
def document(tiny_config: Path) -> dict:
    return {**yaml.safe_load(tiny_config.read_text()), "recipes": RECIPES, "seeds": [0, 3]}


def test_a_recipe_is_the_base_with_the_fields_that_it_names_changed(document: dict) -> None:
    document["recipe"] = {**document["recipe"], "muon": {"momentum": 0.8}, "weight_decay": 0.3}
    config = parse_config(document, "x.yaml")
    assert config.recipes["adamw"] == config.recipe
    muon = config.recipes["muon"]
    assert (muon.optimizer, muon.muon.ns_steps) == ("muon", 3)
    assert (muon.muon.momentum, muon.weight_decay, muon.batch_divisor) == (0.8, 0.3, 20)


def test_a_dumped_config_of_recipes_reads_back_the_same(document: dict) -> None:
    config = parse_config(document, "x.yaml")
    again = parse_config(yaml.safe_load(dump_config(config)), "y.yaml")
    assert again == config
    assert make_plan(again) == make_plan(config)


def test_a_name_with_nothing_behind_it_is_the_base(document: dict) -> None:
    document["recipes"] = {**RECIPES, "adamw": None}
    assert parse_config(document, "x.yaml") == parse_config(
        {**document, "recipes": RECIPES}, "x.yaml"
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"recipes": {"adamw": {}, "muon": {"optimzer": "muon"}}},
            "recipes.muon.optimzer: unknown key; did you mean 'optimizer'?",
        ),
        (
            {"recipes": {"adamw": {}, "muon": {"muon": {"ns_step": 3}}}},
            "recipes.muon.muon.ns_step: unknown key; did you mean 'ns_steps'?",
        ),
        (
            {"recipes": {"a": {"weight_decay": -1}, "b": {}}},
            "recipes.a.weight_decay: Input should be greater than or equal to 0 (given -1)",
        ),
        (
            {"recipes": RECIPES, "recipe": {"weight_decy": 1}},
            "recipe.weight_decy: unknown key; did you mean 'weight_decay'?",
        ),
        ({"recipes": {"a": {}, "b": {}}}, "recipes: a and b are the same; change one"),
        ({"recipes": {"a b": {}}}, "recipes.a b.[key]: String should match pattern"),
        ({"recipes": ["adamw"]}, "recipes: Input should be a valid dictionary"),
        ({"recipes": {"a": 3}}, "recipes.a: Input should be a valid dictionary"),
        ({"seeds": [0, 0]}, "seeds: 0 is given twice"),
        ({"seeds": [-1]}, "seeds.0: Input should be greater than or equal to 0"),
        (
            {"recipes": {"a": {}, "b": {"parametrisation": "mup", "mup_base": "d"}}},
            "recipes.b: size 'd' is not among model.sizes",
        ),
        (
            {"recipes": {"a": {}, "b": {"parametrisation": "mup"}}},
            "recipes.b: recipe.parametrisation mup: head width of size b is 6",
        ),
    ],
)
def test_a_mistake_in_recipes_is_one_line_that_names_it(
    document: dict, changes: dict, problem: str
) -> None:
    with pytest.raises(InputError) as error:
        parse_config({**document, **changes}, "x.yaml")
    assert (
        str(error.value).removeprefix("x.yaml: ").removeprefix("the config: ").startswith(problem)
    )
    assert "\n" not in str(error.value)
    assert " more)" not in str(error.value)


def test_rungs_are_named_by_recipe_and_seed_where_there_are_several(document: dict) -> None:
    def names(**changes: object) -> list[str]:
        plan = make_plan(parse_config({**document, **changes}, "x.yaml"))
        return [run.name for run in plan.runs]

    assert names(recipes={}, seeds=[])[0] == "a-1xC"
    assert names(seeds=[])[0] == "a-1xC-adamw"
    assert names(recipes={})[0] == "a-1xC-s0"
    both = names()
    assert both[0] == "a-1xC-adamw-s0"
    assert both[-1] == "big-4xC-muon-s3"
    assert len(both) == len(set(both)) == 2 * 2 * 10


def test_a_rung_of_a_recipe_and_seed_is_the_rung_of_the_config_that_has_only_those(
    document: dict,
) -> None:
    config = parse_config(document, "x.yaml")
    alone = {**document, "recipes": {}, "seeds": [], "seed": 3}
    alone["recipe"] = {**document["recipe"], **RECIPES["muon"]}
    one = parse_config(alone, "y.yaml")
    rung = make_plan(config).run("b-2xC-muon-s3")
    only = make_plan(one).run("b-2xC")
    assert config.of(rung) == one
    assert rung.describe() | {"name": ""} == only.describe() | {"name": ""}
    assert rung.stream == only.stream == "b-2xC"
    assert one.of(only) == one


def test_trunks_belong_to_a_recipe_and_a_seed_and_share_batches_by_size(document: dict) -> None:
    document["recipes"] = {"adamw": {"schedule": "wsd"}, "muon": {"optimizer": "muon"}}
    plan = make_plan(parse_config(document, "x.yaml"))
    assert [t.name for t in plan.trunks][:2] == ["a-trunk-adamw-s0", "b-trunk-adamw-s0"]
    assert {t.recipe for t in plan.trunks} == {"adamw"}
    for rung in plan.rungs:
        if rung.recipe == "adamw":
            assert rung.trunk is not None
            assert rung.trunk in plan.trunks
            assert (rung.trunk.seed, rung.stream) == (rung.seed, f"{rung.size}-trunk")
        else:
            assert rung.trunk is None


def test_a_target_that_is_not_trained_is_planned_once_a_recipe(document: dict) -> None:
    document["targets"] = [{"size": "big", "multiple": 4}]
    plan = make_plan(parse_config(document, "x.yaml"))
    assert [t.name for t in plan.targets] == ["big-4xC-adamw", "big-4xC-muon"]
    alone = make_plan(parse_config({**document, "recipes": {}, "seeds": []}, "x.yaml"))
    # Two seeds of each rung cost twice.
    assert plan.share_of_target == {
        name: pytest.approx(2 * alone.share_of_target["big-4xC"]) for name in plan.share_of_target
    }


def test_patterns_choose_runs_and_one_that_matches_none_names_a_few(document: dict) -> None:
    plan = make_plan(parse_config(document, "x.yaml"))
    assert [r.name for r in plan.matching(["a-1xC-*-s0", "a-1xC-adamw-s0"])] == [
        "a-1xC-adamw-s0",
        "a-1xC-muon-s0",
    ]
    with pytest.raises(InputError, match=r"rung '9B-\*': not trained .* and 20 more$"):
        plan.matching(["a-1xC-*", "9B-*"])


@pytest.fixture(scope="module")
def trained(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole experiment of two recipes and two seeds, by the command."""
    folder = tmp_path_factory.mktemp("recipes")
    document = yaml.safe_load(tiny_config.read_text())
    document |= {"name": "two", "recipes": RECIPES, "seeds": [0, 3]}
    document["ladder"] = {"sizes": ["a", "b", "c"], "multiples": [1, 2], "tokens_per_param": 10}
    document["recipe"] = {"batch_divisor": 6}
    document["evaluation"] = {"at": [0.9]}
    (folder / "two.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    assert main(["run", str(folder / "two.yaml"), "--runs", str(folder / "runs")]) == 0
    return folder


def test_every_row_says_its_recipe_and_seed(trained: Path) -> None:
    table = read_observations(trained / "runs" / "observations.parquet")
    assert set(table["recipe"]) == {"adamw", "muon"}
    assert set(table["seed"]) == {0, 3}
    for run, rows in table.groupby("run"):
        first = rows.iloc[0]
        assert str(run).endswith(f"-{first['recipe']}-s{first['seed']}")
    manifest = read_json(trained / "runs" / "a-1xC-muon-s3" / "manifest.json")
    assert (manifest["recipe"], manifest["seed"]) == ("muon", 3)


def test_a_run_among_recipes_is_bit_for_bit_the_run_of_a_config_of_its_own(
    trained: Path, tmp_path: Path
) -> None:
    document = yaml.safe_load((trained / "two.yaml").read_text())
    document |= {"recipe": {**document["recipe"], **RECIPES["muon"]}, "seed": 3}
    del document["recipes"], document["seeds"]
    config = parse_config(document, "alone.yaml")
    pipeline.train(config, tmp_path / "alone", ("a-1xC",), engine="here")
    measured = ["step", "task", "loss", "accuracy"]
    one = read_observations(tmp_path / "alone" / "a-1xC" / "scores.parquet")[measured]
    other = read_observations(trained / "runs" / "a-1xC-muon-s3" / "scores.parquet")[measured]
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_each_recipe_is_fitted_by_itself_and_all_are_compared(trained: Path) -> None:
    runs = trained / "runs"
    table = read_observations(runs / "observations.parquet")
    tables = {n: own.reset_index(drop=True) for n, own in table.groupby("recipe", sort=False)}
    whole = read_json(runs / "predictions.json")
    for name, own in tables.items():
        folder = runs / "recipes" / str(name)
        rows = read_json(folder / "predictions.json")["rows"]
        expected = (
            TwoStage("published").fit(own).predict_one("next", measured_targets({"": own})[0])
        )
        found = next(r for r in rows if r["task"] == "next")
        assert found["predicted"] == pytest.approx(expected.predicted)
        assert [r for r in whole["rows"] if r["recipe"] == name] == [
            {"recipe": name, **row} for row in rows
        ]
        audited = audit(TwoStage("published").fit(own), own)
        written = pd.read_csv(folder / "audit.csv")
        assert written["error"].dropna().tolist() == pytest.approx(
            [row.error for row in audited.rows if row.error is not None]
        )
        assert (folder / "report.html").is_file()
    assert set(pd.read_csv(runs / "audit.csv")["recipe"]) == {"adamw", "muon"}
    found = compare(tables, measured_targets(tables), lambda: TwoStage("published"))
    assert read_json(runs / "comparison.json") == json.loads(json.dumps(found.document()))
    assert {row.target for row in found.pairs} == {"big-4xC"}
    assert all(row.loss.actual is not None for row in found.pairs)


@pytest.mark.slow
def test_a_second_command_does_nothing_until_an_output_is_lost(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", str(trained / "two.yaml"), "--runs", str(trained / "runs")]
    assert main(command) == 0
    assert "nothing to do: 28 of 28 runs have finished" in capsys.readouterr().err
    for lost in ("comparison.json", "recipes/muon/audit.csv", "report.html"):
        (trained / "runs" / lost).unlink()
        assert main(command) == 0
        assert "0 runs trained, 28 found finished" in capsys.readouterr().err
        assert (trained / "runs" / lost).is_file()


def test_the_report_links_to_every_recipes_own_and_escapes_names(trained: Path) -> None:
    html = (trained / "runs" / "report.html").read_text()
    for name in ("adamw", "muon"):
        assert f'href="recipes/{name}/report.html"' in html
    assert "big-4xC, mean" in html


def test_recipes_whose_rungs_have_not_finished_are_left_out_of_a_report(
    trained: Path, tmp_path: Path
) -> None:
    config = load_config(str(trained / "two.yaml"))
    runs = RunsFolder(tmp_path / "part")
    runs.prepare(config)
    plan = make_plan(config)
    for rung in plan.of_recipe("adamw").runs:
        (trained / "runs" / rung.name).rename(tmp_path / "part" / rung.name)
    try:
        found = pipeline.analyse_recipes(config, plan, runs)
        assert isinstance(found, RecipesResult)
        assert list(found.results) == ["adamw"]
        assert found.comparison is None
        assert found.left_out == {"muon": "no run has finished"}
        assert not runs.comparison.is_file()
        assert not runs.is_complete(plan)
    finally:
        for rung in plan.of_recipe("adamw").runs:
            (tmp_path / "part" / rung.name).rename(trained / "runs" / rung.name)


@pytest.mark.parametrize("command", ["predict", "audit", "noise", "backtest", "allocate"])
def test_a_table_of_several_recipes_is_refused_until_one_is_chosen(
    trained: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = trained / "runs" / "observations.parquet"
    extra = ["--flops", "1e12"] if command == "allocate" else []
    line = fails(capsys, command, table, *extra)
    assert "its rungs are of 2 recipes, adamw, muon; choose one with --recipe" in line
    assert "matches none" in fails(capsys, command, table, *extra, "--recipe", "sgd")
    if command in ("predict", "audit", "noise"):
        method = ["--method", "published"]
        assert main([command, str(table), "--recipe", "muon", *method]) == 0
        assert main([command, str(table), "--recipe", "*", *method]) == 0
        assert main([command, str(table), "--rungs", "*-muon-*", *method]) == 0


def test_a_sealed_prediction_of_a_recipe_is_audited_by_its_recipe(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, seal = read_observations(trained / "runs" / "observations.parquet"), tmp_path / "s.json"
    table, measured = tmp_path / "before.parquet", tmp_path / "after.parquet"
    write_observations(whole[whole["role"] == "ladder"], table)
    whole.loc[whole["run"] == "big-4xC-muon-s0", "run"] = "T"
    write_observations(whole, measured)
    given = ["--recipe", "muon", "--method", "published", "--target", "T:1884:75808"]
    assert main(["predict", str(table), *given, "--seal", str(seal)]) == 0
    capsys.readouterr()
    assert main(["audit", str(measured), "--sealed", str(seal), "--recipe", "muon"]) == 0
    assert "the ladder's rows are not those" not in capsys.readouterr().err
    assert "brings its own" in fails(capsys, "audit", table, "--sealed", seal, "--tasks", "next")


def test_a_table_whose_column_recipe_has_one_value_or_none_is_read_as_ever(
    tmp_path: Path, observations: pd.DataFrame
) -> None:
    for name, values in (("one", "a"), ("none", "")):
        path = tmp_path / f"{name}.parquet"
        write_observations(observations.assign(recipe=values), path)
        assert main(["predict", str(path), "--method", "published"]) == 0
    targets = observations.assign(recipe=observations["role"])
    write_observations(targets, tmp_path / "target.parquet")
    assert main(["audit", str(tmp_path / "target.parquet"), "--method", "published"]) == 0
