"""The resume_check step: a training that was killed and repeated ends with the bytes of one that was not."""

import logging
import multiprocessing
import shutil
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from workbench.config import Config
from workbench.distributed import rank_and_world_size
from workbench.errors import ConfigError, TrainingError, WorkbenchError
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import trains_whole_model
from workbench.pipeline.train import train
from workbench.reading_once import reading_once
from workbench.run_dir import RunDir, file_fingerprint, write_json
from workbench.training.counters import MEASURED
from workbench.training.reporting.journal import journal_lines

log = logging.getLogger("workbench")

STEPS, SAVE_STEPS, KILL_STEP = 6, 2, 3
"""Killed when a checkpoint lies behind it and steps after that, and well before the end."""

LOOK_SECONDS = 0.002
"""Between two looks at how far the training is that is to be killed."""


def resume_check(run: Run) -> None:
    """Train a few steps of this configuration in a process of their own; and again, killed on the way.

    Raises:
        ConfigError: several processes were started.
        TrainingError: the two end with other weights.
    """
    if rank_and_world_size()[1] > 1:
        raise ConfigError("steps: resume_check starts processes of its own (run it without torchrun)")
    folder = run.run_dir.resume_check
    shutil.rmtree(folder, ignore_errors=True)
    short = few_steps(run.config)
    log.info("resume_check: %d steps without a break", STEPS)
    through = trained(short, folder / "through")
    killed = kill_on_the_way(short, folder / "killed")
    log.info("resume_check: killed at step %d of %d, and the same again", killed, STEPS)
    again = trained(short, folder / "killed")
    if through != again:
        second = trained(short, folder / "second")
        raise TrainingError(f"resume_check: {difference(folder, through == second)}")
    report = {"schema_version": 1, "steps": STEPS, "killed_at": killed, "weights": through[0], "same": True}
    write_json(run.run_dir.resume_check_json, report)
    shutil.rmtree(folder)
    log.info("resume_check: the same bytes, sha256 %s, and the same journal", through[0])


def few_steps(config: Config) -> Config:
    """The same training, ended early and saved often."""
    train = replace(
        config.train, max_steps=STEPS, save_steps=SAVE_STEPS, logging_steps=1, patience=None, sample_answers=0
    )
    return replace(config, train=replace(train, report_to=[]), force=False)


def trained(config: Config, folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """Train in a process of its own; the weights' fingerprint, and the journal but for what is measured.

    Raises:
        TrainingError: it failed.
    """
    process, errors = started(config, folder)
    process.join()
    if process.exitcode != 0:
        raise TrainingError(f"resume_check: {said(errors) or f'exit status {process.exitcode}'}")
    lines = journal_lines(RunDir(folder).train_jsonl)
    journal = [{key: value for key, value in line.items() if key not in MEASURED} for line in lines]
    return file_fingerprint(weights(config, folder)), journal


def kill_on_the_way(config: Config, folder: Path) -> int:
    """Train in a process of its own and kill it; the step that it had come to.

    Raises:
        TrainingError: it was over before it could be killed.
    """
    process, errors = started(config, folder)
    while process.is_alive() and steps_behind(folder) < KILL_STEP:
        time.sleep(LOOK_SECONDS)
    process.kill()
    process.join()
    if error := said(errors):
        raise TrainingError(f"resume_check: {error}")
    if weights(config, folder).exists():
        raise TrainingError("resume_check: the training was over before it could be killed (try again)")
    return steps_behind(folder)


def started(config: Config, folder: Path) -> tuple[BaseProcess, Connection]:
    """A process that trains, and the end of a pipe that an error of it comes out of."""
    here, there = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")  # a fork can't use the GPU
    process = context.Process(target=train_alone, args=(config, folder, there), daemon=True)
    process.start()
    there.close()
    return process, here


def train_alone(config: Config, folder: Path, errors: Connection) -> None:
    """What such a process does."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with reading_once():
            train(Run(config, RunDir(folder)))
    except WorkbenchError as error:
        errors.send(str(error))
        raise SystemExit(1) from error


def said(errors: Connection) -> str | None:
    """The error of a process that has ended; None: it had none, or no time to tell."""
    try:
        return str(errors.recv())
    except EOFError:
        return None


def steps_behind(folder: Path) -> int:
    """The last step that was logged."""
    return max((line["step"] for line in journal_lines(RunDir(folder).train_jsonl)), default=0)


def weights(config: Config, folder: Path) -> Path:
    """Where the trained weights of a run are."""
    run_dir = RunDir(folder)
    return run_dir.model if trains_whole_model(config) else run_dir.adapter


def difference(folder: Path, deterministic: bool) -> str:
    """What to make of two trainings that end differently."""
    if deterministic:
        return f"the killed training ends with other weights; both are in {folder} (please report this)"
    return (
        "two trainings without a break end with other weights already: kernels of this machine add up in "
        "an order of their own (train.deterministic=true takes others, where there are any)"
    )
