"""A run: checks first, then steps that talk to each other through files of the run's folder only."""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

from workbench.config import Config, Step
from workbench.distributed import barrier, is_rank0
from workbench.models.checkpoints.hub import held_commits, hub_commits
from workbench.pipeline.chat.terminal import chat
from workbench.pipeline.checks import check
from workbench.pipeline.ending.summary import print_summary
from workbench.pipeline.evaluate import evaluate
from workbench.pipeline.export import export
from workbench.pipeline.held_out.rows_file import holds_out
from workbench.pipeline.leaderboard import leaderboard
from workbench.pipeline.merge import merge
from workbench.pipeline.plan import plan
from workbench.pipeline.predict.predict import predict
from workbench.pipeline.resume_check import resume_check
from workbench.pipeline.run_folder import alone_in, check_config, reporting_file_errors
from workbench.pipeline.run_state import Run
from workbench.pipeline.train import train
from workbench.pipeline.vocabulary import extend, tokenizer
from workbench.reading_once import reading_once
from workbench.run_dir import RunDir, write_atomic
from workbench.run_record import RunRecord
from workbench.trust import TrustedCode, trusting

log = logging.getLogger("workbench")

STEPS: dict[Step, Callable[[Run], None]] = {
    Step.plan: plan,
    Step.train: train,
    Step.merge: merge,
    Step.evaluate: evaluate,
    Step.predict: predict,
    Step.chat: chat,
    Step.export: export,
    Step.resume_check: resume_check,
    Step.leaderboard: leaderboard,
    Step.tokenizer: tokenizer,
    Step.extend: extend,
}

SHARED = (Step.train, Step.evaluate)
"""Steps that several processes work on together; the others are the first one's, and the rest wait for it."""


WITHOUT_FOLDER = (Step.plan, Step.leaderboard, Step.chat)
"""Steps that alone leave nothing in a run's folder, so that none is made."""


def run(config: Config, run_dir: RunDir, config_yaml: str) -> None:
    """Run the recipe's steps in order, after all that can be checked cheaply has been checked.

    Of several processes (`torchrun`, `accelerate launch`) the first one writes.

    Args:
        config: Of the run.
        run_dir: Its folder; nothing is written there before the checks have passed.
        config_yaml: The configuration as text, for the folder.

    Raises:
        WorkbenchError: a user's mistake, found before the long work where that is possible.
    """
    with trusting(config.trust_code) as trusted, held_commits(recorded_commits(run_dir)), reading_once():
        opened = Run(settled(config, run_dir), run_dir)
        check(opened)
        if len(config.steps) == 1 and config.steps[0] in WITHOUT_FOLDER:
            with reporting_file_errors(run_dir):
                return STEPS[config.steps[0]](opened) if is_rank0() else None
        run_in_folder(opened, config_yaml, trusted)


def run_in_folder(run: Run, config_yaml: str, trusted: TrustedCode) -> None:
    """Run the steps while no other process works in the run's folder."""
    run_dir = run.run_dir
    only_reads = run.config.steps == [Step.export] and run.config.export.path is not None
    held = alone_in(run_dir, only_reads=only_reads) if is_rank0() else nullcontext()
    with reporting_file_errors(run_dir), held:
        record = RunRecord(run_dir.run_json)  # a damaged one is told before the long work
        if is_rank0() and not run_dir.config_yaml.exists():
            write_atomic(run_dir.config_yaml, config_yaml)
        check_config(record, run_dir)
        if is_rank0():
            write_down(trusted, run_dir)
        barrier()
        for step in run.config.steps:
            log.info("== %s", step.name)
            if step in SHARED or is_rank0():
                STEPS[step](run)
            if is_rank0():
                write_down(trusted, run_dir)
            barrier()
        if is_rank0():
            print_summary(run.config, run_dir)


def write_down(trusted: TrustedCode, run_dir: RunDir) -> None:
    """Note in run.json whose code has been run, and which commits of the Hub this run uses."""
    record, commits = RunRecord(run_dir.run_json), hub_commits()
    before = record.values.get("trusted_code", [])
    if trusted.sources:
        record.note("trusted_code", list(dict.fromkeys([*before, *trusted.sources])))
    if commits:
        record.note("commits", {**record.values.get("commits", {}), **commits})


def recorded_commits(run_dir: RunDir) -> dict[str, str]:
    """What the run's folder says of the commits of the Hub that it was begun with."""
    known = RunRecord(run_dir.run_json).values.get("commits", {}) if run_dir.run_json.exists() else {}
    return {str(name): str(commit) for name, commit in known.items()} if isinstance(known, dict) else {}


def settled(config: Config, run_dir: RunDir) -> Config:
    """The configuration with `data.validation_fraction` decided: None only where rows are held out by it."""
    trains = {Step.plan, Step.train} & set(config.steps)
    if config.data.validation_fraction is not None or (trains and holds_out(config, run_dir)):
        return config
    return replace(config, data=replace(config.data, validation_fraction=0.0))
