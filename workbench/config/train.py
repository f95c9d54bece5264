"""The train section: steps, learning rate, batches and checkpoints."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from workbench.config.history import hashed
from workbench.config.ranges import check_ranges, number
from workbench.errors import ConfigError

Scheduler = Enum(
    "Scheduler",
    {"constant": "constant", "linear": "linear", "cosine": "cosine", "inverse-sqrt": "inverse-sqrt"},
)
"""Schedule of the learning rate after the warmup."""


NOT_LEARNED = (
    "logging_steps",
    "save_steps",
    "save_total_limit",
    "report_to",
    "deterministic",
    "activation_offloading",
    "fsdp",
    "sample_answers",
)
"""Keys that don't decide the trained weights: only logs, checkpoints, samples, or a GPU's rounding."""


class Optimizer(Enum):
    """Optimizer, by its name in transformers' Trainer."""

    adamw_torch_fused = "adamw_torch_fused"
    adamw_torch = "adamw_torch"
    adamw_8bit = "adamw_8bit"
    paged_adamw_32bit = "paged_adamw_32bit"
    paged_adamw_8bit = "paged_adamw_8bit"
    lion_32bit = "lion_32bit"
    lion_8bit = "lion_8bit"
    paged_lion_32bit = "paged_lion_32bit"
    paged_lion_8bit = "paged_lion_8bit"

    @property
    def is_paged(self) -> bool:
        """Whether its state moves to the machine's memory where a GPU has none left."""
        return self.value.startswith("paged_")

    @property
    def num_moments(self) -> int:
        """Number of values in its state for each trained weight."""
        return 1 if "lion" in self.value else 2


class Precision(Enum):
    """Number format in which the weights of a 16-bit model are trained, with adapter=none."""

    mixed = "mixed"
    pure = "pure"


class Keep(Enum):
    """Which weights a training ends with: those of the last step, or of the best checkpoint."""

    last = "last"
    best = "best"


@dataclass(kw_only=True)
class TrainConfig:
    r"""Training: steps, learning rate, batches, checkpoints.

    Example:
        python -m workbench recipe=sft model.path=MODEL data.path=rows.jsonl \
            train.num_epochs=3 train.learning_rate=1e-4
    """

    max_steps: int = number(-1, 1, 10**9, also=[-1])
    """Number of optimizer steps. -1: as many as train.num_epochs needs."""

    num_epochs: float = number(1.0, 0, 10**6, above=True)
    """Passes over the rows, such as 3 or 0.5. Used if train.max_steps is -1."""

    learning_rate: float = number(2e-4, 0, 10, above=True)
    """Peak learning rate, reached after the warmup. LoRA needs about ten times the rate of full fine-tuning
    (LoRA Without Regret, 2025), so lower it tenfold for adapter=none."""

    lora_plus_ratio: float = number(1.0, 0, 10**4, above=True)
    """LoRA+ (arXiv:2402.12354): learning rate of the adapter's B matrices, divided by that of its A matrices.
    1: LoRA+ is off. 16 is usual."""

    lr_scheduler: Scheduler = Scheduler.cosine
    """Learning rate after the warmup. constant: unchanged. linear, cosine: falls to 0 at the last step.
    inverse-sqrt: falls with the square root of the step."""

    warmup_steps: float = number(0.0, 0, 10**9)
    """Optimizer steps in which the learning rate rises from 0 to its peak. Below 1: a share of all steps,
    such as 0.03."""

    optimizer: Optimizer = Optimizer.adamw_torch_fused
    """Optimizer, by the Trainer's names. adamw_torch_fused, adamw_torch: PyTorch's AdamW. The others are
    bitsandbytes'. 8bit: its state takes a quarter of the memory; weights of fewer than 4,096 values keep
    theirs in 32 bits. paged: a GPU's state moves to the machine's memory when the GPU's is full. lion: half
    the state of AdamW, and a learning rate of about a tenth (arXiv:2302.06675)."""

    weight_decay: float = number(0.0, 0, 10)
    """Weight decay, not applied to biases and norms. Must be 0 for adapter.init=pissa and olora."""

    max_grad_norm: float = number(1.0, 0, 10**6)
    """A gradient with a larger norm is scaled down to this norm. 0: no clipping."""

    per_device_batch_size: int = number(8, 1, 10**6)
    """Rows per forward pass on one device. When memory runs out, halve it and double
    train.gradient_accumulation_steps."""

    max_tokens_per_batch: int | None = number(None, 1, 10**9)
    """Tokens per forward pass, padding included, in place of a number of rows; at least as many as the
    longest row has. null: train.per_device_batch_size applies. When set, train.group_by_length has no
    effect."""

    gradient_accumulation_steps: int = number(1, 1, 10**6)
    """Forward passes per optimizer step on one device. Raise it for larger batches in the same memory."""

    group_by_length: bool = False
    """true puts rows of similar length into one batch, chosen among the rows of 50 steps. Less padding, less
    random order. For classifiers, whose rows can't be packed."""

    gradient_checkpointing: bool = False
    """true computes activations a second time in the backward pass: less memory, about a third more time."""

    activation_offloading: bool = False
    """true moves activations from a GPU to the machine's memory until the backward pass needs them: the
    memory of one layer's stays, and copies take time. Instead of train.gradient_checkpointing, which computes
    them again. Without effect on a CPU."""

    fsdp: bool = False
    """true splits the base's weights over the processes of torchrun or accelerate launch (FSDP2): each holds
    its share, and gathers a layer's weights while it computes the layer. For a LoRA on an unquantized
    Open-Llama that writes texts. The adapter is the same, and is saved whole. false: each process has all
    weights."""

    precision: Precision = Precision.mixed
    """For adapter=none on a 16-bit model; adapters are always trained in float32. mixed: float32 copies of
    the weights are trained, products are computed in 16 bits. pure: the 16-bit weights are trained in half
    the memory, and updates smaller than their rounding are lost."""

    deterministic: bool = True
    """On a GPU: true uses kernels that sum in a fixed order, so that a resumed training gives the same
    bytes."""

    logging_steps: int = number(10, 1, 10**9)
    """Optimizer steps between two logged losses in train.jsonl; a validation adds a line of its own."""

    save_steps: int = number(200, 1, 10**9)
    """Optimizer steps between two checkpoints, at which validation also runs. The last step always saves
    one."""

    save_total_limit: int = number(2, 2, 10**6)
    """Number of newest checkpoints that stay on disk; the best one stays in addition. At least 2: if the
    newest is damaged, the run resumes from the one before."""

    keep: Keep = Keep.last
    """Weights that the training ends with. last: of the last step. best: of the best checkpoint by
    train.score_on, else by validation loss."""

    score_on: list[str] | None = None
    """Benchmarks of the run to score at each checkpoint. The mean of their first metrics tells which
    checkpoint is best. null: the validation loss does. A metric where less is better (perplexity, bits per
    byte) counts negative and cannot be averaged with another."""

    patience: int | None = number(None, 1, 10**6)
    """Stop after this many checkpoints in a row without a new best one. null: take all steps."""

    sample_answers: int | None = number(None, 0, 10**4)
    """Prompts that the base answers before and the trained model after training, to count answers that end by
    themselves and answers that repeat themselves. Held-out prompts, else training prompts. null: 16, in a
    shorter training one for each step. 0: none."""

    report_to: list[str] = field(default_factory=lambda: ["tensorboard"])
    """Loggers in addition to train.jsonl: tensorboard (if it is installed) or another of the Trainer's, such
    as wandb."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and two keys for one purpose.

        Raises:
            ConfigError: A number is out of range, or activations would be offloaded and computed again.
        """
        check_ranges(self, "train")
        if self.activation_offloading and self.gradient_checkpointing:
            raise ConfigError(
                "train.activation_offloading: train.gradient_checkpointing leaves no activations to offload "
                "(set one of the two to false)"
            )

    @property
    def chooses(self) -> bool:
        """Whether scores at the checkpoints choose the final weights: the best ones, or an early stop."""
        return self.keep is Keep.best or self.patience is not None

    def learned(self) -> dict[str, Any]:
        """Return key -> value of the settings that decide the trained weights, for fingerprints.

        The keys are all but NOT_LEARNED; `save_steps` is one of them if `chooses` is true.
        """
        ignored = set(NOT_LEARNED) - ({"save_steps"} if self.chooses else set())
        return {key: value for key, value in hashed(self, "train").items() if key not in ignored}
