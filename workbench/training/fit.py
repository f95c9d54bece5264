"""Trains a model on encoded rows, and resumes an interrupted training where it stopped."""

import logging
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset
from peft import PeftModel
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.train import Keep, TrainConfig
from workbench.contexts import quiet_transformers
from workbench.distributed import broadcast_from_rank0, is_rank0
from workbench.errors import TrainingError, first_line
from workbench.file_errors import has_no_room, reason_for_no_room
from workbench.machine import is_out_of_memory
from workbench.run_dir import RunDir
from workbench.training.build_trainer import Training, build_trainer
from workbench.training.callbacks import ProgressBar
from workbench.training.check_settings import check_settings
from workbench.training.checkpoint_checks.content import content_problem, weight_problem
from workbench.training.counters import TrainCounters
from workbench.training.fingerprint import training_identity
from workbench.training.memory_release import keep_few_kernels
from workbench.training.model_state import gather_trained_weights, restored_model_state
from workbench.training.rank_allocation import whole_ranks
from workbench.training.reporting.journal import best_step, journal_lines, logged_history, rewrite_journal
from workbench.training.resume import (
    Checkpoint,
    checkpoint_problem,
    is_incomplete,
    load_weights,
    newest_complete_name,
    newest_good_checkpoint,
)
from workbench.training.trainer import CountingTrainer, Score

log = logging.getLogger("workbench")


@dataclass(frozen=True)
class TrainReport:
    """Steps, losses, scores, tokens and time of a finished training, over all its sessions."""

    steps: int
    epochs: float
    loss_first: float
    """Mean loss of the first `train.logging_steps` steps."""
    loss_last: float
    """Mean loss of the last `train.logging_steps` steps."""
    validation_loss_before: float | None
    """Validation loss before the first step; None: there are no validation rows."""
    validation_loss: float | None
    """Validation loss of the final weights."""
    score: float | None
    """Score of the final weights; None: no score function was given."""
    scores: dict[str, float]
    """Parts of the score: benchmark -> its score."""
    kept_step: int
    """Number of steps after which the model had its final weights: the last step, or the best."""
    tokens: int
    """Tokens without padding."""
    trained_tokens: int
    """Tokens with loss; for a classifier, rows."""
    seconds: float
    """Seconds of all sessions, from their starts to the end of training."""
    tokens_per_second: float
    """`tokens` per second of all sessions."""
    peak_bytes: int
    """Largest peak memory of a session: of the GPU, or without one of the process."""
    pieces: int
    """Number of microbatches that each batch was split into at the end, because memory ran out.

    1 means that batches were not split.
    """
    resumed_from: int | None
    """Step of the checkpoint that this session resumed from; None: it started at step 0."""


def fit(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    train_dataset: Dataset,
    eval_dataset: Dataset | None,
    train: TrainConfig,
    folder: Path,
    seed: int,
    *,
    inputs: str = "",
    score: Score | None = None,
    autocast: torch.dtype | None = None,
) -> TrainReport:
    """Train the weights of the model that require gradients, resuming from the newest checkpoint.

    Writes checkpoints to `folder`/checkpoints, a line per logged step to train.jsonl, and its plot to
    loss.svg. A call that was killed and is repeated ends with exactly the weights of an uninterrupted one.
    The model ends with the weights of the last step, or with `train.keep=best` of the best checkpoint; its
    modes are restored. All ranks must call this, and get the same report.

    Args:
        model: The model; weights that require gradients are trained in place.
        tokenizer: The tokenizer; its padding token is used.
        train_dataset: Rows as `workbench.data.encode` returns them.
        eval_dataset: Validation rows, evaluated at each checkpoint; None: no validation.
        train: Steps, learning rate, batches.
        folder: The run folder.
        seed: Seed of row order and dropout.
        inputs: Fingerprint of whatever else decides the outcome, such as the frozen weights.
        score: Scores the model at each checkpoint and decides which is best, instead of the validation loss.
        autocast: 16-bit dtype of matrix products with float32 weights (mixed precision); None: no autocast.

    Raises:
        ConfigError: The settings don't suit the model or the rows, or `folder` has checkpoints of another
            training.
        TrainingError: The loss or a weight became infinite, NaN or far too large, or memory or disk is full.
    """
    keep_few_kernels()
    training = Training(model, tokenizer, train_dataset, eval_dataset, train, folder, seed, score, autocast)
    check_settings(training)
    identity = training_identity(model, train_dataset, train, seed, inputs)
    counters = TrainCounters()
    with quiet_transformers(), restored_model_state(model), whole_ranks(model) as second_term:
        progress = ProgressBar(counters)
        trainer = build_trainer(training, identity, counters, progress, second_term)
        find_problem = partial(content_problem, trainer=trainer, chooses=train.chooses)
        checkpoint = broadcast_from_rank0(
            lambda: newest_good_checkpoint(RunDir(folder).checkpoints, identity, find_problem)
        )
        if checkpoint:
            counters.load_state_dict(checkpoint.counters)
        if checkpoint and checkpoint.is_final:
            load_final(model, checkpoint, folder)
        else:
            train_to_the_end(trainer, progress, counters, checkpoint)
            gather_trained_weights(model)
        step = load_best(model, folder, identity) if train.keep is Keep.best else None
    return broadcast_from_rank0(lambda: train_report(folder, counters, checkpoint, step))


def train_to_the_end(
    trainer: CountingTrainer, progress: ProgressBar, counters: TrainCounters, checkpoint: Checkpoint | None
) -> None:
    """Train all steps that are left; a new training begins with the validation loss, which `counters` gets.

    Args:
        trainer: The Trainer, whose model is trained in place.
        progress: Progress bar to stop at the end.
        counters: Counters of the training.
        checkpoint: Checkpoint to resume from; None: start at step 0.

    Raises:
        TrainingError, KeyboardInterrupt: As in `run`.
    """
    if checkpoint is None and (loss := trainer.initial_validation_loss()) is not None:
        counters.initial_validation_loss = loss
        log.info("train: validation loss %.4f before training", loss)
    run(trainer, progress, checkpoint)
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # removes autocast


def load_final(model: PreTrainedModel | PeftModel, checkpoint: Checkpoint, folder: Path) -> None:
    """Load a finished training's weights into the model from its last checkpoint.

    On rank 0, rewrite train.jsonl and loss.svg in `folder` from the checkpoint's history.
    """
    log.info("train: all %d steps are done, loaded from %s", checkpoint.step, checkpoint.path)
    load_weights(model, checkpoint.path)
    if is_rank0():
        rewrite_journal(folder, logged_history(checkpoint.path))


def load_best(model: PreTrainedModel | PeftModel, folder: Path, identity: str) -> int | None:
    """Load the weights of the best checkpoint according to train.jsonl into the model, and return its step.

    None: that checkpoint is damaged, which is logged, and the model keeps its weights. All ranks must call
    this.

    Args:
        model: The model.
        folder: The run folder.
        identity: Fingerprint of the training.
    """
    step = broadcast_from_rank0(lambda: best_step(journal_lines(RunDir(folder).train_jsonl)))
    path = RunDir(folder).checkpoints / f"checkpoint-{step}"
    problem = checkpoint_problem(path, identity) or weight_problem(path, model)
    if problem:
        log.warning("%s: %s; the model keeps the last step's weights, not the best", path, problem)
        return None
    log.info("train: loaded the best checkpoint, of step %d", step)
    load_weights(model, path)
    return step


def run(trainer: CountingTrainer, progress: ProgressBar, checkpoint: Checkpoint | None) -> None:
    """Train to the end; errors, and the log after Ctrl-C, name the newest complete checkpoint.

    A checkpoint that couldn't be written completely is deleted.

    Args:
        trainer: The Trainer.
        progress: Progress bar to stop at the end.
        checkpoint: Checkpoint to resume from; None: start at step 0.

    Raises:
        TrainingError: Memory or disk is full, or a loss or weight is infinite, NaN or far too large.
        KeyboardInterrupt: The user pressed Ctrl-C.
    """
    checkpoints = Path(str(trainer.args.output_dir))
    if checkpoint:
        log.info("train: resumes from step %d", checkpoint.step)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    except KeyboardInterrupt:
        progress.stop()
        step, newest = trainer.state.global_step, newest_complete_name(checkpoints)
        log.warning("train: stopped after step %d; the same command resumes from %s", step, newest)
        raise
    except TrainingError as error:
        newest = newest_complete_name(checkpoints)
        raise TrainingError(f"{error} (kept: {newest}; a lower train.learning_rate may help)") from error
    except (OSError, RuntimeError, MemoryError, SafetensorError) as error:
        if is_out_of_memory(error):
            step = trainer.state.global_step + 1
            raise TrainingError(
                f"train: out of memory at step {step} (recipe=plan shows settings that fit)"
            ) from error
        unwritten = checkpoints / f"checkpoint-{trainer.state.global_step}"
        if is_incomplete(unwritten):
            shutil.rmtree(unwritten)
        elif has_no_room(error):  # while writing train.jsonl
            unwritten = checkpoints.parent
        else:
            raise
        newest = newest_complete_name(checkpoints)
        reason = reason_for_no_room(error) if has_no_room(error) else first_line(error)
        raise TrainingError(
            f"{unwritten}: can't be written, {reason} (kept: {newest}; free space and repeat the command)"
        ) from error
    finally:
        progress.stop()


def train_report(
    folder: Path, counters: TrainCounters, checkpoint: Checkpoint | None, best: int | None
) -> TrainReport:
    """Build the report of a finished training from train.jsonl and the counters.

    Args:
        folder: The run folder.
        counters: Counters after the last step.
        checkpoint: Checkpoint that this session resumed from; None: it started at step 0.
        best: Step whose weights were loaded at the end; None: the last step.
    """
    lines = journal_lines(RunDir(folder).train_jsonl)
    losses = [line["loss"] for line in lines if "loss" in line]
    kept_step = best or lines[-1]["step"]
    evaluated = {key: value for line in lines if line["step"] == kept_step for key, value in line.items()}
    seconds = counters.total_seconds
    return TrainReport(
        steps=lines[-1]["step"],
        epochs=lines[-1]["epoch"],
        loss_first=losses[0],
        loss_last=losses[-1],
        validation_loss_before=counters.initial_validation_loss,
        validation_loss=evaluated.get("validation_loss"),
        score=evaluated.get("score"),
        scores={name[6:]: value for name, value in evaluated.items() if name.startswith("score/")},
        kept_step=kept_step,
        tokens=counters.tokens,
        trained_tokens=counters.unmasked_tokens,
        seconds=seconds,
        tokens_per_second=counters.tokens / max(seconds, 1e-9),
        peak_bytes=max(line.get("peak_bytes", 0) for line in lines),
        pieces=counters.num_splits,
        resumed_from=checkpoint.step if checkpoint else None,
    )
