"""Element-wise function from the output of a language model's head to the model's logits."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LogitMap:
    """Computes `cap * tanh(scale * x / cap)` of the head's output x; `scale * x` without a cap."""

    scale: float = 1.0
    cap: float | None = None
    in_float32: bool = False
    """Whether the model converts the head's output to float32 before."""

    @property
    def is_identity(self) -> bool:
        """Return whether the logits equal the head's output."""
        return self.scale == 1 and self.cap is None

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the logits for the head's outputs, of any shape, rounded as in the model's own code."""
        logits = outputs.float() if self.in_float32 else outputs
        logits = logits if self.scale == 1 else logits * self.scale
        return logits if self.cap is None else (logits / self.cap).tanh() * self.cap

    def slope(self, logits: Tensor) -> Tensor | float:
        """Return the derivative of the function, by element, where its value is `logits`, in float32.

        Without a cap it is one number, `scale`.
        """
        if self.cap is None:
            return self.scale
        return (logits / self.cap).square_().neg_().add_(1).mul_(self.scale)


IDENTITY = LogitMap()
"""The logits are the head's output."""
