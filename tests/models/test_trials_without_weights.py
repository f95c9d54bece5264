"""Without weights, trials find which faster ways a training will take."""

import pytest
import torch
from causal_kinds import KINDS, kind
from relatives import relative
from torch import nn
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma3ForCausalLM

from workbench.models.trials.chunked_loss import use_chunked_loss
from workbench.models.trials.without_weights import has_known_layers, will_chunk_loss


def empty(config, of=AutoModelForCausalLM.from_config):
    with torch.device("meta"):
        return of(config)


@pytest.mark.parametrize("name", [*KINDS, "granite", "mistral, window"])
def test_a_trial_without_weights_finds_what_the_loaded_model_will(name):
    model = kind(name) if name in KINDS else relative(name)
    without_weights = empty(model.config)
    assert will_chunk_loss(without_weights) is (use_chunked_loss(model) == "") is True
    assert "forward" not in vars(without_weights.base_model)
    assert "forward" not in vars(without_weights.get_output_embeddings())


class Shifted(Gemma3ForCausalLM):
    """Its logits are the head's output and something else."""

    def forward(self, *args, labels=None, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits + torch.arange(output.logits.shape[-1]) / 100
        if labels is not None:
            output.loss = self.loss_function(output.logits, labels, self.vocab_size)
        return output


class Regularized(Gemma3ForCausalLM):
    """Its loss has a term of its own."""

    def forward(self, *args, labels=None, **kwargs):
        output = super().forward(*args, labels=labels, **kwargs)
        if labels is not None:
            output.loss = output.loss + 0.01 * output.logits.logsumexp(-1).square().mean()
        return output


class Broken(Gemma3ForCausalLM):
    """Its code needs more than a trial gives."""

    def forward(self, *args, **kwargs):
        raise ValueError("no images")


@pytest.mark.parametrize("changed", [Shifted, Regularized, Broken])
def test_logits_and_losses_of_their_own_are_found_without_weights(changed):
    config = kind("gemma3, text").config
    assert will_chunk_loss(empty(config, Gemma3ForCausalLM))
    assert not will_chunk_loss(empty(config, changed))


@pytest.mark.parametrize("name", ["mixtral", "gemma3, text"])
def test_a_router_with_a_loss_of_its_own_stores_the_logits(name):
    assert not will_chunk_loss(empty(kind(name, output_router_logits=True).config))


def test_a_model_of_any_size_is_tried_without_its_weights():
    assert will_chunk_loss(empty(Gemma2Config(vocab_size=5000, hidden_size=1 << 14, num_hidden_layers=80)))


EXPERTS = ("qwen3_moe", "mixtral", "deepseek_v3", "gpt_oss")
UNKNOWN = (*EXPERTS, "gemma2", "gemma3, multimodal", "gpt2", "bloom", "falcon_h1", "mamba", "qwen3_5")


@pytest.mark.parametrize("name", [*KINDS, "granite", "mistral, window"])
def test_layers_are_known_without_weights_unless_experts_states_or_eager_attention_store_more(name):
    model = kind(name) if name in KINDS else relative(name)
    assert has_known_layers(empty(model.config)) is (name not in UNKNOWN)


class DoubledNorm(nn.Module):
    """A norm of a formula that isn't known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(32))
        self.eps = 1e-6

    def forward(self, hidden):
        return 2 * nn.functional.rms_norm(hidden, (32,), self.weight, self.eps)


def test_a_norm_of_another_formula_makes_the_layers_unknown():
    model = empty(kind("glm").config)
    with torch.device("meta"):
        model.model.norm = DoubledNorm()
    assert not has_known_layers(model)
