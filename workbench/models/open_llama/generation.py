"""Generation with Open-Llama's causal model, as the decoding loop of transformers calls it."""

from typing import Any

from torch import Tensor
from transformers import GenerationMixin
from transformers.cache_utils import Cache

from workbench.models.open_llama.configuration_open_llama import OpenLlamaConfig
from workbench.models.ops.attention import causal_masks
from workbench.models.ops.prepacked_linear import prepacked


class OpenLlamaGeneration(GenerationMixin):
    """What `generate` does otherwise than for other models of transformers."""

    config: OpenLlamaConfig

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate text as GenerationMixin does; on a CPU, with prepacked copies of the weights meanwhile."""
        with prepacked(patience=4):
            return super().generate(*args, **kwargs)  # type: ignore[misc]

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the arguments of the next call of the model; see GenerationMixin.

        With longrope, all tokens are computed again when a row grows beyond the original length: the cached
        keys have the frequencies of shorter texts. A prompt of `inputs_embeds` can't be computed again, and
        keeps them.
        """
        if past_key_values is not None and self._outgrows_cache(input_ids, past_key_values, attention_mask):
            next_sequence_length = past_key_values = None
        prepare: Any = super().prepare_inputs_for_generation  # type: ignore[misc]
        inputs: dict[str, Any] = prepare(
            input_ids, next_sequence_length, past_key_values, attention_mask, inputs_embeds, **kwargs
        )
        return inputs

    def _outgrows_cache(self, input_ids: Tensor, cache: Cache, attention_mask: Tensor | None) -> bool:
        """Return whether longrope's frequencies of a row change with its tokens that aren't in the cache."""
        num_cached = int(cache.get_seq_length())
        if self.config.rope["rope_type"] != "longrope" or not num_cached:
            return False
        original = int(self.config.rope["original_max_position_embeddings"])
        num_new = input_ids.shape[1] - num_cached
        lengths = input_ids.new_full((len(input_ids),), input_ids.shape[1])
        if attention_mask is not None and attention_mask.dim() == 2:
            lengths = attention_mask.long().sum(-1)
        return bool(((lengths > original) & (lengths - num_new <= original)).any())

    @staticmethod
    def create_masks_for_generate(
        config: OpenLlamaConfig,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None,
        past_key_values: Cache | None,
        position_ids: Tensor | None = None,
        **_: Any,
    ) -> Any:
        """Return window -> mask, which `generate` passes as `attention_mask` if the cache is static."""
        masks, _ = causal_masks(
            config, inputs_embeds, attention_mask, position_ids, past_key_values, set(config.windows)
        )
        return masks
