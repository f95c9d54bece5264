"""What a checkpoint's files hold, against what the training expects, before any of it is loaded.

A checkpoint whose files are all as its manifest says may hold something else: both can be written again.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping

from workbench.distributed import rank_and_world_size
from workbench.errors import CheckpointError
from workbench.files import read_json
from workbench.training.checkpoint_checks.history import history_problems
from workbench.training.checkpoint_checks.states import (
    OPTIMIZER,
    SCALER,
    SCHEDULER,
    Untrained,
    described,
    optimizer_problems,
    random_problems,
    scaler_problems,
    scheduler_problems,
)
from workbench.training.resume import Checkpoint
from workbench.training.trainer import MeteredTrainer

ADAPTER, MODEL, INDEX = "adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json"
OTHERS = ("adapter_model.bin", "pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model_fsdp.bin")
"""Files of weights that are never written here, and that the Trainer would take instead of ours."""


def content_problem(checkpoint: Checkpoint, trainer: MeteredTrainer, *, chooses: bool) -> str | None:
    """What of a checkpoint this training can't go on from, with the file; None: nothing.

    Args:
        checkpoint: Whose files are as its manifest says.
        trainer: Of the training, before its first step.
        chooses: Whether its evaluations tell which weights it ends with.
    """
    return _first(_problems(checkpoint, trainer, chooses), checkpoint.path)


def weight_problem(folder: Path, model: PreTrainedModel | PeftModel) -> str | None:
    """What of a checkpoint's weights the model can't take, with the file; None: nothing."""
    return _first(_weight_problems(folder, model), folder)


def _first(problems: Iterator[str], folder: Path) -> str | None:
    """The first problem; that of a pickle names the folder, too."""
    try:
        return next(problems, None)
    except CheckpointError as error:
        return str(error).removeprefix(f"{folder}/")


def _problems(checkpoint: Checkpoint, trainer: MeteredTrainer, chooses: bool) -> Iterator[str]:
    """Yield all that is wrong; each check may rely on those before it, as only the first problem is taken."""
    folder, world = checkpoint.path, rank_and_world_size()[1]
    yield from history_problems(folder, is_final=checkpoint.is_final, chooses=chooses)
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:  # they write shards in forms of their own
        return
    assert isinstance(trainer.model, PreTrainedModel | PeftModel)
    yield from _other_weights(folder, trainer.model)
    yield from _weight_problems(folder, trainer.model)
    states = [f"rng_state_{rank}.pth" for rank in range(world)] if world > 1 else ["rng_state.pth"]
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


def untrained_states(trainer: MeteredTrainer) -> Untrained:
    """The optimizer and the scheduler as the Trainer will make them for itself."""
    trainer.create_optimizer_and_scheduler(trainer.args.max_steps)
    optimizer, scheduler = trainer.optimizer, trainer.lr_scheduler
    trainer.optimizer = trainer.lr_scheduler = None
    assert optimizer is not None
    shapes = [weight.shape for group in optimizer.param_groups for weight in group["params"]]
    return Untrained(shapes, optimizer.state_dict()["param_groups"], scheduler)


def _weight_problems(folder: Path, model: PreTrainedModel | PeftModel) -> Iterator[str]:
    """Yield what is wrong with the names, shapes and types of the trained weights."""
    adapter = isinstance(model, PeftModel)
    if not isinstance(model, PeftModel) and get_model_conversion_mapping(model, add_legacy=False):
        return  # a file of such a model, of experts for one, has other names and shapes than the model
    stored: dict[str, Tensor] = {}
    for name in [ADAPTER] if adapter else _model_files(folder):
        if not (folder / name).is_file():
            yield f"{name} is missing"
        stored |= _tensors(folder / name)
    expected, known = _adapter_weights(model) if isinstance(model, PeftModel) else _model_weights(model)
    file = ADAPTER if adapter else MODEL
    for names in expected:
        if not stored.keys() & names:
            yield f"{file}: {min(names)} is missing"
    for name, tensor in stored.items():
        if (weight := known.get(name)) is None:
            yield f"{file}: {name!r:.100} is not a weight of this model"
        elif (tensor.shape, tensor.dtype) != (weight.shape, weight.dtype):
            yield f"{file}: {name} is {described(tensor)} (expected {described(weight)})"


def _other_weights(folder: Path, model: PreTrainedModel | PeftModel) -> Iterator[str]:
    """Yield the files and folders that the Trainer would load instead of the weights, or beside them."""
    others = {path.name for path in folder.iterdir() if _is_taken_for_weights(path)}
    for name in sorted({*others, *OTHERS, *((MODEL, INDEX) if isinstance(model, PeftModel) else (ADAPTER,))}):
        if (folder / name).exists():
            yield f"{name} holds weights that this training has not written"


def _is_taken_for_weights(path: Path) -> bool:
    """Whether the Trainer takes a folder within a checkpoint for another adapter or for shards of FSDP."""
    is_adapter = any((path / name).exists() for name in (ADAPTER, "adapter_model.bin"))
    return path.is_dir() and (is_adapter or "pytorch_model_fsdp" in path.name)


def _model_files(folder: Path) -> list[str]:
    """The files of a model's weights: one, or those that an index names."""
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
    """The tensors of a file, mapped into memory."""
    try:
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, LookupError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{file.name} is damaged") from error


def _adapter_weights(model: PeftModel) -> tuple[list[set[str]], Mapping[str, Tensor]]:
    """The names that an adapter's file must hold, and all tensors that it may hold."""
    tensors = get_peft_model_state_dict(model, adapter_name=model.active_adapter, save_embedding_layers=False)
    return [{name} for name in tensors], {**model.state_dict(), **tensors}  # such as a resized embedding


def _model_weights(model: PreTrainedModel) -> tuple[list[set[str]], Mapping[str, Tensor]]:
    """The names of each trained weight, of which a model's file holds one; all tensors that it may hold."""
    names: dict[int, set[str]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        if weight.requires_grad:
            names.setdefault(id(weight), set()).add(name)
    return list(names.values()), model.state_dict()
