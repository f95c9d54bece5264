"""Configurations of relatives of LLaMA that transformers doesn't have, by the fields of their config.json."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import LlamaConfig


@strict
class MiniCPMConfig(LlamaConfig):  # type: ignore[no-untyped-call]
    """Configuration of MiniCPM 1 and 2 (https://arxiv.org/abs/2404.06395)."""

    model_type = "minicpm"

    tie_word_embeddings: bool = True
    scale_emb: float | int = 1
    """Factor of the embeddings."""
    scale_depth: float | int = 1
    """Factor of what attention and MLP add to the residual stream, before division by √layers."""
    dim_model_base: int = 1
    """The logits are divided by hidden_size / dim_model_base."""


@strict
class InternLM2Config(LlamaConfig):  # type: ignore[no-untyped-call]
    """Configuration of InternLM2 and InternLM2.5 (https://arxiv.org/abs/2403.17297)."""

    model_type = "internlm2"

    vocab_size: int = 103168
    bias: bool = True
    """Whether the attention's projections have biases; those of the MLP never have."""


BAICHUAN_ROWS, BAICHUAN2_ROWS = 64000, 125696
"""Rows of the embedding of Baichuan-7B and Baichuan2-7B; only the latter normalizes the rows of its head."""
BAICHUAN_13B_HIDDEN_SIZE = 5120
"""Hidden size by which the models of 13B are recognized."""


@strict
class BaichuanConfig(LlamaConfig):  # type: ignore[no-untyped-call]
    """Configuration of Baichuan-7B and Baichuan2-7B (https://arxiv.org/abs/2309.10305)."""

    model_type = "baichuan"

    vocab_size: int = BAICHUAN2_ROWS
    max_position_embeddings: int = 0
    """Only configurations of the 7B models have it."""

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse models that don't have LLaMA's architecture.

        Raises:
            ValueError: The model is Baichuan-13B, its vocabulary is neither Baichuan's nor Baichuan2's, or a
                head with normalized rows is tied to the embedding.
        """
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        if self.hidden_size == BAICHUAN_13B_HIDDEN_SIZE or not self.max_position_embeddings:
            raise ValueError(
                "Baichuan of 13B has ALiBi instead of rotary positions, which Open-Llama doesn't support "
                "(the models of 7B are supported)"
            )
        if self.vocab_size not in (BAICHUAN_ROWS, BAICHUAN2_ROWS):
            raise ValueError(
                f"vocab_size={self.vocab_size} doesn't say whether the head is normalized "
                f"(it is in Baichuan2, {BAICHUAN2_ROWS}, and not in Baichuan, {BAICHUAN_ROWS})"
            )
        if self.tie_word_embeddings and self.vocab_size == BAICHUAN2_ROWS:
            raise ValueError(
                "tie_word_embeddings=True, but Baichuan2 normalizes the rows of its head, not those of its "
                "embedding (only False)"
            )


@strict
class QwenConfig(LlamaConfig):  # type: ignore[no-untyped-call]
    """Configuration of Qwen 1 (https://arxiv.org/abs/2309.16609), with the fields that differ from LLaMA's.

    Texts of up to `seq_length` tokens are computed as by a Qwen2. This is the context length here: beyond it,
    the model would change the rotary base (`use_dynamic_ntk`) and scale the scores (`use_logn_attn`).
    """

    model_type = "qwen"

    hidden_size: int = 0
    num_hidden_layers: int = 0
    num_attention_heads: int = 0
    intermediate_size: int = 0
    """Rows of `w1` and `w2` together: twice LLaMA's `intermediate_size`."""
    seq_length: int = 0
    layer_norm_epsilon: float = 1e-6
    kv_channels: int | None = None
    rotary_emb_base: float | int = 10000
    rotary_pct: float | int = 1
    no_bias: bool = True
    scale_attn_weights: bool = True
    attn_dropout_prob: float | int = 0
    emb_dropout_prob: float | int = 0
    visual: Any = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Set LLaMA's fields from Qwen's, and refuse what no Qwen2 computes.

        Raises:
            ValueError: A field is missing, or has a value that no published Qwen 1 has; or it is a Qwen-VL.
        """
        for name in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "seq_length",
        ):
            if not getattr(self, name):
                raise ValueError(
                    f"{name} is missing (the first files of Qwen-7B had other names; take newer ones)"
                )
        neutral: dict[str, Any] = {
            "rotary_pct": 1,
            "no_bias": True,
            "scale_attn_weights": True,
            "emb_dropout_prob": 0,
        }
        neutral |= {"kv_channels": self.hidden_size // self.num_attention_heads, "visual": None}
        for name, value in neutral.items():
            if getattr(self, name) not in (value, None):
                raise ValueError(
                    f"Qwen 1 with {name}={getattr(self, name)!r:.40} is not supported ({value!r})"
                )
        self.rms_norm_eps, self.max_position_embeddings = self.layer_norm_epsilon, self.seq_length
        self.attention_dropout = self.attn_dropout_prob
        super().__post_init__(**{"rope_theta": self.rotary_emb_base, **kwargs})  # type: ignore[no-untyped-call]
