"""The command that tokenises before anything trains: tokenise."""

from __future__ import annotations

from pathlib import Path

from tyro import conf

from ladder.commands.options import Names


def tokenise(
    config: conf.Positional[str],
    runs: Path | None = None,
    set: conf.UseAppendAction[Names] = (),
) -> None:
    """Make a config's tokens, so that no job with GPUs waits for them.

    Training does the same where it was not done. Goes on where it was interrupted, and takes no
    GPU; of walks and graphs there is nothing to make.

    Example: ladder tokenise mine.yaml --runs /scratch/$USER/runs/mine

    Args:
        config: A YAML file, or the name of a shipped config such as text.
        runs: Folder for everything that is written; runs/NAME by default.
        set: Override a setting, KEY=VALUE such as corpus.workers=8.
    """
    from ladder import tables
    from ladder.config import load_config
    from ladder.corpora import open_corpus
    from ladder.runs import RunsFolder

    experiment = load_config(config, set)
    folder = RunsFolder(runs or Path("runs") / experiment.name)
    folder.prepare(experiment)
    open_corpus(experiment.corpus, folder.corpus).prepare()
    tables.note(f"{folder.corpus if folder.corpus.is_dir() else folder.path}: ready to train")
