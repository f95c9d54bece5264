"""Builds the error for a model whose logits are NaN."""

from workbench.errors import CheckpointError


def not_numbers(where: str) -> CheckpointError:
    """Return the error that logits are NaN; `where` names the item, the prompt or the model."""
    return CheckpointError(
        f"{where}: the model's logits are NaN (the weights are damaged, or the dtype's range is too small: "
        "try model.dtype=float32)"
    )
