"""Commands about task-ladder itself: version, doctor, completion."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro import conf

from ladder.commands.options import Flag


def version(json: Flag = False) -> None:
    """The version of task-ladder and of what its numbers depend on.

    Example: ladder version --json

    Args:
        json: Print one JSON document.
    """
    import platform
    import sys
    from importlib import metadata

    from ladder import __version__

    versions = {"task-ladder": __version__, "python": platform.python_version()}
    for name in ("numpy", "pandas", "torch", "transformers"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    if json:
        from ladder.tables import emit

        emit({"version": 1, "versions": versions}, [], True, None)
        return
    sys.stdout.write("".join(f"{name} {found}\n" for name, found in versions.items()))


def doctor(
    runs: Path = Path("runs"), verify: Flag = False, json: Flag = False, out: Path | None = None
) -> None:
    """What works on this machine, what does not, and how to mend it.

    Ends with status 1 where something that is there does not work; what is merely absent is fine.

    Example: ladder doctor --runs /scratch/me/runs

    Args:
        runs: Folder that runs would be written to, whose disk is looked at.
        verify: Read every checkpoint, shard and table in that folder in full, and name what is not
            what was written; hours for terabytes.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    import textwrap
    from dataclasses import asdict
    from itertools import zip_longest

    from ladder import tables
    from ladder.doctor import document, examine

    tables.check_out(out)
    findings = examine(runs, verify)
    tables.emit(document(findings), [asdict(f) for f in findings], json, out)
    if not json:
        for finding in findings:
            mark = {"ok": "ok", "absent": "--", "broken": "!!"}[finding.state]
            lines = [*textwrap.wrap(finding.found, 62), *textwrap.wrap(finding.mend, 62)]
            for head, line in zip_longest((f"{mark}  {finding.name}",), lines, fillvalue=""):
                print(f"{head:<17} {line}".rstrip())
    if any(finding.state == "broken" for finding in findings):
        raise SystemExit(1)


def completion(shell: conf.Positional[Literal["bash", "zsh", "fish"]]) -> None:
    """A script by which your shell completes commands, options and shipped configs.

    Example: ladder completion bash > ~/.local/share/bash-completion/completions/ladder

    Args:
        shell: The shell that it is for; zsh takes `source <(ladder completion zsh)` in .zshrc.
    """
    import sys

    from ladder.commands import COMMANDS
    from ladder.completion import script
    from ladder.config import shipped_configs

    sys.stdout.write(script(shell, COMMANDS, tuple(shipped_configs())))
