"""How a run is trained."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from workbench.config.history import hashed
from workbench.config.ranges import check_ranges, number

Scheduler = Enum(
    "Scheduler",
    {"constant": "constant", "linear": "linear", "cosine": "cosine", "inverse-sqrt": "inverse-sqrt"},
)
"""The learning rate after the warmup."""


NOT_LEARNED = (
    "logging_steps",
    "save_steps",
    "save_total_limit",
    "report_to",
    "deterministic",
    "sample_answers",
)
"""Keys that change what is seen or kept, or the last bits of a GPU's sums, not what is learned."""


class Precision(Enum):
    """How 16-bit weights are held while they are trained themselves."""

    mixed = "mixed"
    pure = "pure"


class Keep(Enum):
    """Which weights a training ends with."""

    last = "last"
    best = "best"


@dataclass(kw_only=True)
class TrainConfig:
    """Steps, rates, batches and checkpoints."""

    max_steps: int = number(-1, 1, 10**9, also=[-1])
    """Optimizer steps; -1: as many as `num_epochs` takes."""

    num_epochs: float = number(1.0, 0, 10**6, above=True)
    """Passes over the rows, used when `max_steps` is -1."""

    learning_rate: float = number(2e-4, 0, 10, above=True)
    """Peak rate. LoRA wants about ten times the rate of full fine-tuning (LoRA Without Regret, 2025)."""

    lora_plus_ratio: float = number(1.0, 0, 10**4, above=True)
    """LoRA+ (arXiv:2402.12354): the rate of the adapters' B matrices over that of A; 1 is off, 16 usual."""

    lr_scheduler: Scheduler = Scheduler.cosine
    """After the warmup: constant, linear (down to 0), cosine (down to 0) or inverse-sqrt."""

    warmup_steps: float = number(0.0, 0, 10**9)
    """Optimizer steps of linear warmup; below 1 it is a share of all steps."""

    weight_decay: float = number(0.0, 0, 10)
    """AdamW's decay of weights; biases and norms are spared."""

    max_grad_norm: float = number(1.0, 0, 10**6)
    """The gradient is scaled down to this norm; 0 leaves it alone."""

    per_device_batch_size: int = number(8, 1, 10**6)
    """Rows of one forward pass on one device."""

    max_tokens_per_batch: int | None = number(None, 1, 10**9)
    """Instead of a number of rows: as many as fit into so many tokens, padding included."""

    gradient_accumulation_steps: int = number(1, 1, 10**6)
    """Forward passes of one optimizer step."""

    group_by_length: bool = False
    """Batches of rows of like length: less padding, where there is any, in an order that is less random."""

    gradient_checkpointing: bool = False
    """Forget activations and compute them again: less memory, about a third more time."""

    precision: Precision = Precision.mixed
    """Of `adapter=none` on a 16-bit model: mixed trains float32 copies and multiplies in 16 bits (autocast).

    Adapters are float32 in either case. pure trains the 16-bit weights themselves, in half the memory:
    steps below their spacing are lost."""

    deterministic: bool = True
    """On a GPU, kernels that add up in one order only, so that a resumed training has the same bytes."""

    logging_steps: int = number(10, 1, 10**9)
    """Optimizer steps between two lines of train.jsonl."""

    save_steps: int = number(200, 1, 10**9)
    """Optimizer steps between two checkpoints; the last step always leaves one."""

    save_total_limit: int = number(2, 2, 10**6)
    """Checkpoints kept beside the best; at least 2, so that a damaged one costs no more than `save_steps`."""

    keep: Keep = Keep.last
    """The weights to end with: the last, or the best of all checkpoints, which needs validation."""

    score_on: list[str] | None = None
    """Benchmarks of the run whose mean score at each checkpoint tells the best; null: the validation loss.

    Each counts alike, by its first metric. Of a perplexity or of bits per byte, where less is better, the
    mean is written down as the negative; such a metric has no mean with another one."""

    patience: int | None = number(None, 1, 10**6)
    """Stop when so many checkpoints in a row were no better than the best one; null: take all steps."""

    sample_answers: int = number(16, 0, 10**4)
    """Prompts that base and trained model answer after training, to count the answers that end by themselves
    and those that repeat themselves; held-out ones, else of the training rows. 0: none."""

    report_to: list[str] = field(default_factory=lambda: ["tensorboard"])
    """Loggers beside train.jsonl: tensorboard (if it is installed), or any other of the Trainer's."""

    def __post_init__(self) -> None:
        """Refuse values that would train nothing or lose a run."""
        check_ranges(self, "train")

    @property
    def chooses(self) -> bool:
        """Whether what is found at the checkpoints decides which weights the training ends with."""
        return self.keep is Keep.best or self.patience is not None

    def learned(self) -> dict[str, Any]:
        """The values that decide the trained weights: when checkpoints are written only where it chooses."""
        ignored = set(NOT_LEARNED) - ({"save_steps"} if self.chooses else set())
        return {key: value for key, value in hashed(self, "train").items() if key not in ignored}
