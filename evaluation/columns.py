"""Column names of tables that others wrote: other capitals, nearest matches, a clear refusal."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

SYNONYMS = {
    "run": ("model", "name", "run_name", "model_name", "experiment"),
    "params": ("n", "n_params", "num_params", "parameters", "model_size", "size"),
    "tokens": ("d", "n_tokens", "num_tokens", "train_tokens", "tokens_seen"),
    "flops": ("c", "compute", "train_flops"),
    "step": ("_step", "global_step", "iteration", "iter"),
    "task": ("benchmark", "dataset", "eval", "task_name"),
    "loss": ("bpb", "bits_per_byte", "val_loss", "ce_loss", "nll", "cross_entropy"),
    "accuracy": ("acc", "score", "acc_norm", "acc_per_char"),
    "chance": ("random", "baseline"),
    "instances": ("items", "n_items", "num_instances"),
    "recipe": ("config", "mix", "data"),
}
"""What others call a column of observations; asked for where a name is not known, never assumed."""

CLOSE = 0.6
"""Least likeness, by difflib's ratio, of a name that is suggested."""

MOST = 12
"""Columns that a message lists."""


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names that are most like one, likeliest first; none where none is like it.

    Capitals, blanks and hyphens count for nothing; SYNONYMS count as alike, either way round.
    """
    plain = {_plain(candidate): candidate for candidate in known}
    wanted = _plain(name)
    alike = [plain[wanted]] if wanted in plain else []
    for ours, theirs in SYNONYMS.items():
        if wanted == ours:
            alike += [plain[word] for word in theirs if word in plain]
        elif wanted in theirs and ours in plain:
            alike.append(plain[ours])
    close = difflib.get_close_matches(wanted, plain, n=most, cutoff=CLOSE)
    return list(dict.fromkeys([*alike, *(plain[word] for word in close)]))[:most]


def some(names: Sequence[str], most: int = MOST) -> str:
    """Names in a row, of many the first ones and how many more there are."""
    more = len(names) - most
    return ", ".join(map(str, names[:most])) + (f" and {more} more" if more > 0 else "")


def there_is_no(name: str, found: Sequence[str]) -> str:
    """The end of a message on a column that a table does not have."""
    close = nearest(name, map(str, found))
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"no column {name!r}; {hint}there are {some(found)}"


def hints(
    missing: Sequence[str],
    found: Sequence[str],
    known: Iterable[str] = (),
    words: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """How to name what a table calls otherwise, as options of a command that a shell takes.

    Columns of `known` names are what they say, and nothing else; `words` are those that a column
    may hold, of which one may stand for all rows. An accuracy is told though none is required.
    """
    left = [str(name) for name in found if str(name) not in set(known)]
    pairs = []
    for name in missing if "accuracy" in found or not missing else (*missing, "accuracy"):
        if close := nearest(name, left, 1):
            left.remove(close[0])
            pairs.append(f"--map {shlex.quote(f'{name}={close[0]}')}")
    pairs += [f"--map {name}={said[0]}" for name, said in (words or {}).items() if name in missing]
    if "task" in missing and not any(pair.startswith("--map task=") for pair in pairs):
        return (
            "a table with a column a score, and none that names the task, is read by "
            "`ladder import csv --task NAME=LOSS,ACCURACY`"
        )
    if pairs:
        return f"did you mean {' '.join(pairs)}?"
    return "name yours with --map OURS=THEIRS, or let `ladder import csv` make a table"


def import_hints(missing: Sequence[str], found: Sequence[str]) -> str:
    """How to say what an import lacks, as options of `ladder import csv` and `wandb`.

    `found` are the columns that nothing has asked for yet.
    """
    left = [str(name) for name in found]
    maps, others = [], []
    for name in missing:
        if "task" in missing and not nearest("task", found, 1) and name in ("task", "loss"):
            others.append("--task NAME=LOSS,ACCURACY")
        elif close := nearest(name, left, 1):
            left.remove(close[0])
            maps.append(f"--map {shlex.quote(f'{name}={close[0]}')}")
        elif name in ("params", "tokens"):
            others.append("--run NAME:PARAMS:TOKENS")
        elif name == "loss_unit":
            others.append("--value loss_unit=bits/byte")
    said = [f"did you mean {' '.join(maps)}?"] if maps else []
    if "run" in missing and not maps:
        said.append("name yours with --map OURS=THEIRS")
    if others:
        said.append(f"add {' '.join(dict.fromkeys(others))}")
    return "; ".join(said) or "name yours with --map OURS=THEIRS"


def with_known_names(
    frame: pd.DataFrame, known: Iterable[str], asked: Collection[object] = ()
) -> pd.DataFrame:
    """The table; a column whose name is a known one but for capitals or blanks gets that.

    One that is `asked` for by its own name keeps it.
    """
    there = set(frame.columns)
    plain = {_plain(name): name for name in known if name not in there}
    names = [
        name if name in asked else plain.get(_plain(str(name)), name) for name in frame.columns
    ]
    # Of two that would become one neither does: which is meant is not ours to say.
    kept = [new if names.count(new) == 1 else old for old, new in zip(frame, names, strict=True)]
    return frame.set_axis(kept, axis=1)


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")
