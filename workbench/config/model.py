"""Which model: where its weights and tokenizer lie, what it is for, and how it is held in memory."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from workbench.errors import ConfigError


class Task(Enum):
    """What the model's head does."""

    causal_lm = "causal_lm"
    sequence_classification = "sequence_classification"


class Dtype(Enum):
    """The floating point type of unquantized weights and of activations."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Device(Enum):
    """Where the model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Attention(Enum):
    """Which attention kernel computes the same numbers."""

    auto = "auto"
    eager = "eager"
    sdpa = "sdpa"
    xformers = "xformers"
    flash_attention_2 = "flash_attention_2"


Architecture = Enum("Architecture", {"auto": "auto", "open-llama": "open-llama", "native": "native"})
"""Whose modelling code: Open-Llama's, or the checkpoint's own in transformers."""


@dataclass(kw_only=True)
class ModelConfig:
    """The `model` section."""

    path: str | None = None
    """Hub id, folder or `.gguf` file. Needed unless `init` and `tokenizer` are given."""
    task: Task = Task.causal_lm
    """Causal language model, or a classifier of whole sequences with a `score` head."""
    dtype: Dtype = Dtype.auto
    """auto: the checkpoint's own; bfloat16 for a GGUF file; float32 with `init`."""
    device: Device = Device.auto
    """auto: CUDA where there is a GPU, else the CPU."""
    attention: Attention = Attention.auto
    """auto: xformers where the checkpoint asks for it and this machine can run it, else sdpa.

    A kernel that this machine hasn't got is replaced by sdpa, which is said.
    """
    revision: str | None = None
    """Branch, tag or commit of a hub id; None: main."""
    architecture: Architecture = Architecture.auto
    """auto, open-llama: LLaMA checkpoints become Open-Llama. native: any Hugging Face model as it is."""
    tokenizer: str | None = None
    """Hub id, folder, `tokenizer.json`, SentencePiece `.model` or `.gguf` file; None: the model's own."""
    pad_token: str | None = None
    """The padding token, already in the vocabulary; None: the tokenizer's own, else its unk, else its eos."""
    fused: bool = True
    """False: Open-Llama's layers, loss and attention run as plain PyTorch modules, without this project's
    kernels, to find out whether one of them is at fault; slower, and training takes more memory."""
    init: dict[str, Any] = field(default_factory=dict)
    """Fields of OpenLlamaConfig for a new model with random weights; empty: load the weights of `path`."""

    def __post_init__(self) -> None:
        """Refuse an `init` that contradicts the other keys.

        Raises:
            ConfigError: `init` with an architecture that has no such fields.
        """
        if self.init and self.architecture is Architecture.native:
            raise ConfigError("model.init: a new model is Open-Llama, not native (drop one of the two keys)")
