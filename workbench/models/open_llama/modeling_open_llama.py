"""Implements Open-Llama for transformers: LLaMA with stable embedding, shared output embedding and dropout.

Shapes: B batch, S new tokens, K keys (cached and new), H hidden size, A query heads, G key/value heads,
D head width, V vocabulary, N labels.
"""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    SequenceClassifierOutputWithPast,
)
from transformers.utils import logging
from transformers.utils.generic import can_return_tuple

from workbench.errors import CheckpointError
from workbench.models.open_llama.configuration_open_llama import OpenLlamaConfig
from workbench.models.open_llama.generation import OpenLlamaGeneration
from workbench.models.open_llama.rotary_embedding import OpenLlamaRotaryEmbedding
from workbench.models.ops.attention import ATTENTION_FUNCTIONS as ALL_ATTENTION_FUNCTIONS
from workbench.models.ops.attention import causal_masks, default_attention, mask_of_branches
from workbench.models.ops.elementwise import gated, rms_norm, rotate
from workbench.models.ops.fused import is_plain
from workbench.models.ops.lazy_logits import LazyLogitsOutput, logits_maker
from workbench.models.ops.lora_projection import project
from workbench.models.ops.loss import causal_lm_loss, classification_loss, loss_of_logits
from workbench.models.ops.packed_sequences import Branches
from workbench.models.ops.prepacked_linear import multiply
from workbench.models.ops.torch_attention import attend_with_prefixes, eager

logger = logging.get_logger(__name__)

EMBEDDING_EPS = 1e-5  # fixed in every Open-Llama checkpoint, whatever rms_norm_eps says


class OpenLlamaRMSNorm(nn.Module):
    """Root mean square normalization in float32, rounded to the input's dtype, times a weight."""

    def __init__(self, width: int, eps: float) -> None:
        """Initialize the weight to ones."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalize `hidden` (..., H)."""
        return rms_norm(hidden, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Return width and eps, for print(model)."""
        return f"{tuple(self.weight.shape)}, eps={self.eps}"


class OpenLlamaAttention(nn.Module):
    """Causal self-attention with rotary positions, grouped key/value heads and optional norms on heads."""

    def __init__(self, config: OpenLlamaConfig, layer_idx: int) -> None:
        """Create the attention of decoder layer `layer_idx`, which is also its index in the cache."""
        super().__init__()
        width, groups = config.head_width, config.num_key_value_heads or config.num_attention_heads
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = width
        self.num_key_value_groups = config.num_attention_heads // groups
        self.scaling = config.attention_multiplier or width**-0.5
        self.sliding_window = config.windows[layer_idx]
        self.is_causal = True
        self.q_proj = nn.Linear(config.hidden_size, config.num_attention_heads * width, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, groups * width, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, groups * width, bias=config.qkv_bias)
        self.o_proj = nn.Linear(config.num_attention_heads * width, config.hidden_size, bias=config.o_bias)
        self.q_norm = OpenLlamaRMSNorm(width, config.rms_norm_eps) if config.head_norm else None
        self.k_norm = OpenLlamaRMSNorm(width, config.rms_norm_eps) if config.head_norm else None

    def forward(
        self,
        hidden: Tensor,
        tables: tuple[Tensor, Tensor],
        masks: dict[int | None, Tensor | None],
        past_key_values: Cache | None,
        implementation: str,
        shared_prefixes: Sequence[tuple[Cache, slice]] | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the output (B, S, H) and, from eager attention, the probabilities (B, A, S, K), else None.

        `tables` are cosine and signed sine for `rotate`. `masks` maps each window, or None, to its mask. The
        new keys and values are added to `past_key_values`. `shared_prefixes` are caches, each with the
        rows that share it. `implementation` is the name of the attention kernel, and `kwargs` are its
        arguments.
        """
        shape = (*hidden.shape[:2], -1, self.head_dim)
        projected = project(hidden, self.q_proj, self.k_proj, self.v_proj)
        query, key, value = (states.view(shape) for states in projected)
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        query = rotate(query, *tables).transpose(1, 2)  # (B, A, S, D)
        key = rotate(key, *tables).transpose(1, 2)  # (B, G, S, D)
        value = value.transpose(1, 2)
        if past_key_values is not None:
            key, value = past_key_values.update(
                key, value, self.layer_idx
            )  # (B, G, K, D), keys after rotation
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager)
        if shared_prefixes is not None:
            attend = partial(attend_with_prefixes, shared_prefixes)
        dropout = self.config.attention_dropout_prob if self.training else 0.0
        output, probabilities = attend(
            self,
            query,
            key,
            value,
            masks[self.sliding_window],
            scaling=self.scaling,
            dropout=dropout,
            sliding_window=self.sliding_window,
            **kwargs,
        )
        [out] = project(output.reshape(*hidden.shape[:2], -1), self.o_proj)
        return out, probabilities

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Files of transformers up to 4.31 contain the frequencies, which the configuration determines.
        state_dict.pop(f"{prefix}rotary_emb.inv_freq", None)
        super()._load_from_state_dict(state_dict, prefix, *args)


class OpenLlamaMLP(nn.Module):
    """Gated MLP with dropout on its output."""

    def __init__(self, config: OpenLlamaConfig) -> None:
        """Create the three projections."""
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)
        self.act_fn = ACT2FN[config.hidden_act]
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor) -> Tensor:
        """Apply the MLP to `hidden` (B, S, H)."""
        inner = gated(self.act_fn, *project(hidden, self.gate_proj, self.up_proj))
        [out] = project(inner, self.down_proj)
        return self.dropout(out) if self.dropout.training else out


class OpenLlamaDecoderLayer(GradientCheckpointingLayer):  # type: ignore[no-untyped-call]
    """Attention, then MLP, each on normalized input and added to the residual stream."""

    def __init__(self, config: OpenLlamaConfig, layer_idx: int) -> None:
        """Create decoder layer number `layer_idx`, counted from 0."""
        super().__init__()
        self.residual_multiplier = config.residual_multiplier
        self.self_attn = OpenLlamaAttention(config, layer_idx)
        self.mlp = OpenLlamaMLP(config)
        self.input_layernorm = OpenLlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = OpenLlamaRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """Return the residual stream (B, S, H) after the layer, and the attention's probabilities or None."""
        output, probabilities = self.self_attn(self.input_layernorm(hidden), **kwargs)
        hidden = torch.add(hidden, output, alpha=self.residual_multiplier)
        output = self.mlp(self.post_attention_layernorm(hidden))
        return torch.add(hidden, output, alpha=self.residual_multiplier), probabilities


class OpenLlamaPreTrainedModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """Base of the three Open-Llama classes: names, supported features and weight initialization."""

    config: OpenLlamaConfig
    config_class = OpenLlamaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    takes_shared_prefixes = True
    """Whether rows can share the keys and values of a prefix, by the argument `shared_prefixes`."""
    mask_of_branches = mask_of_branches
    """Returns the `attention_mask` of a row that contains a tree of tokens, where the device has a kernel."""
    takes_known_values = True
    """Whether the arguments `text_lengths` and `label_positions` spare reads from the device."""
    _no_split_modules = ["OpenLlamaDecoderLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, OpenLlamaRotaryEmbedding):
            module.reset()
            return
        # normal(0, initializer_range); norms start with weight 1 and bias 0
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, nn.Embedding) and self.config.use_stable_embedding:
            init.xavier_normal_(module.weight)
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])

    def get_correct_attn_implementation(
        self, requested_attention: str | None, is_init_check: bool = False
    ) -> str:
        """Return the attention kernel's name: as requested, else by `use_memory_efficient_attention`."""
        if requested_attention is None:
            requested_attention = default_attention(bool(self.config.use_memory_efficient_attention))
        return super().get_correct_attn_implementation(requested_attention, is_init_check)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """Resize the embeddings as PreTrainedModel does, set `vocab_size`, and return the input embedding."""
        embedding: nn.Embedding = super().resize_token_embeddings(*args, **kwargs)
        setattr(self.base_model, "vocab_size", embedding.num_embeddings)  # noqa: B010
        return embedding


class OpenLlamaModel(OpenLlamaPreTrainedModel):  # type: ignore[no-untyped-call]
    """Decoder stack without a head.

    Callers that compute `inputs_embeds` must use `embed(ids)`: with `use_stable_embedding`, the result of
    `get_input_embeddings()(ids)` is not normalized, and with `embedding_multiplier` not scaled.
    """

    def __init__(self, config: OpenLlamaConfig) -> None:
        """Create a model with random weights."""
        super().__init__(config)
        config.check()
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.embed_layer_norm = (
            nn.LayerNorm(config.hidden_size, eps=EMBEDDING_EPS) if config.use_stable_embedding else None
        )
        self.layers = nn.ModuleList(OpenLlamaDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = OpenLlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = OpenLlamaRotaryEmbedding(config)
        self.gradient_checkpointing = False
        self.post_init()  # type: ignore[no-untyped-call]

    def embed(self, input_ids: Tensor) -> Tensor:
        """Return the first layer's input (B, S, H) for `input_ids` (B, S).

        Embeddings are normalized if `use_stable_embedding` is on, and scaled by `embedding_multiplier`.
        """
        embedded: Tensor = self.embed_tokens(input_ids)
        if self.embed_layer_norm is not None:
            embedded = self.embed_layer_norm(embedded)
        multiplier = self.config.embedding_multiplier
        return embedded if multiplier == 1 else embedded * multiplier

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Branches | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        text_lengths: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Compute hidden states of a batch of tokens.

        Args:
            input_ids: (B, S); or give `inputs_embeds`.
            attention_mask: (B, K), 0 for padding; or (B, 1, S, K), used unchanged in all layers, even
                those with a window; or what `mask_of_branches` returns.
            position_ids: (B or 1, S). Without mask and cache, a position that isn't the previous one plus one
                begins a new text; packed texts don't attend to each other.
            past_key_values: Keys and values of earlier tokens.
            inputs_embeds: (B, S, H), used without the stable embedding's norm.
            use_cache: Return the keys and values; default: as configured.
            output_attentions: Return each layer's probabilities, computed with eager attention.
            output_hidden_states: Return the input of each layer and the final hidden states.
            text_lengths: Lengths of the texts that `position_ids` separate, in order. Without them a GPU has
                to send the lengths to the CPU first.
            **kwargs: Arguments of the attention kernel. `shared_prefixes`: caches of prefixes, each stored as
                one row and not in `past_key_values`, with the slice of the rows that share it. Each row has
                one new token then, and a boolean mask (B, 1, 1, K), in which K doesn't count the prefix.

        Raises:
            ValueError: Both or neither of `input_ids` and `inputs_embeds` are given, or a filled cache with
                gradient checkpointing, or a prefix with rows that are longer than a window.
        """
        inputs_embeds = self._embedded(input_ids, inputs_embeds)
        config = self.config
        output_attentions = config.output_attentions if output_attentions is None else output_attentions
        output_hidden_states = (
            config.output_hidden_states if output_hidden_states is None else output_hidden_states
        )
        if output_attentions and config._attn_implementation != "eager":
            config = copy.copy(config)
            config._attn_implementation = "eager"

        if self.gradient_checkpointing and self.training:
            _check_empty(past_key_values)
            use_cache, past_key_values = False, None
        masks, packing = causal_masks(
            config,
            inputs_embeds,
            attention_mask,
            position_ids,
            past_key_values,
            set(config.windows),
            text_lengths,
        )
        _check_window(config, attention_mask, kwargs.get("shared_prefixes"))
        lengths = self.rotary_emb.lengths(position_ids, attention_mask, past_key_values)
        if position_ids is None:
            past_length = 0 if past_key_values is None else past_key_values.get_seq_length()
            position_ids = (
                torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device)[None] + past_length
            )
        if past_key_values is None and (config.use_cache if use_cache is None else use_cache):
            past_key_values = DynamicCache(config=config)

        hidden, hidden_states, attentions = self._run_layers(
            inputs_embeds,
            bool(output_hidden_states),
            bool(output_attentions),
            tables=self.rotary_emb(inputs_embeds, position_ids, lengths),
            masks=masks,
            position_ids=position_ids,
            past_key_values=past_key_values,
            implementation=config._attn_implementation,
            **packing,
            **kwargs,
        )
        return BaseModelOutputWithPast(
            last_hidden_state=hidden,
            past_key_values=past_key_values,
            hidden_states=hidden_states,
            attentions=attentions,
        )

    def _embedded(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """Return `inputs_embeds`, or the embeddings of `input_ids`.

        Raises:
            ValueError: Both or neither are given.
        """
        if input_ids is not None and inputs_embeds is not None:
            raise ValueError(
                "You cannot specify both decoder_input_ids and decoder_inputs_embeds at the same time"
            )
        if input_ids is not None:
            return self.embed(input_ids)
        if inputs_embeds is None:
            raise ValueError("You have to specify either decoder_input_ids or decoder_inputs_embeds")
        return inputs_embeds

    def _run_layers(
        self, hidden: Tensor, output_hidden_states: bool, output_attentions: bool, **arguments: Any
    ) -> tuple[Tensor, tuple[Tensor, ...] | None, tuple[Tensor, ...] | None]:
        """Run the layers and the final norm.

        Returns:
            The final hidden states; if requested, also the hidden states and the attentions of all layers.
        """
        hidden_states: tuple[Tensor, ...] = ()
        attentions: tuple[Tensor, ...] = ()
        for layer in self.layers:
            if output_hidden_states:
                hidden_states += (hidden,)
            hidden, probabilities = layer(hidden, **arguments)
            if output_attentions:
                attentions += (probabilities,)
        hidden = self.norm(hidden)
        return (
            hidden,
            (*hidden_states, hidden) if output_hidden_states else None,
            attentions if output_attentions else None,
        )


def _check_empty(past_key_values: Cache | None) -> None:
    """Refuse a filled cache: layers that run again in the backward pass would append their keys twice."""
    if past_key_values is not None and past_key_values.get_seq_length() > 0:
        raise ValueError(
            "past_key_values: a filled cache can't be used with gradient checkpointing in train mode"
        )


def _check_window(config: OpenLlamaConfig, mask: Any, prefixes: Sequence[tuple[Cache, slice]] | None) -> None:
    """Refuse a shared prefix if prefix and row exceed the window, which isn't applied to the prefix."""
    window = config.sliding_window
    if not prefixes or mask is None or window is None or not mask.is_cpu:  # reading a GPU's mask takes time
        return
    longest = max(int(mask[rows].sum(-1).max()) + cache.get_seq_length() for cache, rows in prefixes)
    if longest > window:
        raise ValueError(
            f"shared_prefixes: a prefix and its row of {longest} tokens exceed sliding_window={window}"
        )


class OpenLlamaForCausalLM(OpenLlamaPreTrainedModel, OpenLlamaGeneration, GenerationMixin):  # type: ignore[no-untyped-call]
    """Open-Llama with a language model head, which may be tied to the embedding."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: OpenLlamaConfig) -> None:
        """Create a model with random weights."""
        super().__init__(config)
        self.model = OpenLlamaModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        shift_labels: Tensor | None = None,
        label_positions: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Compute logits (B, S, V) and, given `labels` (B, S), the mean loss of next-token prediction.

        In train mode the loss is computed without storing the batch's logits, unless `model.fused` is off;
        the logits are computed if they are read.

        Args:
            input_ids: See OpenLlamaModel, as for all arguments without a description.
            attention_mask: See OpenLlamaModel.
            position_ids: See OpenLlamaModel.
            past_key_values: See OpenLlamaModel.
            inputs_embeds: See OpenLlamaModel.
            labels: (B, S) token ids, -100 where nothing is predicted. The loss is in float32, in nats.
            use_cache: Return keys and values; default: as configured, but false in training with labels.
            logits_to_keep: Number of last positions whose logits are returned (0: all), or their positions.
            num_items_in_batch: Divisor of the summed loss; default: the number of labels other than -100.
            shift_labels: (B, S), used instead of `labels`: position t predicts label t.
            label_positions: (T,) indices, among the B * S positions, of those that predict a label other than
                -100. Without them the loss in train mode reads their number from the device.
            **kwargs: Further arguments of OpenLlamaModel.
        """
        training = labels is not None and self.training and not torch.compiler.is_compiling()
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=False if training and use_cache is None else use_cache,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        if self.config.logits_scaling != 1:
            hidden = hidden / self.config.logits_scaling
        selected = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        base_outputs = {
            name: outputs.get(name) for name in ("past_key_values", "hidden_states", "attentions")
        }
        loss = None
        if labels is not None and training and not is_plain():
            loss = causal_lm_loss(
                self.lm_head, hidden, labels, num_items_in_batch, shift_labels, positions=label_positions
            )
            loss.make_logits = logits_maker(self.lm_head, hidden[:, selected])  # type: ignore[attr-defined]
            return LazyLogitsOutput(loss, **base_outputs)
        logits = multiply(self.lm_head, hidden[:, selected])
        if labels is not None and selected == slice(0, None):
            loss = loss_of_logits(logits, labels, num_items_in_batch, shift_labels)
        elif labels is not None and is_plain():
            loss = loss_of_logits(self.lm_head(hidden), labels, num_items_in_batch, shift_labels)
        elif labels is not None:
            loss = causal_lm_loss(self.lm_head, hidden, labels, num_items_in_batch, shift_labels)
        return CausalLMOutputWithPast(loss, logits, **base_outputs)

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Return {name of the head's weight: name of the embedding's}; {} if they aren't tied."""
        return dict(self._tied_weights_keys) if self.config.ties_embeddings else {}

    def tie_weights(self, missing_keys: set[str] | None = None, recompute_mapping: bool = True) -> None:
        """Tie the head to the embedding if configured; the arguments are those of PreTrainedModel.

        Raises:
            CheckpointError: The checkpoint has a head that differs from the embedding.
        """
        if missing_keys is not None and self.config.ties_embeddings:
            tied = {"lm_head.weight", "model.embed_tokens.weight"}
            head, embedding = self.lm_head.weight, self.model.embed_tokens.weight
            if not tied & missing_keys and head.device.type != "meta" and not torch.equal(head, embedding):
                raise CheckpointError(
                    f"{self.config.name_or_path}: lm_head.weight differs from the embedding that the "
                    "configuration ties it to (to keep this head, set shared_input_output_embedding and "
                    "tie_word_embeddings to false)"
                )
        super().tie_weights(missing_keys=missing_keys, recompute_mapping=recompute_mapping)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        embedding = state_dict.get(f"{prefix}model.embed_tokens.weight")
        if self.config.ties_embeddings and embedding is not None:  # such a file has no head
            state_dict.setdefault(f"{prefix}lm_head.weight", embedding)
        super()._load_from_state_dict(state_dict, prefix, *args)


class OpenLlamaForSequenceClassification(OpenLlamaPreTrainedModel):  # type: ignore[no-untyped-call]
    """Open-Llama with a linear classification head on each row's last token that isn't padding."""

    def __init__(self, config: OpenLlamaConfig) -> None:
        """Create a model with random weights."""
        super().__init__(config)
        self.num_labels = config.num_labels or 2
        self.model = OpenLlamaModel(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutputWithPast:
        """Compute scores (B, N) and, given `labels`, their loss in float32.

        Args:
            input_ids: See OpenLlamaModel, as for all arguments without a description.
            attention_mask: See OpenLlamaModel.
            position_ids: See OpenLlamaModel.
            past_key_values: See OpenLlamaModel.
            inputs_embeds: See OpenLlamaModel.
            labels: (B,) classes or (B, N) class memberships or targets of a regression; see `problem_type`.
            use_cache: See OpenLlamaModel.
            num_items_in_batch: Divisor of the summed loss; default: as in `classification_loss`.
            **kwargs: Further arguments of OpenLlamaModel.

        Raises:
            ValueError: There are several rows, and neither a padding token nor a mask.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        last = self._last_positions(hidden, input_ids, attention_mask)
        logits = self.score(hidden[torch.arange(len(hidden), device=hidden.device), last])
        loss = None
        if labels is not None:
            loss = classification_loss(logits, labels, self.config.problem_type, num_items_in_batch)
        return SequenceClassifierOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _last_positions(
        self, hidden: Tensor, input_ids: Tensor | None, attention_mask: Tensor | None
    ) -> Tensor:
        """Return each row's last position (B,) that isn't padding.

        Padding is found by the padding token in `input_ids`, else by the mask; with neither, no position is
        padding. The result is -1 for a row of padding only.
        """
        batch, length = hidden.shape[:2]
        pad = self.config.pad_token_id
        if input_ids is not None and pad is not None:
            is_token = input_ids != pad
        elif attention_mask is not None and attention_mask.dim() == 2:
            is_token = attention_mask[:, -length:] != 0
        elif pad is not None or batch == 1:
            return torch.full((batch,), length - 1, device=hidden.device)
        else:
            raise ValueError("Cannot handle batch sizes > 1 if no padding token is defined.")
        positions = torch.arange(length, device=is_token.device)
        return torch.where(is_token, positions, -1).amax(-1).to(hidden.device)
