"""Configuration of Open-Llama models."""

import math
import os
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import LlamaConfig, PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.utils import logging

logger = logging.get_logger(__name__)

ROPE_TYPES = ("default", *sorted(ROPE_INIT_FUNCTIONS))

# What a LLaMA configuration may say and this architecture has no place for, at the value that changes
# nothing.
INEXPRESSIBLE: dict[str, Any] = {
    "attention_bias": False,
    "mlp_bias": False,
    "sliding_window": None,
    # Fields of LLaMA's relatives (Granite, Gemma, Cohere, MiniCPM, OLMo, ...), which LLaMA's own class in
    # transformers passes over in silence.
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "logit_scale": 1,
    "logits_scaling": 1,
    "embedding_multiplier": 1,
    "residual_multiplier": 1,
    "lm_head_multiplier": 1,
    "scale_emb": 1,
    "scale_depth": None,
    "dim_model_base": None,
    "clip_qkv": None,
    "qk_norm": False,
    "use_qk_norm": False,
    "qk_layernorm": False,
    "rope_interleaved": False,
    "no_rope_layers": None,
    "attention_chunk_size": None,
    "attn_temperature_tuning": False,
    "use_parallel_residual": False,
    "parallel_attn": False,
    "alibi": False,
    "is_causal": True,
    "use_bidirectional_attention": False,
}

SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
)
SHARES = ("initializer_range", "rms_norm_eps", "hidden_dropout_prob", "attention_dropout_prob")

EXTENDED_FROM = "extended_from"
"""Key of config.json: the first token that an extension of the vocabulary has added."""


@strict
class OpenLlamaConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Shape and behaviour of an Open-Llama model.

    Open-Llama is LLaMA with four switches: a LayerNorm behind the embedding (`use_stable_embedding`, from
    Bloom), one matrix for input and output embedding (`shared_input_output_embedding`, from PaLM), dropout,
    and memory-efficient attention. With both embedding switches off and no dropout it is LLaMA exactly.

    Args:
        vocab_size: Rows of the embedding.
        hidden_size: Width of the residual stream; a multiple of `num_attention_heads`.
        intermediate_size: Width of the gated MLP.
        num_hidden_layers: Number of decoder layers.
        num_attention_heads: Query heads.
        num_key_value_heads: Key and value heads, each serving a group of query heads. None means one a query
            head; then it is not written to config.json, whose older readers don't know it.
        hidden_act: Name of the MLP's activation in transformers' table.
        max_position_embeddings: Length the model was trained for; the threshold of dynamic rope, not a limit.
        initializer_range: Standard deviation of fresh weights (a stable embedding is Xavier normal instead).
        rms_norm_eps: Added to the mean square in every RMSNorm. The embedding's LayerNorm has 1e-5, always.
        use_cache: Whether a forward call returns its keys and values.
        pad_token_id: Row whose input embedding is not trained; what classification skips at the end of a
            text.
        bos_token_id: First token of a text.
        eos_token_id: Token, or tokens, that end a generation.
        tie_word_embeddings: Same effect as `shared_input_output_embedding`; both fields exist in old files.
        use_memory_efficient_attention: Attention through xformers where device, dtype and mask allow, else
            SDPA; None means yes. `use_memorry_efficient_attention`, the spelling of the first checkpoints, is
            read too.
        hidden_dropout_prob: Dropout on the MLP's output, in train mode.
        attention_dropout_prob: Dropout on the attention probabilities, in train mode, whatever the attention.
        use_stable_embedding: LayerNorm on the looked-up embeddings (`inputs_embeds` skip it).
        shared_input_output_embedding: The output embedding is the input embedding.
        rope_parameters: Rotary embedding: `rope_type` (any of transformers'), `rope_theta`, and the type's
            own keys. Old files have `rope_scaling` ({"type": "linear" or "dynamic", "factor": > 1}),
            `rope_theta`.
    """

    model_type = "open-llama"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    attribute_map: ClassVar[dict[str, str]] = {
        "use_memorry_efficient_attention": "use_memory_efficient_attention",
    }

    vocab_size: int = 100000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float | int = 0.02
    rms_norm_eps: float | int = 1e-6
    use_cache: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False
    use_memory_efficient_attention: bool | None = None
    hidden_dropout_prob: float | int = 0.1
    attention_dropout_prob: float | int = 0.1
    use_stable_embedding: bool = True
    shared_input_output_embedding: bool = True
    rope_parameters: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Normalise what old files say differently, then check.

        Raises:
            ValueError: a value that no Open-Llama model can have.
        """
        misspelled = kwargs.pop("use_memorry_efficient_attention", None)
        if self.use_memory_efficient_attention is None:
            self.use_memory_efficient_attention = True if misspelled is None else misspelled
        elif misspelled not in (None, self.use_memory_efficient_attention):
            raise ValueError(
                f"config.json: use_memory_efficient_attention is {self.use_memory_efficient_attention} and "
                f"its misspelling use_memorry_efficient_attention is {misspelled} (keep the first only)"
            )
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        for name in SHARES:
            setattr(self, name, float(getattr(self, name)))  # LLaMA's configuration takes no integers there
        rope = kwargs.get("rope_scaling", self.rope_parameters)
        if rope is not None:
            _check_rope(rope)
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        self.check()

    def check(self) -> None:
        """Check the fields against each other; the model does so again, after overrides of `from_pretrained`.

        Raises:
            ValueError: a value that no Open-Llama model can have.
        """
        for name in SIZES:
            if getattr(self, name) < 1:
                raise ValueError(f"config.json: {name} must be 1 or more, got {getattr(self, name)!r}")
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"config.json: {name} must be from 0 to 1, got {getattr(self, name)!r}")
        first = getattr(self, EXTENDED_FROM, self.vocab_size)
        if not isinstance(first, int) or not 0 <= first <= self.vocab_size:
            raise ValueError(f"config.json: {EXTENDED_FROM} must be a row of the embedding, got {first!r}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                "config.json: hidden_size must be divisible by num_attention_heads, got "
                f"{self.hidden_size} and {self.num_attention_heads}"
            )
        if self.num_attention_heads % (self.num_key_value_heads or self.num_attention_heads):
            raise ValueError(
                "config.json: num_attention_heads must be a multiple of num_key_value_heads, got "
                f"{self.num_attention_heads} and {self.num_key_value_heads}"
            )
        if self.head_width % 2:
            raise ValueError(
                f"config.json: rotary position needs heads of even width, got {self.head_width} "
                f"({self.hidden_size} / {self.num_attention_heads})"
            )
        if reason := inexpressible(self):
            raise ValueError(f"config.json: {reason}")
        _check_rope(self.rope_parameters)

    @property
    def rope(self) -> dict[str, Any]:
        """The rotary description; never without `rope_type` and `rope_theta`."""
        return self.rope_parameters or {}

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def ties_embeddings(self) -> bool:
        """Whether the output embedding is the input embedding; either field says so."""
        return self.shared_input_output_embedding or self.tie_word_embeddings

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a config.json says; a LLaMA one becomes an Open-Llama with its switches off.

        transformers would warn that another `model_type` can yield errors, which is not so for this one.
        """
        config_dict, unused = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        return cls._of_llama(config_dict), unused

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A configuration from config.json; a LLaMA one becomes an Open-Llama with its switches off."""
        return super().from_dict(cls._of_llama(config_dict), **kwargs)

    @classmethod
    def _of_llama(cls, config_dict: dict[str, Any]) -> dict[str, Any]:
        """The description of the Open-Llama that computes what a LLaMA does; others are left as they are.

        The defaults of Open-Llama would normalise the embeddings and drop the head of a LLaMA checkpoint.
        """
        if config_dict.get("model_type") != LlamaConfig.model_type:
            return config_dict
        logger.info(
            "a LLaMA configuration: use_stable_embedding, shared_input_output_embedding, dropout are off"
        )
        return {**LlamaConfig(**config_dict).to_dict(), **LLAMA_SWITCHES, "model_type": cls.model_type}

    def to_dict(self) -> dict[str, Any]:
        """The configuration as config.json holds it."""
        output = super().to_dict()
        if output.get("num_key_value_heads") == self.num_attention_heads:
            del output["num_key_value_heads"]
        return output


LLAMA_SWITCHES = {
    "use_stable_embedding": False,
    "shared_input_output_embedding": False,
    "hidden_dropout_prob": 0.0,
    "attention_dropout_prob": 0.0,
}


def inexpressible(config: PreTrainedConfig) -> str:
    """What of a LLaMA-like configuration changes the numbers and can't be said here; empty: nothing."""
    width = config.hidden_size // config.num_attention_heads
    plain = {
        **INEXPRESSIBLE,
        "head_dim": width,
        "attention_multiplier": width**-0.5,
        "query_pre_attn_scalar": width,
    }
    for name, neutral in plain.items():
        value = getattr(config, name, None)
        if value is not None and value != neutral:
            return f"Open-Llama can't express {name}={value!r} (only {neutral!r})"
    if others := sorted(set(getattr(config, "layer_types", None) or ()) - {"full_attention"}):
        return f"Open-Llama can't express layer_types with {others[0]!r} (only 'full_attention')"
    return ""


def _check_rope(rope: object) -> None:
    """Check a rotary description in either spelling, `rope_scaling` or `rope_parameters`.

    Raises:
        ValueError: an unknown type, a factor that is no finite number above 1, a key the type doesn't have.
    """
    if not isinstance(rope, dict) or not rope:
        raise ValueError(
            f"config.json: rope_scaling must be a dictionary with the keys type and factor, got {rope!r}"
        )
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ROPE_TYPES or rope.get("type", kind) != kind:
        raise ValueError(
            f"config.json: rope_scaling has an unknown type {kind!r} (known: {', '.join(ROPE_TYPES)})"
        )
    if rope.get("partial_rotary_factor") not in (None, 1, 1.0) and kind != "proportional":
        raise ValueError("config.json: Open-Llama can't express partial_rotary_factor (only 1.0)")
    if layers := [name for name, value in rope.items() if isinstance(value, dict)]:
        raise ValueError(
            f"config.json: rope_parameters for {layers[0]} alone (Open-Llama has one kind of layer)"
        )
    factor = rope.get("factor")
    if kind in ("linear", "dynamic") and not _is_finite_above(1, factor):
        raise ValueError(
            f"config.json: rope_scaling's factor must be a finite number above 1, got {factor!r}"
        )
    for name in ("rope_theta", "factor"):
        if rope.get(name) is not None and not _is_finite_above(0, rope[name]):
            raise ValueError(f"config.json: {name} must be a finite number above 0, got {rope[name]!r}")
    known = {"type", "rope_type", "rope_theta", "factor", "partial_rotary_factor"}
    if kind in ("linear", "dynamic") and (extra := sorted(set(rope) - known)):
        raise ValueError(f"config.json: rope_scaling of type {kind} has no key {', '.join(extra)}")


def _is_finite_above(least: float, value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least < value < math.inf
