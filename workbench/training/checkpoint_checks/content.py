"""Checks the contents of a checkpoint's files against the training, before any of them is loaded.

Checksums that match the manifest are not enough: somebody may have rewritten both the files and the manifest.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping

from workbench.config.train import Optimizer
from workbench.distributed import rank_and_world_size, unsplit_weights
from workbench.errors import CheckpointError
from workbench.files import read_json
from workbench.training.checkpoint_checks.history import trainer_state_problems
from workbench.training.checkpoint_checks.states import (
    OPTIMIZER,
    SCALER,
    SCHEDULER,
    Untrained,
    describe,
    optimizer_problems,
    random_problems,
    scaler_problems,
    scheduler_problems,
)
from workbench.training.rank_allocation import allocation_problems
from workbench.training.resume import Checkpoint
from workbench.training.trainer import CountingTrainer

ADAPTER, MODEL, INDEX = "adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json"
FOREIGN_FILES = (
    "adapter_model.bin",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "pytorch_model_fsdp.bin",
)
"""Weight files that this program never writes, and that the Trainer would load instead of its files."""


def content_problem(checkpoint: Checkpoint, trainer: CountingTrainer, *, chooses: bool) -> str | None:
    """Return why a training can't resume from a checkpoint, with the file's name; None: it can.

    Nothing is loaded into the trainer or its model. With FSDP or DeepSpeed only trainer_state.json is read.

    Args:
        checkpoint: A checkpoint that matches its manifest.
        trainer: The Trainer, before its first step and without an optimizer.
        chooses: Whether evaluations decide which step's weights the training ends with, or when it stops.
    """
    return _first(_problems(checkpoint, trainer, chooses), checkpoint.path)


def weight_problem(folder: Path, model: PreTrainedModel | PeftModel) -> str | None:
    """Return why a model can't load a checkpoint's weights, with the file's name; None: it can."""
    return _first(_weight_problems(folder, model), folder)


def _first(problems: Iterator[str], folder: Path) -> str | None:
    """Return the first of the problems; None: there is none. A CheckpointError raised instead counts as one.

    The folder is removed from the error's message, because the caller adds it.
    """
    try:
        return next(problems, None)
    except CheckpointError as error:
        return str(error).removeprefix(f"{folder}/")


def _problems(checkpoint: Checkpoint, trainer: CountingTrainer, chooses: bool) -> Iterator[str]:
    """Yield a checkpoint's problems. Only the first is used: a check may rely on those before it."""
    folder, world_size = checkpoint.path, rank_and_world_size()[1]
    yield from trainer_state_problems(folder, is_final=checkpoint.is_final, chooses=chooses)
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:  # their shards have other formats
        return
    assert isinstance(trainer.model, PreTrainedModel | PeftModel)
    yield from _other_weights(folder, trainer.model)
    yield from _weight_problems(folder, trainer.model)
    yield from allocation_problems(folder, trainer.model)
    states = [f"rng_state_{rank}.pth" for rank in range(world_size)] if world_size > 1 else ["rng_state.pth"]
    for name in (OPTIMIZER, SCHEDULER, *states):
        if not (folder / name).is_file():
            yield f"{name} is missing"
    untrained = untrained_states(trainer)
    yield from optimizer_problems(folder, untrained)
    yield from scheduler_problems(folder, untrained, checkpoint.step)
    for name in states:
        yield from random_problems(folder, name)
    if (folder / SCALER).exists():
        if not trainer.args.fp16:
            yield f"{SCALER}: the losses of this training are not scaled"
        yield from scaler_problems(folder)


def untrained_states(trainer: CountingTrainer) -> Untrained:
    """Return the state of the trainer's optimizer and scheduler before the first step.

    They are created for this, and removed from the trainer.
    """
    trainer.create_optimizer_and_scheduler(trainer.args.max_steps)
    optimizer, scheduler = trainer.optimizer, trainer.lr_scheduler
    trainer.optimizer = trainer.lr_scheduler = None
    assert optimizer is not None
    shapes = [weight.shape for group in optimizer.param_groups for weight in group["params"]]
    num_moments = Optimizer(trainer.args.optim).num_moments
    return Untrained(shapes, optimizer.state_dict()["param_groups"], num_moments, scheduler)


def _weight_problems(folder: Path, model: PreTrainedModel | PeftModel) -> Iterator[str]:
    """Yield how a checkpoint's weights differ from the trained weights in names, shapes or dtypes."""
    is_adapter = isinstance(model, PeftModel)
    if not isinstance(model, PeftModel) and get_model_conversion_mapping(model, add_legacy=False):
        return  # such a model, for example one with experts, has other names and shapes in its file
    stored: dict[str, Tensor] = {}
    for name in [ADAPTER] if is_adapter else _model_files(folder):
        if not (folder / name).is_file():
            yield f"{name} is missing"
        stored |= _tensors(folder / name)
    expected, known = _adapter_weights(model) if isinstance(model, PeftModel) else _model_weights(model)
    file = ADAPTER if is_adapter else MODEL
    for names in expected:
        if not stored.keys() & names:
            yield f"{file}: {min(names)} is missing"
    for name, tensor in stored.items():
        if (weight := known.get(name)) is None:
            yield f"{file}: {name!r:.100} is not a weight of this model"
        elif (tensor.shape, tensor.dtype) != (weight.shape, weight.dtype):
            yield f"{file}: {name} is {describe(tensor)} (expected {describe(weight)})"


def _other_weights(folder: Path, model: PreTrainedModel | PeftModel) -> Iterator[str]:
    """Yield a problem for each file or folder whose weights the Trainer would load, but didn't write."""
    folders = {path.name for path in folder.iterdir() if _is_taken_for_weights(path)}
    for name in sorted(
        {*folders, *FOREIGN_FILES, *((MODEL, INDEX) if isinstance(model, PeftModel) else (ADAPTER,))}
    ):
        if (folder / name).exists():
            yield f"{name} holds weights that this training did not write"


def _is_taken_for_weights(path: Path) -> bool:
    """Return whether a path in a checkpoint is a folder that the Trainer would read as weights.

    It reads adapters and FSDP shards.
    """
    is_adapter = any((path / name).exists() for name in (ADAPTER, "adapter_model.bin"))
    return path.is_dir() and (is_adapter or "pytorch_model_fsdp" in path.name)


def _model_files(folder: Path) -> list[str]:
    """Return the names of the files with a model's weights: model.safetensors, or the files of its index."""
    if not (folder / INDEX).is_file():
        return [MODEL]
    try:
        names = set(read_json(folder / INDEX)["weight_map"].values())
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{INDEX} is damaged") from error
    if (folder / MODEL).exists() or not all(isinstance(name, str) and "/" not in name for name in names):
        raise CheckpointError(f"{INDEX} is damaged")
    return sorted(names)


def _tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name, memory-mapped."""
    try:
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, LookupError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{file.name} is damaged") from error


def _adapter_weights(model: PeftModel) -> tuple[list[set[str]], Mapping[str, Tensor]]:
    """Return the names that an adapter's file must contain, and name -> tensor of all that it may contain.

    Each name is wrapped in a set, because `_model_weights` returns sets of names.
    """
    whole = unsplit_weights(model)  # else peft gathers weights of other ranks, which don't call this
    tensors = get_peft_model_state_dict(model, whole, model.active_adapter, save_embedding_layers=False)
    return [{name} for name in tensors], {**model.state_dict(), **tensors}  # such as a resized embedding


def _model_weights(model: PreTrainedModel) -> tuple[list[set[str]], Mapping[str, Tensor]]:
    """Return the names that a model's file must contain, and name -> tensor of all that it may contain.

    The names of one weight are a set, and the file must contain one of them: a weight that two layers share
    has two names.
    """
    names: dict[int, set[str]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        if weight.requires_grad:
            names.setdefault(id(weight), set()).add(name)
    return list(names.values()), model.state_dict()
