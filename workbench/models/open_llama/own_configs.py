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
