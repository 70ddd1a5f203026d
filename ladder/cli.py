"""The command `ladder`: one function a verb; heavy imports wait until a verb needs them."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evaluation.files import InputError

if TYPE_CHECKING:
    from ladder.runs import RunsFolder
    from predict.two_stage import Target, TwoStage

try:
    from tyro import conf
except ImportError:  # pragma: no cover
    raise SystemExit("ladder: tyro is not installed; pip install task-ladder") from None

Flag = conf.FlagCreatePairsOff[bool]
Names = tuple[str, ...]


def run(
    config: conf.Positional[str],
    runs: Path | None = None,
    set: conf.UseAppendAction[Names] = (),
    workers: int | None = None,
) -> None:
    """All of it: train (skipping finished rungs), evaluate, predict, audit, report.

    Args:
        config: A YAML file, or the name of a shipped config such as quickstart.
        runs: Folder for everything that is written; runs/NAME by default.
        set: Override a setting, KEY=VALUE such as corpus.seed=1; may be repeated.
        workers: Runs trained side by side; one a core by default.
    """
    from ladder import pipeline, tables
    from ladder.config import load_config
    from ladder.plan import make_plan
    from ladder.progress import watching

    experiment = load_config(config, set)
    plan = make_plan(experiment)
    folder = _folder(runs, experiment.name)
    pipeline.check(experiment, plan)
    folder.prepare(experiment)
    if folder.is_complete(plan):
        count = len(plan.runs)
        tables.note(f"nothing to do: {count} of {count} runs have finished; {folder.report}")
        return
    with watching(plan) as watch:
        trained = len(pipeline.train(experiment, folder.path, (), workers, watch).rungs)
    tables.note(f"{trained} runs trained, {len(plan.runs) - trained} found finished")
    result = pipeline.analyse_runs(experiment, plan, folder)
    _warn(result.model, result.targets)
    if result.audit:
        _show_audit(result.audit, result.model)
    if result.truth:
        for line in result.truth.lines():
            print(line)
    print(f"report: {folder.report}")


def plan(
    config: conf.Positional[str],
    set: conf.UseAppendAction[Names] = (),
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """The rungs, their hyperparameters, FLOPs and cost against the target's.

    Args:
        config: A YAML file, or the name of a shipped config such as quickstart.
        set: Override a setting, KEY=VALUE; may be repeated.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from ladder import tables
    from ladder.config import load_config
    from ladder.plan import make_plan

    tables.check_out(out)
    planned = make_plan(load_config(config, set))
    rungs = [r.describe() for r in planned.rungs]
    targets = [r.describe() for r in planned.targets]
    document = {
        "version": 1,
        "rungs": rungs,
        "targets": targets,
        "ladder_flops": planned.ladder_flops,
        "share_of_target": planned.share_of_target,
    }
    tables.emit(document, [*rungs, *targets], json, out)
    if json:
        return
    columns = ("run", "params", "tokens", "FLOPs", "batch", "learning rate", "warm-up", "steps")
    tables.show(
        "plan",
        columns,
        [
            (
                r.name,
                f"{r.params:,}",
                f"{r.tokens:,}",
                f"{r.flops:.3g}",
                r.batch_sequences,
                f"{r.learning_rate:.4g}",
                r.warmup_steps,
                f"{r.steps:,}",
            )
            for r in (*planned.rungs, *planned.targets)
        ],
    )
    print(f"the ladder costs {planned.ladder_flops:.3g} FLOPs")
    for name, share in planned.share_of_target.items():
        print(f"by 6ND that is {share:.2%} of {name}")


def train(
    config: conf.Positional[str],
    rung: conf.UseAppendAction[Names] = (),
    runs: Path | None = None,
    set: conf.UseAppendAction[Names] = (),
    workers: int | None = None,
) -> None:
    """Train every rung that has not finished, or those named with --rung.

    Args:
        config: A YAML file, or the name of a shipped config such as quickstart.
        rung: Name of one rung, such as 3K-1xC; may be repeated.
        runs: Folder for everything that is written; runs/NAME by default.
        set: Override a setting, KEY=VALUE; may be repeated.
        workers: Runs trained side by side; one a core by default.
    """
    from ladder import pipeline, tables
    from ladder.config import load_config
    from ladder.plan import make_plan
    from ladder.progress import watching

    experiment = load_config(config, set)
    with watching(make_plan(experiment)) as watch:
        trained = pipeline.train(
            experiment, _folder(runs, experiment.name).path, rung, workers, watch
        )
    tables.note(f"{len(trained.rungs)} runs trained into {trained.runs.path}")


def status(runs: conf.Positional[Path], json: Flag = False, out: Path | None = None) -> None:
    """Finished, running, failed and pending runs; loss, tokens a second and time left.

    Args:
        runs: A runs folder, such as runs/quickstart.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from dataclasses import asdict

    from ladder import tables
    from ladder.plan import make_plan
    from ladder.runs import RunsFolder

    tables.check_out(out)
    folder = RunsFolder(runs)
    statuses = folder.statuses(make_plan(folder.load_config()))
    rows = [asdict(s) for s in statuses]
    tables.emit({"version": 1, "runs": rows}, rows, json, out)
    if json:
        return
    tables.show(
        str(runs),
        ("run", "state", "step", "loss", "tokens/s", "time left"),
        [
            (
                s.name,
                s.state + (f": {s.error}" if s.error else ""),
                f"{s.step:,} / {s.steps:,}",
                "" if s.loss is None else f"{s.loss:.4f}",
                "" if s.tokens_per_second is None else f"{s.tokens_per_second:,.0f}",
                tables.duration(s.seconds_left),
            )
            for s in statuses
        ],
    )


def import_(
    source: conf.Positional[Literal["olmo-ladder"]],
    path: conf.Positional[Path],
    out: Path,
) -> None:
    """Turn evaluation logs that others wrote into an observations table.

    Args:
        source: Kind of logs: olmo-ladder reads the repository allenai/OLMo-ladder.
        path: Where they lie: a clone's root, or a folder of its CSV files.
        out: The table to write, .parquet or .csv.
    """
    from evaluation.records import write_observations
    from evaluation.sources import SOURCES
    from ladder import tables

    imported = SOURCES[source](path)
    write_observations(imported.observations, out)
    for line in imported.left_out:
        tables.note(f"left out: {line}")
    table = imported.observations
    roles = table.drop_duplicates("run")["role"].value_counts()
    counts = ", ".join(f"{count} {role}" for role, count in roles.items())
    tables.note(
        f"{out}: {len(table):,} rows, {table['task'].nunique()} tasks, "
        f"{table['run'].nunique()} runs ({counts})"
    )


def predict(
    observations: conf.Positional[Path],
    target: conf.UseAppendAction[Names] = (),
    method: str = "default",
    rungs: Names = (),
    tasks: Names = (),
    feature: str = "loss",
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """Predict a target's loss and accuracy on every task.

    Args:
        observations: A table of observations, .parquet or .csv.
        target: NAME:PARAMS:TOKENS, such as 7B-4T:6.89e9:3.95T; may be repeated. By default the
            runs of role target.
        method: A named method; published is that of arXiv 2412.04403.
        rungs: Patterns of runs to fit; by default those of role ladder.
        tasks: Patterns of tasks; by default all.
        feature: Column that links the two steps.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from dataclasses import asdict

    from evaluation.records import read_observations
    from ladder import tables
    from predict.audit import targets_of
    from predict.two_stage import TwoStage, predictions_document

    tables.check_out(out, observations)
    wanted = [parse_target(text) for text in target]
    table = read_observations(observations)
    if not wanted:
        if not (table["role"] == "target").any():
            raise InputError(
                f"{observations}: no run has the role target; name one with --target "
                "NAME:PARAMS:TOKENS"
            )
        wanted = targets_of(table)
    model = _fitted(TwoStage(method, feature, rungs, tasks), table, observations)
    _warn(model, wanted)
    predictions = model.predict_targets(wanted)
    tables.emit(
        predictions_document(model, predictions), [asdict(p) for p in predictions], json, out
    )
    if json:
        return
    tables.show(
        f"predicted by method {model.method.name}",
        ("task", "target", "accuracy", "loss", "status"),
        [
            (p.task, p.target, tables.points(p.predicted), f"{p.loss_predicted:.4f}", p.status)
            for p in predictions
        ],
    )


def audit(
    observations: conf.Positional[Path],
    method: str = "default",
    rungs: Names = (),
    tasks: Names = (),
    feature: str = "loss",
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """Predicted against actual, per task and step, for the runs of role target.

    Args:
        observations: A table of observations, .parquet or .csv.
        method: A named method; published is that of arXiv 2412.04403.
        rungs: Patterns of runs to fit; by default those of role ladder.
        tasks: Patterns of tasks; by default all.
        feature: Column that links the two steps.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from evaluation.records import read_observations
    from ladder import tables
    from predict.audit import audit as audit_predictions
    from predict.audit import audit_document, targets_of
    from predict.two_stage import TwoStage

    tables.check_out(out, observations)
    table = read_observations(observations)
    targets = targets_of(table)
    model = _fitted(TwoStage(method, feature, rungs, tasks), table, observations)
    audited = audit_predictions(model, table)
    _warn(model, targets)
    tables.emit(audit_document(model, audited), [row.flat() for row in audited.rows], json, out)
    if not json:
        _show_audit(audited, model)


def report(
    source: conf.Positional[Path],
    method: str = "default",
    rungs: Names = (),
    tasks: Names = (),
    feature: str = "loss",
    target: conf.UseAppendAction[Names] = (),
    out: Path | None = None,
) -> None:
    """One self-contained HTML file: the ladder, both fits, predicted against actual, the errors.

    For a runs folder everything that follows from its finished runs is made anew: observations,
    predictions, audit and report.

    Args:
        source: A runs folder, or a table of observations.
        method: A named method, for a table; a runs folder's config names its own.
        rungs: Patterns of runs to fit, for a table; by default those of role ladder.
        tasks: Patterns of tasks, for a table; by default all.
        feature: Column that links the two steps, for a table.
        target: NAME:PARAMS:TOKENS to predict, for a table; may be repeated.
        out: The file to write; report.html in the runs folder or beside the table by default.
    """
    from evaluation.records import read_observations
    from ladder import pipeline, tables
    from ladder.plan import make_plan
    from ladder.report import write_report
    from ladder.runs import RunsFolder
    from predict.two_stage import TwoStage

    tables.check_out(out, source, (".html",))
    if source.is_dir():
        if (method, rungs, tasks, feature, target) != ("default", (), (), "loss", ()):
            raise InputError(
                f"{source}: is a runs folder; options go with a table, such as its "
                "observations.parquet"
            )
        folder = RunsFolder(source)
        config = folder.load_config()
        result = pipeline.analyse_runs(config, make_plan(config), folder)
        _warn(result.model, result.targets)
        if out is not None:
            from evaluation.files import write_text

            write_text(out, folder.report.read_text(encoding="utf-8"))
        tables.note(f"report: {out or folder.report}")
        return
    wanted = [parse_target(text) for text in target]
    table = read_observations(source)
    try:
        result = pipeline.analyse(TwoStage(method, feature, rungs, tasks), table, wanted)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    path = out or source.with_suffix(".html")
    write_report(result, table, f"task-ladder: {source.name}", path)
    _warn(result.model, result.targets)
    tables.note(f"report: {path}")


COMMANDS: dict[str, Callable[..., None]] = {
    "run": run,
    "plan": plan,
    "train": train,
    "status": status,
    "import": import_,
    "predict": predict,
    "audit": audit,
    "report": report,
}
"""Every verb of the command line."""


def parse_target(text: str) -> Target:
    """NAME:PARAMS:TOKENS, counts as 6887575552, 6.89e9 or 6.89B; InputError otherwise."""
    from predict.two_stage import Target

    parts = text.rsplit(":", 2)
    if len(parts) != 3 or not parts[0]:
        raise InputError(f"--target {text}: must read NAME:PARAMS:TOKENS, such as 7B:6.9e9:4T")
    return Target(parts[0], _count(parts[1], text), _count(parts[2], text))


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status: 2 for a user's mistake, 1 for a failure."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if given[0] == "--version":
        from ladder import __version__

        print(__version__)
        return 0
    try:
        return _dispatch(given)
    except InputError as error:
        print(f"ladder: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ladder: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("LADDER_DEBUG"):
            raise
        print(
            f"ladder: {type(error).__name__}: {_one_line(error)}; LADDER_DEBUG=1 shows where",
            file=sys.stderr,
        )
        return 1


def _dispatch(given: list[str]) -> int:
    import tyro

    verb, rest = given[0], given[1:]
    if verb not in COMMANDS:
        near = difflib.get_close_matches(verb, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(COMMANDS)}"
        raise InputError(f"{verb!r}: no such command; {hint}")
    command = COMMANDS[verb]

    @functools.wraps(command)
    def parsed(*values: Any, **named: Any) -> Callable[[], None]:
        return functools.partial(command, *values, **named)

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            call = tyro.cli(parsed, args=rest, prog=f"ladder {verb}")
    except SystemExit as stop:
        if stop.code:
            raise InputError(f"{_boxed(said.getvalue())}; see `ladder {verb} --help`") from None
        return 0
    call()
    return 0


def _boxed(text: str) -> str:
    """The first paragraph of the parser's framed message, and the option it would rather see."""
    paragraphs: list[list[str]] = [[]]
    for line in text.splitlines()[1:]:
        words = line.strip("│╭╮╰╯─| -+").strip() if set(line) - set("│ ─-+|") else ""
        if words:
            paragraphs[-1].append(words)
        elif set(line) & set("─-"):
            paragraphs.append([])
    first, *others = [" ".join(p) for p in paragraphs if p] or ["the command cannot be read"]
    nearest = [p.split()[3] for p in others if p.startswith("Perhaps you meant: ")]
    hint = f"; did you mean {'--' + nearest[0]}?" if nearest else ""
    return first.rstrip(".") + hint


def _overview() -> str:
    lines = [
        "Train a ladder of small language models, predict a big one's scores, audit the error.",
        "",
        "usage: ladder COMMAND ...",
        "",
    ]
    for name, command in COMMANDS.items():
        summary = (inspect.getdoc(command) or "").splitlines()[0]
        lines.append(f"  {name:<10} {summary}")
    lines += ["", "`ladder COMMAND --help` says more; `ladder run quickstart` shows all of it."]
    return "\n".join(lines)


def _folder(runs: Path | None, name: str) -> RunsFolder:
    from ladder.runs import RunsFolder

    return RunsFolder(runs or Path("runs") / name)


def _fitted(model: TwoStage, table: Any, path: Path) -> TwoStage:
    try:
        model.fit(table)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return model


def _warn(model: TwoStage, targets: Sequence[Target]) -> None:
    from ladder import tables
    from predict.audit import smaller_than_ladder

    bounds: dict[str, list[str]] = {}
    for task, fitted in model.fits_.items():
        for step, law_fit in fitted.steps():
            if not law_fit.certified:
                tables.note(f"warning: {task}, {step}: {law_fit.doubt}")
            for parameter in law_fit.at_bound:
                bounds.setdefault(f"{step}, {parameter}", []).append(task)
    if model.unfinished_:
        tables.note(f"warning: no final row, so not fitted: {_some(model.unfinished_)}")
    for line in smaller_than_ladder(model, targets):
        tables.note(f"warning: {line}")
    for parameter, tasks in bounds.items():
        tables.note(f"note: {parameter} is at a bound: {_some(tasks)}")
    reasons: dict[str, list[str]] = {}
    for task, why in model.left_out_.items():
        reasons.setdefault(why, []).append(task)
    for why, tasks in reasons.items():
        tables.note(f"left out, {why}: {_some(tasks)}")


def _some(names: list[str], most: int = 4) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _show_audit(audited: Any, model: TwoStage) -> None:
    from ladder import tables

    tables.show(
        f"predicted against actual, method {model.method.name}; accuracy and errors in points",
        (
            "task",
            "target",
            "predicted",
            "actual",
            "error",
            "step 1",
            "step 2",
            "top rung",
            "loss predicted",
            "loss actual",
            "status",
        ),
        [
            (
                row.prediction.task,
                row.prediction.target,
                tables.points(row.prediction.predicted),
                tables.points(row.actual),
                tables.points(row.error, signed=True),
                tables.points(row.step1_error, signed=True),
                tables.points(row.step2_error, signed=True),
                tables.points(row.top_rung),
                f"{row.prediction.loss_predicted:.4f}",
                f"{row.loss_actual:.4f}",
                row.prediction.status,
            )
            for row in audited.rows
        ],
    )
    if audited.mean_abs_error is not None:
        print(f"mean absolute error: {tables.points(audited.mean_abs_error)} points")


def _count(text: str, whole: str) -> float:
    scale = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}.get(text[-1:].upper())
    try:
        value = float(text[:-1]) * scale if scale else float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise InputError(f"--target {whole}: {text!r} is not a count above 0, such as 6.9e9 or 4T")
    return value


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def entry() -> None:
    """Entry point of the console script."""
    raise SystemExit(main())


if __name__ == "__main__":
    entry()
