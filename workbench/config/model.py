"""The model section: weights, tokenizer, task, number format and device."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from workbench.errors import ConfigError


class Task(Enum):
    """What the model's head predicts: the next token, or a text's class (with data.regression its number)."""

    causal_lm = "causal_lm"
    sequence_classification = "sequence_classification"


class Dtype(Enum):
    """The floating point type of unquantized weights and of activations."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Device(Enum):
    """Device on which the model runs; auto: see `model.device`."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Attention(Enum):
    """Kernel that computes attention; all give the same result up to rounding."""

    auto = "auto"
    eager = "eager"
    sdpa = "sdpa"
    xformers = "xformers"
    flash_attention_2 = "flash_attention_2"


class LossKernel(Enum):
    """Kernel that computes the loss in training; both give the same result up to rounding."""

    chunked = "chunked"
    liger = "liger"


Architecture = Enum("Architecture", {"auto": "auto", "open-llama": "open-llama", "native": "native"})
"""Modelling code that runs the model: Open-Llama's, or transformers' for the checkpoint's architecture."""


@dataclass(kw_only=True)
class ModelConfig:
    r"""The model: weights, tokenizer, task, number format and device.

    Example:
        python -m workbench recipe=sft model.path=MODEL \
            model.dtype=bfloat16 data.path=rows.jsonl
    """

    path: str | None = None
    """Weights: a hub id, modelscope:OWNER/NAME, a folder or a `.gguf` file. Required, unless model.init and
    model.tokenizer define a new model. Folders quantized by GPTQ, AWQ, bitsandbytes, compressed-tensors
    (int4, int8, fp8) or in FP8 are unpacked, and quantized anew with `quantization`."""
    task: Task = Task.causal_lm
    """causal_lm: the model writes text. sequence_classification: a `score` head gives each text a class, or a
    number with data.regression=true."""
    dtype: Dtype = Dtype.auto
    """Number format of unquantized weights and of activations. auto: that of the checkpoint; bfloat16 for a
    GGUF file or an unpacked folder; float32 with model.init. bfloat16 needs half the memory of float32. On a
    GPU, too, float32 is exact, unless `model.tf32` is on."""
    device: Device = Device.auto
    """auto: CUDA if there is a GPU, else the CPU."""
    attention: Attention = Attention.auto
    """Attention kernel. All give the same result up to rounding. auto: xformers if the checkpoint asks for it
    and this machine can run it, else sdpa. A kernel that this machine cannot run is replaced by sdpa, and the
    log says so. With flash_attention_2, prefixes that benchmark items share are computed for each item."""
    revision: str | None = None
    """Branch, tag or commit of model.path on the Hub or on ModelScope. null: main; of ModelScope master."""
    architecture: Architecture = Architecture.auto
    """auto: LLaMA, InternLM2, InternLM2.5, InternLM3, Mistral, Qwen2, Qwen2.5, Qwen3, Granite, MiniCPM 1 and
    2, Baichuan-7B, Baichuan2-7B and Qwen 1 become Open-Llama; transformers' own class runs any other causal
    model (ChatGLM3 and GLM-4 become its Glm), and the log says what that costs. open-llama: others are
    refused. native: transformers' own class also runs models that Open-Llama could."""
    tokenizer: str | None = None
    """Hub id, folder, `tokenizer.json`, SentencePiece `.model`, tiktoken or `.gguf` file. null: the tokenizer
    in model.path."""
    endpoint: str | None = None
    """Address of a model behind OpenAI's interface, as in http://127.0.0.1:8000/v1, which recipe=evaluate
    asks in place of weights. model.path then names the folder or hub id of its tokenizer."""
    pad_token: str | None = None
    """Padding token. It must be in the vocabulary. null: the tokenizer's own, else its unk, else its eos
    token."""
    fused: bool = True
    """false: models run as plain PyTorch modules, without this project's kernels, to find out whether a
    kernel is at fault. Slower, and training needs more memory."""
    compile: bool = False
    """true: torch.compile makes one kernel of each norm, rotation of positions and gated activation, and one
    of its backward pass. A GPU then launches fewer kernels and reads memory less often; a CPU isn't faster. A
    run starts seconds to a minute later. Results are the same up to rounding. Needs a C++ compiler and, on a
    GPU, Triton."""
    tf32: bool = False
    """true: a GPU multiplies float32 numbers rounded to 10 bits of their fraction, which is faster (TF32).
    Has no effect on a CPU, or on other dtypes."""
    loss: LossKernel = LossKernel.chunked
    """Kernel of the training's loss; both store no logits of a whole batch. chunked: this project's. liger:
    that of the package liger-kernel, on a GPU, where the head is a plain layer without a cap or scale on its
    logits; the chunked one elsewhere."""
    init: dict[str, Any] = field(default_factory=dict)
    """Fields of OpenLlamaConfig for a new model with random weights, as in {hidden_size: 128,
    num_hidden_layers: 2}. Empty: the weights are loaded from model.path."""

    def __post_init__(self) -> None:
        """Refuse keys that contradict each other.

        Raises:
            ConfigError: `init` is given together with architecture=native, or `compile` or loss=liger without
                `fused`.
        """
        if self.compile and not self.fused:
            raise ConfigError(
                "model.compile: it compiles this project's kernels, which model.fused=false disables (drop "
                "one of the two keys)"
            )
        if self.loss is LossKernel.liger and not self.fused:
            raise ConfigError("model.loss: model.fused=false leaves no choice of kernels (drop one key)")
        if self.init and self.architecture is Architecture.native:
            raise ConfigError("model.init: a new model is Open-Llama, not native (drop one of the two keys)")
