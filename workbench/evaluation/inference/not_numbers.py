"""The error of a model whose logits are NaN."""

from workbench.errors import CheckpointError


def not_numbers(where: str) -> CheckpointError:
    """The error, which names the item, the prompt or the model at which it was found."""
    return CheckpointError(
        f"{where}: the model's logits are not numbers (damaged weights, or a dtype with too small a range: "
        "try model.dtype=float32)"
    )
