"""The verbs of the command `ladder`, one function each; heavy imports wait until one needs them."""

from __future__ import annotations

from collections.abc import Callable

from ladder.commands.comparing import compare
from ladder.commands.coordinates import coordinates
from ladder.commands.deciding import allocate
from ladder.commands.entropy import entropy
from ladder.commands.evaluating import evaluate, tasks
from ladder.commands.exponents import exponents
from ladder.commands.forecasting import forecast, items
from ladder.commands.helping import completion, doctor, version
from ladder.commands.importing import import_
from ladder.commands.next_run import next_run
from ladder.commands.predicting import audit, backtest, noise, predict
from ladder.commands.preparing import tokenise
from ladder.commands.running import plan, report, run, train
from ladder.commands.scaling import scales
from ladder.commands.status import status

COMMANDS: dict[str, Callable[..., None]] = {
    "run": run,
    "plan": plan,
    "tokenise": tokenise,
    "train": train,
    "status": status,
    "evaluate": evaluate,
    "tasks": tasks,
    "import": import_,
    "predict": predict,
    "audit": audit,
    "backtest": backtest,
    "noise": noise,
    "compare": compare,
    "forecast": forecast,
    "items": items,
    "allocate": allocate,
    "next": next_run,
    "scales": scales,
    "coordinates": coordinates,
    "entropy": entropy,
    "exponents": exponents,
    "report": report,
    "doctor": doctor,
    "version": version,
    "completion": completion,
}
"""Every verb of the command line."""
