"""Commands that plan, train and report on a ladder: run, plan, train, report."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro import conf

from evaluation.files import InputError
from ladder.commands.options import NO_OPTIONS, Flag, Names, Options, parse_targets

if TYPE_CHECKING:
    from ladder.config import Experiment
    from ladder.plan import Plan, Rung
    from ladder.recipes_result import RecipesResult
    from ladder.runs import RunsFolder


def run(
    config: conf.Positional[str],
    runs: Path | None = None,
    set: conf.UseAppendAction[Names] = (),
    workers: int | None = None,
    dry_run: Flag = False,
) -> None:
    """All of it: train what has not finished, evaluate, predict, audit.

    Example: ladder run quickstart --runs runs/mine

    Args:
        config: A YAML file, or the name of a shipped config such as quickstart.
        runs: Folder for everything that is written; runs/NAME by default.
        set: Override a setting, KEY=VALUE such as corpus.seed=1.
        workers: Runs trained side by side; one a GPU, or one a core without GPUs, by default.
        dry_run: Check the config and what it names; write nothing.
    """
    from ladder import pipeline, tables
    from ladder.config import load_config
    from ladder.plan import make_plan
    from ladder.progress import watching

    experiment = load_config(config, set)
    plan = make_plan(experiment)
    folder = _folder(runs, experiment.name)
    pipeline.check(experiment, plan, workers)
    if dry_run:
        _rehearse(experiment, plan, (), folder)
        return
    folder.prepare(experiment)
    if folder.is_complete(plan):
        count = len(plan.runs)
        tables.note(f"nothing to do: {count} of {count} runs have finished; {folder.report}")
        return
    with watching(plan) as watch:
        trained = len(pipeline.train(experiment, folder.path, (), workers, watch).rungs)
    tables.note(f"{trained} runs trained, {len(plan.runs) - trained} found finished")
    if experiment.recipes:
        _tell_recipes(pipeline.analyse_recipes(experiment, plan, folder), True)
        tables.say(f"report: {folder.report}")
        return
    result = pipeline.analyse_runs(experiment, plan, folder)
    tables.warn(result.model, result.targets)
    if result.audit:
        tables.show_audit(result.audit, result.model.method.name, tables.units(result.model))
    if result.truth:
        for line in result.truth.lines():
            tables.say(line)
    for line in result.exponents.lines() if result.exponents else ():
        tables.say(line)
    tables.say(f"report: {folder.report}")


def _tell_recipes(found: RecipesResult, tables_too: bool) -> None:
    from ladder import tables
    from ladder.commands.comparing import tell

    for name, why in found.left_out.items():
        tables.note(f"{name}: left out, {why}")
    for name, result in found.results.items():
        for line in result.truth.lines() if result.truth and tables_too else ():
            tables.say(f"{name}: {line}")
    if found.comparison:
        tell(found.comparison, tables_too)


def plan(
    config: conf.Positional[str],
    set: conf.UseAppendAction[Names] = (),
    mfu: float | None = None,
    gpu: str | None = None,
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """The rungs, their hyperparameters, FLOPs and cost, before any runs.

    Example: ladder plan olmo2 --mfu 0.4

    Args:
        config: A YAML file, or the name of a shipped config such as quickstart.
        set: Override a setting, KEY=VALUE.
        mfu: Tell GPU-hours too, where training reaches this share of the GPU's peak, such as 0.4.
        gpu: The GPU they are hours of, such as A100; H100 by default.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from ladder import tables
    from ladder.config import load_config
    from ladder.hardware import USUAL_GPU, gpu_hours
    from ladder.plan import make_plan

    tables.check_out(out)
    if gpu is not None and mfu is None:
        raise InputError(f"--gpu {gpu}: tells hours together with --mfu, such as --mfu 0.4")
    planned = make_plan(load_config(config, set))
    hours: dict[str, float] = {}
    ladder_hours = 0.0
    if mfu is not None:
        told = (*planned.trunks, *planned.rungs, *planned.targets)
        hours = {r.name: gpu_hours(r, gpu or USUAL_GPU, mfu) for r in told}
        ladder_hours = sum(hours[r.name] * r.share for r in (*planned.trunks, *planned.rungs))
    rungs, targets, trunks = (
        [
            {
                **r.describe(),
                **(r.origin if r.ending else {}),
                **({"gpu_hours": hours[r.name]} if hours else {}),
            }
            for r in part
        ]
        for part in (planned.rungs, planned.targets, planned.trunks)
    )
    for row, trunk in zip(trunks, planned.trunks, strict=True):
        row["branches"] = trunk.branches
    document = {
        "version": 1,
        "rungs": rungs,
        "targets": targets,
        "trunks": trunks,
        "ladder_flops": planned.ladder_flops,
        "separate_flops": planned.separate_flops,
        **({"ladder_gpu_hours": ladder_hours} if hours else {}),
        "share_of_target": planned.share_of_target,
    }
    tables.emit(document, [*rungs, *targets], json, out)
    if json:
        return
    for recipe in planned.recipes:
        _show_plan(planned.of_recipe(recipe), recipe, hours)
    several = len(planned.recipes) > 1
    what = "all ladders together cost" if several else "the ladder costs"
    tables.say(f"{what} {planned.ladder_flops:.3g} FLOPs")
    if mfu is not None:
        tables.say(
            f"and {_hours(ladder_hours)} hours of one {gpu or USUAL_GPU} at an MFU of {mfu:g}"
        )
    if planned.trunks:
        saved = 1 - planned.ladder_flops / planned.separate_flops
        tables.say(
            f"one trunk a size, whose FLOPs its rungs' include: {saved:.1%} less than the "
            f"{planned.separate_flops:.3g} of separate runs"
        )
    shares = planned.share_of_target
    # The seeds of a target share theirs, and most recipes do.
    for said in dict.fromkeys(f"{shares[t.name]:.2%} of {t.place}" for t in planned.targets):
        tables.say(f"by 6ND {'a ladder' if several else 'that'} is {said}")


def _show_plan(planned: Plan, recipe: str, hours: dict[str, float]) -> None:
    """Print a recipe's runs, those that differ in their seed alone once."""
    from ladder import tables
    from predict.numbers import human

    runs: dict[str, Rung] = {}
    for run in (*planned.trunks, *planned.rungs, *planned.targets):
        runs.setdefault(run.place, run)
    seeds = dict.fromkeys(str(rung.seed) for rung in planned.rungs)
    columns = ("run", "params", "tokens", "FLOPs", "batch", "learning rate", "warm-up", "steps")
    tables.show(
        "plan; batch in sequences, warm-up in steps"
        + (f", recipe {recipe}" if recipe else "")
        + (f", seeds {', '.join(seeds)}" if len(seeds) > 1 else ""),
        (*columns, *(("GPU-hours",) if hours else ())),
        [
            (
                place,
                human(r.params),
                human(r.tokens),
                f"{r.flops:.3g}",
                r.batch_sequences,
                f"{r.learning_rate:.4g}",
                r.warmup_steps,
                f"{r.steps:,}",
                *((_hours(hours[r.name]),) if hours else ()),
            )
            for place, r in runs.items()
        ],
    )


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def train(
    config: conf.Positional[str],
    rung: conf.UseAppendAction[Names] = (),
    runs: Path | None = None,
    set: conf.UseAppendAction[Names] = (),
    workers: int | None = None,
    engine: Literal["local", "here", "slurm"] = "local",
    dry_run: Flag = False,
) -> None:
    """Train every rung that has not finished, or those of --rung.

    Example: ladder train quickstart --rung '3K-*'

    Args:
        config: A YAML file, or the name of a shipped config such as quickstart.
        rung: Name of one rung, such as 3K-1xC, or a pattern, such as '3K-*'.
        runs: Folder for everything that is written; runs/NAME by default.
        set: Override a setting, KEY=VALUE.
        workers: Runs trained side by side; one a GPU, or one a core without GPUs, by default.
        engine: local trains side by side on this machine; here one after another in this process,
            which SIGTERM and SIGUSR1 stop after saving, with exit status 85; slurm submits a job
            a rung as the config's section cluster says, and one for the report.
        dry_run: Check the config and what it names, and write nothing; of slurm print the scripts.
    """
    from ladder import pipeline, stopping, tables
    from ladder.config import load_config
    from ladder.plan import make_plan
    from ladder.progress import is_first_rank, watching

    if workers is not None and engine != "local":
        raise InputError(f"--workers {workers}: goes with --engine local")
    experiment = load_config(config, set)
    planned, folder = make_plan(experiment), _folder(runs, experiment.name)
    if engine == "slurm":
        _submit(experiment, planned, rung, folder, dry_run)
        return
    if dry_run:
        pipeline.check(experiment, planned, workers)
        _rehearse(experiment, planned, rung, folder)
        return
    signals = stopping.on_signals() if engine == "here" else nullcontext()
    try:
        with signals, watching(planned) as watch:
            trained = pipeline.train(experiment, folder.path, rung, workers, watch, engine)
    except stopping.Stopped as stop:
        if is_first_rank():
            tables.note(f"stopped as asked, {stop}; the same command goes on from here")
        raise SystemExit(stopping.STOPPED_STATUS) from None
    if is_first_rank():
        tables.note(f"{len(trained.rungs)} runs trained into {trained.runs.path}")


def _rehearse(config: Experiment, plan: Plan, rungs: Names, folder: RunsFolder) -> None:
    """Say what would be trained; InputError where what the config names is not there."""
    from ladder import tables
    from ladder.inputs import missing

    wanted = plan.matching(rungs) if rungs else list(plan.runs)
    if lacking := missing(config):
        for line in lacking[1:]:
            tables.note(f"also: {line}")
        raise InputError(lacking[0])
    left = [run.name for run in wanted if not folder.rung(run.name).complete]
    tables.say(f"{len(left)} of {len(wanted)} runs would be trained into {folder.path}")
    if left:
        tables.say(", ".join(left))


def _submit(
    config: Experiment, plan: Plan, rungs: Names, folder: RunsFolder, dry_run: bool
) -> None:
    from ladder import pipeline, slurm, tables
    from ladder.inputs import missing

    pipeline.check(config, plan)
    if dry_run:
        # The nodes may see what this machine does not.
        for line in missing(config):
            tables.note(f"warning, not here: {line}")
        print(slurm.dry_run(config, plan, rungs, folder), end="")
        return
    done = slurm.submit(config, plan, rungs, folder)
    for name, job in done.submitted.items():
        tables.say(f"{name}: job {job}")
    for name, job in done.queued.items():
        tables.note(f"{name}: left out, in the queue as job {job}")
    if done.finished:
        tables.note(f"left out, finished: {', '.join(done.finished)}")
    if not done.submitted:
        tables.note("nothing to submit")
    tables.note(f"`ladder status {folder.path}` tells how they fare")


def report(
    source: conf.Positional[Path],
    fitting: Options = NO_OPTIONS,
    target: conf.UseAppendAction[Names] = (),
    out: Path | None = None,
    figures: Path | None = None,
    full: Flag = False,
) -> None:
    """One HTML file: ladder, fits, predicted against actual, errors.

    For a runs folder everything that follows from its finished runs is made anew: observations,
    predictions, audit and report.

    Example: ladder report mine.csv --target 7B-4T:6.89e9:3.95T

    Args:
        source: A runs folder, or a table of observations.
        fitting: Method, rungs, tasks, feature and laws.
        target: NAME:PARAMS:TOKENS to predict, for a table.
        out: The file to write; report.html in the runs folder or beside the table by default.
        figures: Folder for every figure as SVG and PNG; figures in a runs folder by default.
        full: Cut the ladder and fit it again for calibration and for compute against error,
            however long that takes; otherwise where it takes seconds.
    """
    from ladder import pipeline, tables
    from ladder.plan import make_plan
    from ladder.report import write_report
    from ladder.report_provenance import origin_of_table
    from ladder.runs import RunsFolder

    tables.check_out(out, source, (".html",))
    if figures is not None and figures.exists() and not figures.is_dir():
        raise InputError(f"--figures {figures}: is a file; name a folder")
    if source.is_dir():
        if target or fitting != NO_OPTIONS:
            raise InputError(
                f"{source}: is a runs folder; options go with a table, such as its "
                "observations.parquet"
            )
        folder = RunsFolder(source)
        config = folder.load_config()
        if config.recipes:
            found = pipeline.analyse_recipes(config, make_plan(config), folder, figures, full)
            _tell_recipes(found, False)
        else:
            result = pipeline.analyse_runs(config, make_plan(config), folder, figures, full)
            tables.warn(result.model, result.targets)
        if out is not None:
            from evaluation.files import write_text

            write_text(out, folder.report.read_text(encoding="utf-8"))
        tables.note(f"report: {out or folder.report}")
        return
    wanted = parse_targets(target)
    table = fitting.read(source)
    try:
        result = pipeline.analyse(fitting.model(), table, wanted)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    path = out or source.with_suffix(".html")
    write_report(
        result,
        table,
        f"task-ladder: {source.name}",
        path,
        origin=origin_of_table(source),
        figures=figures,
        full=full,
    )
    tables.warn(result.model, result.targets)
    tables.note(f"report: {path}")


def _folder(runs: Path | None, name: str) -> RunsFolder:
    from ladder.runs import RunsFolder

    return RunsFolder(runs or Path("runs") / name)
