"""What needs no torch never loads it, and the command line starts light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PREDICT = Path(__file__).parent.parent / "predict"

NO_TORCH = (
    "evaluation.bounds",
    "evaluation.cells",
    "evaluation.choices",
    "evaluation.columns",
    "evaluation.encoding",
    "evaluation.checksums",
    "evaluation.files",
    "evaluation.fingerprints",
    "evaluation.lm_eval",
    "evaluation.lm_eval_files",
    "evaluation.margins",
    "evaluation.metrics",
    "evaluation.olmes",
    "evaluation.panics",
    "evaluation.plain",
    "evaluation.prompts",
    "evaluation.records",
    "evaluation.sources",
    "evaluation.store",
    "evaluation.suites",
    "evaluation.tabular",
    "evaluation.tasks",
    "evaluation.text_scores",
    "ladder.cli",
    "ladder.cluster",
    "ladder.commands",
    "ladder.commands.comparing",
    "ladder.commands.deciding",
    "ladder.commands.entropy",
    "ladder.commands.evaluating",
    "ladder.commands.exponents",
    "ladder.commands.forecasting",
    "ladder.commands.helping",
    "ladder.commands.importing",
    "ladder.commands.next_run",
    "ladder.commands.options",
    "ladder.commands.predicting",
    "ladder.commands.preparing",
    "ladder.commands.running",
    "ladder.commands.scaling",
    "ladder.commands.status",
    "ladder.completion",
    "ladder.inputs",
    "ladder.layout",
    "ladder.usage",
    "ladder.config",
    "ladder.settings",
    "ladder.corpora",
    "ladder.corpora.chain",
    "ladder.corpora.chain_settings",
    "ladder.corpora.chains",
    "ladder.corpora.edges",
    "ladder.corpora.exact",
    "ladder.corpora.graph",
    "ladder.corpora.graphs",
    "ladder.corpora.mixing",
    "ladder.corpora.ngram",
    "ladder.corpora.nodes",
    "ladder.corpora.sampler",
    "ladder.corpora.continuations",
    "ladder.corpora.disk",
    "ladder.corpora.documents",
    "ladder.corpora.hub",
    "ladder.corpora.mixture",
    "ladder.corpora.sampled",
    "ladder.corpora.settings",
    "ladder.corpora.shards",
    "ladder.corpora.speaker",
    "ladder.corpora.text",
    "ladder.corpora.tokenise",
    "ladder.corpora.tokenizer",
    "ladder.corpora.walks",
    "ladder.corpora.workers",
    "ladder.doctor",
    "ladder.grid_exponents",
    "ladder.hardware",
    "ladder.item_margins",
    "ladder.model",
    "ladder.pipeline",
    "ladder.plan",
    "ladder.progress",
    "ladder.recipe",
    "ladder.report",
    "ladder.report_audit",
    "ladder.report_compute",
    "ladder.report_context",
    "ladder.report_exponents",
    "ladder.report_fits",
    "ladder.report_page",
    "ladder.report_parts",
    "ladder.report_provenance",
    "ladder.report_sections",
    "ladder.report_svg",
    "ladder.report_trust",
    "ladder.result",
    "ladder.results",
    "ladder.kept_config",
    "ladder.kept_tasks",
    "ladder.locks",
    "ladder.machine",
    "ladder.runs",
    "ladder.verify",
    "ladder.saved",
    "ladder.scales",
    "ladder.scored_runs",
    "ladder.section",
    "ladder.shapes",
    "ladder.slurm",
    "ladder.stopping",
    "ladder.tables",
    "ladder.tracker",
    "ladder.truth",
    "predict",
    *(f"predict.{path.stem}" for path in sorted(PREDICT.glob("[a-z]*.py"))),
)


def loaded(code: str) -> set[str]:
    """Top-level modules that are loaded after `code` ran in a fresh interpreter."""
    tail = (
        "; import sys; print('\\n'.join({m.split('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + tail], check=True, capture_output=True, text=True
    )
    return set(done.stderr.split())


def test_modules_marked_so_never_load_torch() -> None:
    code = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    assert not {"torch", "transformers", "wandb"} & sys.modules.keys(), name
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *NO_TORCH], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_help_loads_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "pandas", "numpy", "matplotlib", "pydantic", "scipy"}
    assert not heavy & loaded("from ladder.cli import main; main(['--help'])")


def test_planning_loads_no_torch() -> None:
    assert not {"torch", "transformers"} & loaded(
        "from ladder.cli import main; main(['plan', 'quickstart'])"
    )


def test_predicting_from_a_table_loads_no_torch(olmo_observations: Path) -> None:
    code = f"from ladder.cli import main; main(['audit', {str(olmo_observations)!r}])"
    assert not {"torch", "transformers"} & loaded(code)


def test_the_layers_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
