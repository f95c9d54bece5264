"""Checks that an adapter's task and tensors fit the model that the adapter is attached to."""

from collections.abc import Mapping
from pathlib import Path

from peft import PeftConfig, TaskType
from torch import Tensor

from workbench.errors import CheckpointError
from workbench.models.stored import Stored


def check_fit(path: str | Path, weights: Mapping[str, Stored], expected: dict[str, Tensor]) -> None:
    """Check that an adapter's file has exactly the tensors that the adapter's layers in the model have.

    Args:
        path: The adapter, for messages.
        weights: Name -> tensor in the file; only the shapes are used.
        expected: Name -> tensor of the adapter's layers in the model.

    Raises:
        CheckpointError: A tensor is missing, has no layer in the model, or has another shape.
    """
    reasons = [f"the model has no layer for {name}" for name in sorted(weights.keys() - expected.keys())]
    reasons += [f"{name} is missing" for name in sorted(expected.keys() - weights.keys())]
    reasons += [
        f"{name} is {list(weights[name].shape)} in the file and {list(tensor.shape)} in the model"
        for name, tensor in sorted(expected.items())
        if name in weights and tuple(weights[name].shape) != tuple(tensor.shape)
    ]
    if reasons:
        listed = "; ".join(reasons[:2]) + (f", and {len(reasons) - 2} more" if len(reasons) > 2 else "")
        raise CheckpointError(f"{path}: does not fit this model: {listed} (was it trained on another model?)")


def check_values(path: str | Path, weights: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Check that an adapter's tensors are finite floats where the model's are floats.

    Args:
        path: The adapter, for messages.
        weights: Name -> tensor in the file.
        expected: Name -> tensor in the model, for all names in `weights`.

    Raises:
        CheckpointError: A tensor has integers, NaN or infinite values.
    """
    for name, tensor in sorted(weights.items()):
        if not expected[name].is_floating_point():
            continue
        if not tensor.is_floating_point():
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(f"{path}: {name} has the dtype {dtype} (only floating point numbers)")
        if not bool(tensor.float().isfinite().all()):
            raise CheckpointError(
                f"{path}: {name} has NaN or infinite values (damaged, or its training diverged)"
            )


def check_task(config: PeftConfig, path: str | Path, *, is_classifier: bool) -> None:
    """Raise CheckpointError for a classifier's adapter on a text model, or a text model's on a classifier.

    `is_classifier` says what the model is; an adapter that names no task fits both.
    """
    is_for_classes = config.task_type == TaskType.SEQ_CLS
    if is_for_classes and not is_classifier:
        raise CheckpointError(
            f"{path}: trained for a classifier (task_type SEQ_CLS), and the model writes text "
            "(model.task=sequence_classification)"
        )
    if config.task_type == TaskType.CAUSAL_LM and is_classifier:
        raise CheckpointError(
            f"{path}: trained for text (task_type CAUSAL_LM), and the model is a classifier "
            "(model.task=causal_lm)"
        )
