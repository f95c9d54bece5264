"""Checks that an adapter's task, type and tensors fit the model that the adapter is attached to."""

from collections.abc import Mapping
from pathlib import Path

from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from peft import PeftConfig, PeftType, TaskType
from torch import Tensor
from transformers import PreTrainedModel

from workbench.errors import CheckpointError
from workbench.models.adapters.methods import BASES, EVERY
from workbench.models.adapters.peft_config import is_classifier, peft_type
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


def check_kind(config: PeftConfig, path: str | Path, model: PreTrainedModel) -> None:
    """Check that the adapter's task is the model's, and that its layers compute on quantized weights.

    An adapter that names no task fits classifiers and text models.

    Raises:
        CheckpointError: It is a classifier's adapter on a text model or the reverse, or the model is
            quantized, and layers of this type don't compute the same as merged weights then.
    """
    is_for_classes = config.task_type == TaskType.SEQ_CLS
    if is_for_classes and not is_classifier(model):
        raise CheckpointError(
            f"{path}: trained for a classifier (task_type SEQ_CLS), and the model writes text "
            "(model.task=sequence_classification)"
        )
    if config.task_type == TaskType.CAUSAL_LM and is_classifier(model):
        raise CheckpointError(
            f"{path}: trained for text (task_type CAUSAL_LM), and the model is a classifier "
            "(model.task=causal_lm)"
        )
    _check_quantization(PeftType(config.peft_type), path, model)


def _check_quantization(kind: PeftType, path: str | Path, model: PreTrainedModel) -> None:
    """Raise CheckpointError if layers of this type don't compute on the model's quantized weights."""
    bases = next((bases for method, bases in BASES.items() if peft_type(method) is kind), EVERY)
    for layer, is_possible, bits in (
        (Linear4bit, bases.four_bit, 4),
        (Linear8bitLt, bases.int8, 8),
    ):
        if not is_possible and any(isinstance(module, layer) for module in model.modules()):
            raise CheckpointError(
                f"{path}: peft's layers of {kind.value} don't compute on a base in {bits} bits "
                f"(quantization=none{', or int8' if bases.int8 else ''})"
            )
