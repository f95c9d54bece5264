"""The resume_check step: checks that a training that was killed and resumed gives the same weights."""

import logging
import multiprocessing
import shutil
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from workbench.api.training import trained_folder
from workbench.config import Config
from workbench.distributed import rank_and_world_size
from workbench.errors import ConfigError, TrainingError, WorkbenchError
from workbench.pipeline.run_state import Run
from workbench.pipeline.train import train
from workbench.reading_once import reading_once
from workbench.run_dir import RunDir, file_fingerprint, write_json
from workbench.training.counters import MEASURED
from workbench.training.reporting.journal import journal_lines

log = logging.getLogger("workbench")

STEPS, SAVE_STEPS, KILL_STEP = 6, 2, 3
"""Steps of the training, steps between checkpoints, and the step (after a checkpoint) of the kill."""

POLL_SECONDS = 0.002
"""Time between two looks at the progress of the training to kill."""


def resume_check(run: Run) -> None:
    """Train a few steps in a separate process, and again with a kill and a resumption; compare the weights.

    If they are equal, resume_check.json is written and the trainings are deleted. The Python interface has no
    function for it.

    Raises:
        ConfigError: The command was started with several processes.
        TrainingError: Weights or train.jsonl differ, or a training failed; the folders remain.
    """
    if rank_and_world_size()[1] > 1:
        raise ConfigError("steps: resume_check starts processes of its own (run it without torchrun)")
    folder = run.run_dir.resume_check
    shutil.rmtree(folder, ignore_errors=True)
    config = short_training(run.config)
    log.info("resume_check: trains %d steps without interruption", STEPS)
    uninterrupted = train_in_process(config, folder / "through")
    killed_at = train_and_kill(config, folder / "killed")
    log.info("resume_check: killed at step %d of %d; trains again from the checkpoint", killed_at, STEPS)
    resumed = train_in_process(config, folder / "killed")
    if uninterrupted != resumed:
        repeated = train_in_process(config, folder / "second")
        raise TrainingError(f"resume_check: {explain_difference(folder, uninterrupted == repeated)}")
    weights = uninterrupted[0]
    report = {"schema_version": 1, "steps": STEPS, "killed_at": killed_at, "weights": weights, "same": True}
    write_json(run.run_dir.resume_check_json, report)
    shutil.rmtree(folder)
    log.info("resume_check: both trainings end with the same bytes (sha256 %s) and the same journal", weights)


def short_training(config: Config) -> Config:
    """Return the configuration of the same training with few steps and frequent checkpoints."""
    train = replace(
        config.train, max_steps=STEPS, save_steps=SAVE_STEPS, logging_steps=1, patience=None, sample_answers=0
    )
    return replace(config, train=replace(train, report_to=[]), force=False)


def train_in_process(config: Config, folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """Train in a separate process, in the run folder `folder`.

    Returns:
        The fingerprint of the trained weights, and the lines of train.jsonl without times and other
        measurements.

    Raises:
        TrainingError: The training failed.
    """
    process, errors = start_training(config, folder)
    process.join()
    if process.exitcode != 0:
        raise TrainingError(f"resume_check: {read_error(errors) or f'exit status {process.exitcode}'}")
    run_dir = RunDir(folder)
    lines = journal_lines(run_dir.train_jsonl)
    journal = [{key: value for key, value in line.items() if key not in MEASURED} for line in lines]
    return file_fingerprint(trained_folder(run_dir, config.adapter)), journal


def train_and_kill(config: Config, folder: Path) -> int:
    """Train in a separate process, kill it after `KILL_STEP` steps, and return the last logged step.

    Raises:
        TrainingError: The training failed, or ended before it could be killed.
    """
    process, errors = start_training(config, folder)
    while process.is_alive() and last_step(folder) < KILL_STEP:
        time.sleep(POLL_SECONDS)
    process.kill()
    process.join()
    if error := read_error(errors):
        raise TrainingError(f"resume_check: {error}")
    if trained_folder(RunDir(folder), config.adapter).exists():
        raise TrainingError("resume_check: the training ended before it could be killed (try again)")
    return last_step(folder)


def start_training(config: Config, folder: Path) -> tuple[BaseProcess, Connection]:
    """Start a process that trains in the run folder `folder`.

    Returns (the process, the end of a pipe from which `read_error` reads its error).
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")  # a forked process can't use the GPU
    process = context.Process(target=train_alone, args=(config, folder, sender), daemon=True)
    process.start()
    sender.close()
    return process, receiver


def train_alone(config: Config, folder: Path, errors: Connection) -> None:
    """Run the train step in this process; on an error, send its message through `errors`, and exit with 1."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with reading_once():
            train(Run(config, RunDir(folder)))
    except WorkbenchError as error:
        errors.send(str(error))
        raise SystemExit(1) from error


def read_error(errors: Connection) -> str | None:
    """Return the error message that a process has sent; None if it ended without one.

    This waits until the process sends an error or ends.
    """
    try:
        return str(errors.recv())
    except EOFError:
        return None


def last_step(folder: Path) -> int:
    """Return the last step in train.jsonl of a run folder; 0 if there is none."""
    return max((line["step"] for line in journal_lines(RunDir(folder).train_jsonl)), default=0)


def explain_difference(folder: Path, is_deterministic: bool) -> str:
    """Return the message about an interrupted and an uninterrupted training that end with different weights.

    Args:
        folder: Folder with the run folders of both trainings.
        is_deterministic: Whether two uninterrupted trainings end with the same weights.
    """
    if is_deterministic:
        return f"the resumed training ends with other weights; both are in {folder} (please report this)"
    return (
        "even two uninterrupted trainings end with different weights, because kernels on this machine sum in "
        "a varying order (train.deterministic=true selects others, where there are any)"
    )
