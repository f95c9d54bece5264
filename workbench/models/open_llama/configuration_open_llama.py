"""Defines and checks the configuration of Open-Llama models, and reads config.json of LLaMA and relatives."""

import math
import os
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.utils import logging

from workbench.models.open_llama.relatives import (
    FULL,
    OPTIONAL_FIELDS,
    RELATIVES,
    SCALES,
    SLIDING,
    open_llama_fields,
    unsupported,
)
from workbench.models.open_llama.rope_parameters import check_rope

logger = logging.get_logger(__name__)

SIZE_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "sliding_window",
    "max_position_embeddings",
)
FRACTION_FIELDS = ("initializer_range", "rms_norm_eps", "hidden_dropout_prob", "attention_dropout_prob")

EXTENDED_FROM = "extended_from"
"""Key of config.json: id of the first token that was added to the vocabulary."""


@strict
class OpenLlamaConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Configuration of an Open-Llama model.

    Open-Llama is LLaMA with four switches: a LayerNorm after the embedding (`use_stable_embedding`, from
    Bloom), a shared input and output embedding (`shared_input_output_embedding`, from PaLM), dropout,
    and memory-efficient attention. With both embedding switches off and no dropout it is LLaMA exactly; with
    biases or norms on heads it is a relative of LLaMA, such as Qwen.

    Args:
        vocab_size: Rows of the embedding.
        hidden_size: Width of the residual stream; without `head_dim` a multiple of `num_attention_heads`.
        intermediate_size: Width of the gated MLP.
        num_hidden_layers: Number of decoder layers.
        num_attention_heads: Query heads.
        num_key_value_heads: Key and value heads, each for a group of query heads. None: one per query head;
            the field is then not written to config.json, for older readers.
        head_dim: Width of one attention head. None: `hidden_size / num_attention_heads`, not written either.
        qkv_bias: Add a bias to queries, keys and values (Qwen2). This field and the next nine are written to
            config.json only if they have an effect.
        o_bias: Add a bias to the attention's output.
        mlp_bias: Add a bias to the three projections of the MLP.
        head_norm: Normalize each head's queries and keys before they are rotated (Qwen3).
        embedding_multiplier: Factor of the embeddings of `input_ids` (Granite, MiniCPM).
        residual_multiplier: Factor of what attention and MLP add to the residual stream.
        logits_scaling: Divisor of the logits.
        attention_multiplier: Factor of the attention scores. None: `head_dim ** -0.5`.
        sliding_window: Number of tokens that a token attends to, itself included (Mistral). None: all
            tokens before it. In a packed row the window doesn't reach into the text before.
        layer_types: For each layer "sliding_attention" (with the window) or "full_attention" (without).
            None: all layers have the window.
        hidden_act: Name of the MLP's activation function in transformers.
        max_position_embeddings: Training length; the threshold of dynamic rope, not a limit.
        initializer_range: Standard deviation of initial weights (a stable embedding is Xavier normal).
        rms_norm_eps: Added to the mean square in every RMSNorm. The embedding's LayerNorm always has 1e-5.
        use_cache: Whether a forward call returns its keys and values.
        pad_token_id: Token whose input embedding is not trained, and which classification ignores at the end
            of a text.
        bos_token_id: First token of a text.
        eos_token_id: Token, or tokens, that end generation.
        tie_word_embeddings: The same as `shared_input_output_embedding`; old files have both fields.
        use_memory_efficient_attention: Use xformers if it supports device, dtype and mask, else SDPA; None
            means true. `use_memorry_efficient_attention`, the spelling of the first checkpoints, is
            read, too.
        hidden_dropout_prob: Dropout on the MLP's output, in train mode.
        attention_dropout_prob: Dropout on the attention probabilities, in train mode, with all kernels.
        use_stable_embedding: Apply a LayerNorm to the embeddings of `input_ids` (not to `inputs_embeds`).
        shared_input_output_embedding: Use the input embedding as output embedding.
        rope_parameters: Rotary embedding: `rope_type` (all types of transformers), `rope_theta`, and the keys
            of the type. Old files have `rope_scaling` ({"type": "linear" or "dynamic", "factor": >= 1}),
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
    head_dim: int | None = None
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    head_norm: bool = False
    embedding_multiplier: float | int = 1
    residual_multiplier: float | int = 1
    logits_scaling: float | int = 1
    attention_multiplier: float | int | None = None
    sliding_window: int | None = None
    layer_types: list[str] | None = None
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
        """Normalize the fields of old files, then check all fields.

        Raises:
            ValueError: A value is invalid.
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
        if self.head_dim is None:
            self.head_dim = self.hidden_size // max(1, self.num_attention_heads)
        if set(self.layer_types or ()) == {FULL}:
            self.sliding_window = self.layer_types = None
        for name in FRACTION_FIELDS:
            setattr(self, name, float(getattr(self, name)))  # LlamaConfig doesn't accept integers
        rope = kwargs.get("rope_scaling", self.rope_parameters)
        if rope is not None:
            check_rope(rope)
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        self.check()

    def check(self) -> None:
        """Check all fields. The model calls this again, because `from_pretrained` may override fields.

        Raises:
            ValueError: A value is invalid.
        """
        for name in SIZE_FIELDS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"config.json: {name} must be 1 or more, got {value!r}")
        for name in FRACTION_FIELDS:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"config.json: {name} must be from 0 to 1, got {getattr(self, name)!r}")
        for name in SCALES:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"config.json: {name} must be a finite number above 0, got {value!r}")
        first = getattr(self, EXTENDED_FROM, self.vocab_size)
        if not isinstance(first, int) or not 0 <= first <= self.vocab_size:
            raise ValueError(f"config.json: {EXTENDED_FROM} must be a row of the embedding, got {first!r}")
        if self.hidden_size % self.num_attention_heads and not self._has_own_head_dim:
            raise ValueError(
                "config.json: hidden_size must be divisible by num_attention_heads, got "
                f"{self.hidden_size} and {self.num_attention_heads}, or head_dim must be given"
            )
        if self.num_attention_heads % (self.num_key_value_heads or self.num_attention_heads):
            raise ValueError(
                "config.json: num_attention_heads must be a multiple of num_key_value_heads, got "
                f"{self.num_attention_heads} and {self.num_key_value_heads}"
            )
        if self.head_width % 2:
            source = (
                "head_dim" if self._has_own_head_dim else f"{self.hidden_size} / {self.num_attention_heads}"
            )
            raise ValueError(
                f"config.json: rotary position needs heads of even width, got {self.head_width} ({source})"
            )
        if reason := unsupported(self):
            raise ValueError(f"config.json: {reason}")
        check_rope(self.rope_parameters)

    @property
    def rope(self) -> dict[str, Any]:
        """Return the rotary parameters, not a copy; they contain `rope_type` and `rope_theta`."""
        return self.rope_parameters or {}

    @property
    def head_width(self) -> int:
        """Return the width of one attention head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def windows(self) -> list[int | None]:
        """Return for each layer the number of tokens that a token attends to, itself included; None: all."""
        kinds = self.layer_types or [SLIDING] * self.num_hidden_layers
        return [self.sliding_window if kind == SLIDING else None for kind in kinds]

    @property
    def _has_own_head_dim(self) -> bool:
        return self.head_width != self.hidden_size // self.num_attention_heads

    @property
    def ties_embeddings(self) -> bool:
        """Return whether input and output embedding are shared, by either field."""
        return self.shared_input_output_embedding or self.tie_word_embeddings

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the fields of a config.json, and the arguments in `kwargs` that weren't used.

        The fields of LLaMA or a relative (such as Qwen) are converted to Open-Llama's; otherwise transformers
        would warn that `model_type` is not open-llama.
        """
        config_dict, unused = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        return cls._from_relative(config_dict), unused

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Create a configuration from config.json's fields; LLaMA's or a relative's are converted."""
        return super().from_dict(cls._from_relative(config_dict), **kwargs)

    @classmethod
    def _from_relative(cls, config_dict: dict[str, Any]) -> dict[str, Any]:
        """Convert fields of LLaMA or a relative to the Open-Llama that computes the same.

        Fields of any other `model_type` are returned unchanged. With Open-Llama's defaults, a LLaMA
        checkpoint's embeddings would be normalized and its head dropped.
        """
        relative = RELATIVES.get(str(config_dict.get("model_type")))
        if relative is None:
            return config_dict
        logger.info(
            "a LLaMA configuration: use_stable_embedding, shared_input_output_embedding, dropout are off"
        )
        return {**open_llama_fields(relative(**config_dict)), "model_type": cls.model_type}

    def to_dict(self) -> dict[str, Any]:
        """Return the content of config.json, without optional fields that have no effect."""
        output = super().to_dict()
        if output.get("num_key_value_heads") == self.num_attention_heads:
            del output["num_key_value_heads"]
        if not self._has_own_head_dim:
            output.pop("head_dim", None)
        for name, neutral in OPTIONAL_FIELDS.items():
            if getattr(self, name) == neutral:
                output.pop(name, None)
        return output
