"""Commands of README and docs that another test, or CI, runs: why, and which."""

from __future__ import annotations

EVALUATE = "tests/ladder/test_evaluate.py::test_tasks_texts_and_limits_stand_side_by_side"
REPORT = "tests/test_slurm_real.py::test_branches_wait_for_their_trunk_and_the_report_for_all"
SLURM = "tests/test_slurm_real.py::test_a_ladder_trains_on_a_slurm_that_takes_jobs_back"
RANKS = "tests/ladder/test_parallel.py::test_two_ranks_have_the_losses_of_one"
FETCH = "tests/evaluation/test_olmes.py::test_every_task_has_the_published_number_of_items"
GRID = (
    "tests/ladder/test_grid_exponents.py::"
    "test_one_command_writes_the_exponents_of_a_grid_with_its_corpus_s_entropies"
)
SPEAKER = (
    "tests/ladder/corpora/test_sampled.py::"
    "test_a_run_of_this_project_speaks_by_its_newest_checkpoint"
)
INSTALL = ".ci/run"
ELSEWHERE = {
    # command: (why it is not run here, the test, or the script of CI, that does)
    'pip install ".[train]" -c constraints.txt && ladder run configs/quickstart.yaml': (
        "installs, trains for minutes",
        "tests/test_quickstart.py::test_the_irreducible_loss_and_the_targets_excess_are_found",
    ),
    'pip install -e ".[train,test]" -c constraints.txt && pytest': ("installs", INSTALL),
    'pip install ".[train]" -c constraints.txt': ("installs", INSTALL),
    "python -m venv ~/ladder && . ~/ladder/bin/activate": ("installs", INSTALL),
    "git clone https://github.com/allenai/OLMo-ladder": (
        "network",
        "tests/predict/test_audit.py::test_the_published_predictions_are_reproduced",
    ),
    "ladder tasks fetch": ("network", FETCH),
    "ladder evaluate MODEL --tasks paper8 --keep scores": ("needs a model and the tasks", EVALUATE),
    "ladder evaluate MODEL --tasks arc_easy_test_rc_5shot 'mmlu_*_val_mc_5shot' quiz.yaml "
    "news.txt": (
        "needs a model and the tasks",
        EVALUATE,
    ),
    "ladder evaluate MODEL --tasks quiz.jsonl": ("needs a model", EVALUATE),
    "pip install gguf accelerate && python benchmarks/smollm2.py smollm2": ("network", EVALUATE),
    "ladder evaluate smollm2 --tasks arc_easy_test_rc_5shot piqa_val_rc_5shot": (
        "needs the model, minutes",
        EVALUATE,
    ),
    "torchrun --nproc-per-node 8 --no-python ladder evaluate MODEL --tasks paper8 --dtype bfloat16 "
    "--keep scores": ("needs GPUs", EVALUATE),
    "ladder run text": (
        "trains for minutes",
        "tests/test_text_ladder.py::test_a_task_and_the_held_out_loss_are_predicted_and_audited",
    ),
    "ladder run recipes": (
        "trains for an hour",
        "tests/ladder/test_recipes.py::test_each_recipe_is_fitted_by_itself_and_all_are_compared",
    ),
    "ladder run origins-er": ("trains for long", GRID),
    "ladder run origins-ba": ("trains for long", GRID),
    "ladder report runs/origins-er": (
        "needs trained rungs",
        "tests/ladder/test_grid_exponents.py::"
        "test_a_second_command_does_nothing_and_lost_exponents_are_made_again",
    ),
    "ladder train origins-speakers": ("trains for long", SPEAKER),
    "ladder run origins-t1l": ("needs a speaker, trains for long", SPEAKER),
    "ladder items RUNS": (
        "needs trained rungs",
        "tests/ladder/test_item_margins.py::test_the_json_has_every_way_and_its_error",
    ),
    "ladder coordinates quickstart --set 'targets=[]' --set 'ladder.sizes=[7K]' "
    "--set recipe.learning_rate_base=0.04 --set recipe.parametrisation=mup "
    "--set recipe.optimizer=muon": (
        "trains",
        "tests/ladder/test_coordinates.py::test_the_command_prints_one_document_and_writes_a_figure",
    ),
    "torchrun --nproc-per-node 8 -m ladder.cli train mine.yaml --rung 1.3B-10xC --engine here": (
        "needs GPUs",
        RANKS,
    ),
    "torchrun --nproc-per-node 8 -m ladder.cli train mine.yaml --rung 91M-5xC --engine here": (
        "needs GPUs",
        RANKS,
    ),
    "ladder doctor --runs /scratch/$USER/runs": (
        "tells of this machine, which may have faults of its own",
        "tests/ladder/test_doctor.py::test_what_is_there_is_told_with_its_version",
    ),
    "ladder tokenise mine.yaml --runs /scratch/$USER/runs/mine": (
        "needs text",
        "tests/ladder/test_preparing.py::test_text_is_tokenised_once_before_anything_trains",
    ),
    "ladder train mine.yaml --engine slurm --rung 13M-1xC --runs /scratch/$USER/runs/mine": (
        "needs Slurm",
        SLURM,
    ),
    "ladder train mine.yaml --engine slurm --runs /scratch/$USER/runs/mine": ("needs Slurm", SLURM),
    "ladder report /scratch/$USER/runs/mine": ("needs trained rungs", REPORT),
}
"""Commands that this file does not run, each with the reason and what runs it, or the same verb."""
