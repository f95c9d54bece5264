"""The adapter section: what is trained on top of the base model."""

import re
from dataclasses import dataclass, field
from enum import Enum

from workbench.config.ranges import check_ranges, number, numbers
from workbench.errors import ConfigError


class AdapterMethod(Enum):
    """What is put on the base model."""

    none = "none"
    lora = "lora"
    dora = "dora"


class AdapterInit(Enum):
    """How the adapter's matrices A and B start."""

    default = "default"
    gaussian = "gaussian"
    orthogonal = "orthogonal"
    pissa = "pissa"
    olora = "olora"


class AdapterBase(Enum):
    """What to do with a base that isn't the one that the adapter at `adapter.path` was trained on."""

    check = "check"
    accept = "accept"


ALL_LINEAR = "all-linear"


@dataclass(kw_only=True)
class AdapterConfig:
    r"""The LoRA or DoRA adapter that is trained on the base model (peft).

    Example:
        python -m workbench recipe=sft model.path=MODEL \
            data.path=rows.jsonl adapter.rank=64 adapter.alpha=128
    """

    method: AdapterMethod = AdapterMethod.lora
    """`adapter=NAME` sets it. lora (arXiv:2106.09685) and dora (arXiv:2402.09353) train a small update of
    each layer. none trains all weights of an unquantized model."""
    path: str | None = None
    """Folder or hub id of an adapter to train further, merge or score. Its own rank, alpha and layers apply,
    not the keys of this section. null: a new adapter."""
    base: AdapterBase = AdapterBase.check
    """check refuses a base with other weights than those that the adapter was trained on, or with another
    name if another tool made the adapter; a merge also compares quantization and dtype. accept goes on, with
    a warning in the merge report."""
    rank: int = number(16, 1, 2**16)
    """Inner size of the update B·A of each layer. A larger rank learns more and needs more memory."""
    alpha: float = number(32.0, 0, 10**6, above=True)
    """The update is multiplied by alpha / rank. Change it with the rank to keep that factor, and with it the
    learning rate."""
    dropout: float = number(0.0, 0, 1, below=True)
    """Share of the adapter's inputs that is set to zero during training, against overfitting."""
    target_modules: list[str] = field(default_factory=lambda: [ALL_LINEAR])
    """Layers that get an adapter, by the last part of their names, as in [q_proj, v_proj]. [all-linear]:
    every linear layer except the output head."""
    modules_to_save: list[str] = field(default_factory=list)
    """Layers whose weights are all trained, and saved with the adapter. The `score` head of a classifier
    always is."""
    trainable_tokens: list[str] = field(default_factory=list)
    """Tokens of the vocabulary whose embeddings are trained too, such as new markers of a chat template."""
    use_rslora: bool = False
    """true multiplies the update by alpha / sqrt(rank), which helps large ranks to learn
    (arXiv:2312.03732)."""
    init: AdapterInit = AdapterInit.default
    """Start values of the matrices A and B. default, gaussian: A random, B zero. orthogonal: orthogonal
    matrices; needs an even rank. pissa (arXiv:2404.02948), olora (arXiv:2406.01775): from the base weights;
    lora only. The base weights stay unchanged, so a saved pissa or olora adapter has twice the rank: the
    second half subtracts the start values."""
    rank_pattern: dict[str, int] = numbers(dict, 1, 2**16)
    """Another rank for some layers, as in {q_proj: 4}. A layer is named by the last part of its name or by a
    regular expression."""
    trainable_tokens_from: int | None = number(None, 0, 10**8)
    """Embeddings of token ids from this number on are trained too. null: those of the tokens that
    recipe=extend added. Set it for a model that another tool has extended, such as Chinese-LLaMA (32000)."""

    @property
    def is_none(self) -> bool:
        """Whether there is no adapter, so that training changes the model's own weights."""
        return self.method is AdapterMethod.none and self.path is None

    def __post_init__(self) -> None:
        """Raise ConfigError where a value can't be meant."""
        check_ranges(self, "adapter")
        targets = self.target_modules
        if not targets or (ALL_LINEAR in targets and len(targets) > 1):
            raise ConfigError(f"adapter.target_modules: {targets!r} (name layers, or [{ALL_LINEAR}] alone)")
        for name in self.rank_pattern:
            try:
                re.compile(name)
            except (re.error, OverflowError, RecursionError) as error:
                raise ConfigError(f"adapter.rank_pattern: {name!r:.100} is no pattern: {error}") from error
        odd = [rank for rank in (self.rank, *self.rank_pattern.values()) if rank % 2]
        if self.init is AdapterInit.orthogonal and odd:
            raise ConfigError(f"adapter.rank: {odd[0]!r} is odd, and adapter.init=orthogonal halves it")
        if self.method == AdapterMethod.dora and self.init in (AdapterInit.pissa, AdapterInit.olora):
            raise ConfigError(f"adapter.init: {self.init.name!r} goes with lora, not with dora (use default)")
