"""The adapter section: what is trained on top of the base model."""

import re
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from typing import Any

from workbench.config.ranges import check_ranges, number, numbers
from workbench.errors import ConfigError


class AdapterMethod(Enum):
    """Kind of adapter: none, LoRA, DoRA, or a method of peft by the name of its PeftType."""

    none = "none"
    lora = "lora"
    dora = "dora"
    adalora = "adalora"
    adamss = "adamss"
    adaption_prompt = "adaption_prompt"
    beft = "beft"
    boft = "boft"
    c3a = "c3a"
    cartridge = "cartridge"
    cpt = "cpt"
    deft = "deft"
    delora = "delora"
    fourierft = "fourierft"
    frod = "frod"
    glora = "glora"
    gralora = "gralora"
    hira = "hira"
    hra = "hra"
    ia3 = "ia3"
    lily = "lily"
    ln_tuning = "ln_tuning"
    loha = "loha"
    lokr = "lokr"
    miss = "miss"
    multitask_prompt_tuning = "multitask_prompt_tuning"
    oft = "oft"
    osf = "osf"
    p_tuning = "p_tuning"
    peanut = "peanut"
    poly = "poly"
    prefix_tuning = "prefix_tuning"
    prompt_tuning = "prompt_tuning"
    psoft = "psoft"
    pvera = "pvera"
    randlora = "randlora"
    road = "road"
    shadow = "shadow"
    shira = "shira"
    supertuning = "supertuning"
    tinylora = "tinylora"
    trainable_tokens = "trainable_tokens"
    unilora = "unilora"
    vblora = "vblora"
    vera = "vera"
    waveft = "waveft"
    xlora = "xlora"


class AdapterInit(Enum):
    """How the adapter's matrices A and B are initialized."""

    default = "default"
    gaussian = "gaussian"
    orthogonal = "orthogonal"
    pissa = "pissa"
    olora = "olora"
    eva = "eva"
    loftq = "loftq"


class AdapterBase(Enum):
    """What to do if the adapter at `adapter.path` was trained on another base model."""

    check = "check"
    accept = "accept"


ALL_LINEAR = "all-linear"
LORA_METHODS = (AdapterMethod.lora, AdapterMethod.dora)
FROM_BASE_OR_ROWS = (AdapterInit.pissa, AdapterInit.olora, AdapterInit.eva)
LORA_KEYS = {
    "rank": "r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "use_rslora": "use_rslora",
    "init": "init_lora_weights",
    "rank_pattern": "rank_pattern",
    "trainable_tokens": "trainable_token_indices",
    "trainable_tokens_from": "trainable_token_indices",
}
"""Key of the adapter section for lora and dora only -> field of peft's LoraConfig that it sets."""


@dataclass(kw_only=True)
class AdapterConfig:
    r"""The adapter that is trained on the base model: LoRA, DoRA or another method of peft.

    Example:
        python -m workbench recipe=sft model.path=MODEL \
            data.path=rows.jsonl adapter.rank=64 adapter.alpha=128
    """

    method: AdapterMethod = AdapterMethod.lora
    """`adapter=NAME` sets it. lora (arXiv:2106.09685) and dora (arXiv:2402.09353) train a small update of
    each layer. none trains all weights of an unquantized model. The other names are methods of peft, which
    take adapter.options; conf/README.md lists which ones can be merged, and on which bases."""
    options: dict[str, Any] = field(default_factory=dict)
    """Fields of peft's configuration class for the method, as in {r: 8, alpha: 16} for loha. With lora and
    dora, the fields that have no key here, as in {exclude_modules: [down_proj], alpha_pattern: {q_proj:
    8}}."""
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
    """Probability that an input value of the adapter is set to zero in training, against overfitting."""
    target_modules: list[str] = field(default_factory=lambda: [ALL_LINEAR])
    """Layers that get an adapter, by the last part of their names, as in [q_proj, v_proj]. [all-linear]:
    every linear layer except the output head."""
    modules_to_save: list[str] = field(default_factory=list)
    """Layers whose own weights are trained and saved with the adapter, by the last part of their names. The
    `score` head of a classifier always is one."""
    trainable_tokens: list[str] = field(default_factory=list)
    """Tokens of the vocabulary whose embeddings are trained too, such as new markers of a chat template."""
    use_rslora: bool = False
    """true multiplies the update by alpha / sqrt(rank), which helps large ranks to learn
    (arXiv:2312.03732)."""
    init: AdapterInit = AdapterInit.default
    """Start values of the matrices A and B. default, gaussian: A random, B zero. orthogonal: orthogonal
    matrices; needs an even rank. pissa (arXiv:2404.02948), olora (arXiv:2406.01775): from the base weights;
    lora only. The base weights stay unchanged, so a saved pissa or olora adapter has twice the rank: the
    second half subtracts the start values. eva (arXiv:2410.07170): A from what each layer reads in training
    rows, with more rank where that varies more (adapter.options.eva_config={rho: 1.0} keeps the ranks
    equal); lora only. loftq: refused."""
    rank_pattern: dict[str, int] = numbers(dict, 1, 2**16)
    """Another rank for some layers, as in {q_proj: 4}. A layer is named by the last part of its name or by a
    regular expression."""
    trainable_tokens_from: int | None = number(None, 0, 10**8)
    """Embeddings of token ids from this number on are trained too. null: those of the tokens that
    recipe=extend added. Set it for a model that another tool has extended, such as Chinese-LLaMA (32000)."""

    @property
    def is_none(self) -> bool:
        """Whether there is no adapter, so that training changes the model's own weights.

        False with a `path`, even if `method` is none.
        """
        return self.method is AdapterMethod.none and self.path is None

    def __post_init__(self) -> None:
        """Raise ConfigError if a value is out of range, or values contradict each other."""
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
        if self.init is AdapterInit.loftq:
            raise ConfigError(
                "adapter.init: loftq is not available: it needs CUDA and the unquantized weights, and a "
                "training loads only the quantized ones (pissa starts from these)"
            )
        if self.method == AdapterMethod.dora and self.init in FROM_BASE_OR_ROWS:
            raise ConfigError(f"adapter.init: {self.init.name!r} goes with lora, not with dora (use default)")
        self._check_lora_keys()

    def _check_lora_keys(self) -> None:
        """Raise ConfigError if a key in LORA_KEYS is set with a method of peft other than lora and dora."""
        if self.method in (AdapterMethod.none, *LORA_METHODS):
            return
        for spec in fields(self):
            default = spec.default if spec.default is not MISSING else {}
            if spec.default_factory is not MISSING:
                default = spec.default_factory()
            if spec.name in LORA_KEYS and getattr(self, spec.name) != default:
                raise ConfigError(
                    f"adapter.{spec.name}: is for lora and dora (settings of {self.method.name} go into "
                    "adapter.options)"
                )
