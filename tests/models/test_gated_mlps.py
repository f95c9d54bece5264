"""Gated MLPs of transformers' own classes: the same values and gradients with less stored, or as they are."""

import copy

import pytest
import torch
from causal_kinds import KINDS, kind
from model_steps import changed_modules, small_model, step_results
from tiny_checkpoints import at, words_tokenizer
from torch import nn
from transformers.activations import ACT2FN

from workbench.config.adapter import AdapterConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.models.adapters import attach
from workbench.models.loading import load_model
from workbench.models.ops.fused import plain_layers
from workbench.models.trials.gated_mlps import use_gated_mlps

UNGATED = ("starcoder2", "gpt2", "bloom", "qwen3_moe", "mixtral", "gpt_oss", "falcon_h1", "mamba")
GATED = [name for name in (*KINDS, "qwen3", "mistral, window", "granite") if name not in UNGATED]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", GATED)
def test_logits_loss_and_gradients_are_the_models_own_to_the_bit(name, dtype):
    own, ours = small_model(name).to(dtype), small_model(name).to(dtype)
    assert use_gated_mlps(ours) == []
    assert changed_modules(ours)
    (logits, loss, gradients), (own_logits, own_loss, own_gradients) = step_results(ours), step_results(own)
    assert logits.equal(own_logits) and loss.equal(own_loss)
    assert gradients.keys() == own_gradients.keys()
    assert all(gradient.equal(own_gradients[weight]) for weight, gradient in gradients.items())


@pytest.mark.parametrize("name", UNGATED)
def test_other_mlps_stay(name):
    model = kind(name, **({"mlp_multipliers": [0.7, 0.4]} if name == "falcon_h1" else {}))
    assert use_gated_mlps(model) == (["FalconH1MLP"] if name == "falcon_h1" else [])
    assert not changed_modules(model)


class MLP(nn.Module):
    """A gated MLP, but for `change` of the product and dropout `share`."""

    def __init__(self, change=lambda product: product, share=0.0) -> None:
        super().__init__()
        self.down_proj = nn.Linear(24, 16)
        self.gate_proj, self.up_proj = nn.Linear(16, 24), nn.Linear(16, 24)
        self.act_fn = ACT2FN["silu"]
        self.change = change
        self.share = share

    def forward(self, hidden, scale=None):
        product = self.change(self.act_fn(self.gate_proj(hidden)) * self.up_proj(hidden))
        output = nn.functional.dropout(self.down_proj(product), self.share, self.training)
        return output if scale is None else output * scale


@pytest.mark.parametrize(
    "made_mlp",
    [
        lambda: MLP(lambda product: product.clamp(-9, 9)),
        lambda: MLP(lambda product: product * (1 + 1e-6)),
        lambda: MLP(lambda product: product.detach() + 0 * product),
        lambda: MLP(share=0.01),
    ],
    ids=["clamp of large values", "factor", "gradient", "dropout"],
)
def test_another_formula_stays(made_mlp):
    mlp = made_mlp().eval()
    state = torch.random.get_rng_state()
    assert use_gated_mlps(nn.Sequential(mlp)) == ["MLP"]
    assert "forward" not in vars(mlp) and not mlp.training and not mlp.act_fn.training
    assert torch.random.get_rng_state().equal(state)


class SwappedMLP(MLP):
    """The activation is that of the other factor."""

    def forward(self, hidden):
        return self.down_proj(self.act_fn(self.up_proj(hidden)) * self.gate_proj(hidden))


class SwappedHalvesMLP(nn.Module):
    """The gate is the second half of a joint layer's output."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_up_proj, self.down_proj = nn.Linear(16, 48), nn.Linear(24, 16)
        self.act_fn = ACT2FN["silu"]

    def forward(self, hidden):
        up, gate = self.gate_up_proj(hidden).chunk(2, -1)
        return self.down_proj(self.act_fn(gate) * up)


@pytest.mark.parametrize("swapped", [SwappedMLP, SwappedHalvesMLP])
def test_swapped_factors_stay(swapped):
    model = nn.Sequential(swapped())
    assert use_gated_mlps(model) == [swapped.__name__]
    assert not changed_modules(model)


def test_mlps_of_one_class_with_other_attributes_have_trials_of_their_own():
    model = nn.Sequential(MLP(), MLP(share=0.5), MLP())
    assert use_gated_mlps(model) == ["MLP"]
    assert changed_modules(model) == [model[0], model[2]]


def test_further_arguments_plain_layers_and_passes_without_gradients_run_the_modules_own_code():
    mlp, calls, hidden = MLP(), [], torch.randn(2, 16)
    use_gated_mlps(nn.Sequential(mlp))
    mlp.change = lambda product: calls.append(1) or product
    output = mlp(hidden)
    assert not calls
    torch.testing.assert_close(mlp(hidden, 2.0), output * 2)
    with plain_layers():
        mlp(hidden)
    with torch.no_grad():
        mlp(hidden)
    assert len(calls) == 3


def test_a_copied_model_computes_with_its_own_weights():
    model = kind("gemma3, text")
    use_gated_mlps(model)
    ids = torch.arange(3, 20)[None]
    before = model(ids).logits
    copied = copy.deepcopy(model)
    copied.model.layers[0].mlp.up_proj.weight.data.mul_(2)
    assert model(ids).logits.equal(before) and not copied(ids).logits.equal(before)


@pytest.mark.parametrize("method", ["int8", "nf4"])
def test_mlps_of_quantized_layers_give_their_own_values(method, tmp_path):
    kind("glm4").save_pretrained(tmp_path)
    words_tokenizer().save_pretrained(tmp_path)
    losses = []
    for is_ours in (False, True):
        model = load_model(at(tmp_path), QuantizationConfig(method=QuantizationMethod[method]))
        if is_ours:
            assert use_gated_mlps(model) == []
        losses.append(step_results(attach.attach(model, AdapterConfig(rank=4), seed=1))[:2])
    assert losses[0][0].equal(losses[1][0]) and losses[0][1].equal(losses[1][1])


@pytest.mark.parametrize("name", ["glm4", "gemma3, text", "olmo2"])
def test_the_activated_gate_is_not_stored(name):
    stored = []
    for is_ours in (False, True):
        model, sizes = kind(name), {}
        if is_ours:
            use_gated_mlps(model)
        mlp = model.model.layers[0].mlp

        def store(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor):
            mlp(torch.randn(1, 200, 32, requires_grad=True))
        stored.append(sum(sizes.values()))
    assert stored[0] - stored[1] == 200 * 48 * 4
