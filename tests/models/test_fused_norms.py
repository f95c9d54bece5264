"""Norms of transformers' own classes: in fewer passes, with the same values and gradients, or as they are."""

import copy
from functools import partial

import pytest
import torch
from causal_kinds import KINDS, kind
from model_steps import changed_modules, small_model, step_results
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from workbench.models.ops.elementwise import norm_in_float32, rms_norm
from workbench.models.ops.fused import plain_layers
from workbench.models.trials.fused_norms import use_fused_norms

# peft 0.21 asks transformers 5.23 by a name that it has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

NAMES = (*KINDS, "qwen3", "mistral, window", "granite")
TORCH_NORMS = ("starcoder2", "gpt2", "bloom")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("name", NAMES)
def test_logits_loss_and_gradients_are_those_of_the_models_own_norms(name):
    own, ours = small_model(name), small_model(name)
    left = use_fused_norms(ours)
    assert left == (["Qwen3_5RMSNormGated"] if name == "qwen3_5" else [])
    assert bool(changed_modules(ours)) is (name not in TORCH_NORMS)
    (logits, loss, gradients), (own_logits, own_loss, own_gradients) = step_results(ours), step_results(own)
    torch.testing.assert_close(logits, own_logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(loss, own_loss, rtol=1e-5, atol=0)
    assert gradients.keys() == own_gradients.keys()
    for weight, gradient in gradients.items():
        scale = own_gradients[weight].abs().max().clamp(min=1e-3)
        torch.testing.assert_close(gradient / scale, own_gradients[weight] / scale, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in TORCH_NORMS])
def test_a_formula_is_known_in_each_dtype(name, dtype):
    model = small_model(name).to(dtype)
    names = {type(module): type(module).__name__ for module in model.modules()}
    known = {of: 0 for of, name in names.items() if name.endswith("Norm") and name != "LayerNorm"}
    use_fused_norms(model)
    for module in changed_modules(model):
        known[type(module)] += 1
    assert known and all(known.values())


def test_a_float32_model_gets_the_formula_that_rounds_16_bit_states_as_its_own():
    model = kind("olmo2")
    use_fused_norms(model)
    [norm, *_] = changed_modules(model)
    hidden = torch.randn(4, 50, 32, generator=torch.Generator().manual_seed(1)).bfloat16()
    output, expected = norm(hidden), type(norm).forward(norm, hidden)
    assert output.dtype == expected.dtype
    assert (output != expected).float().mean() < 0.01
    assert (rms_norm(hidden, norm.weight.bfloat16(), 1e-5) != expected).float().mean() > 0.1


class Norm(nn.Module):
    """A norm of LLaMA's formula, but for `change`."""

    def __init__(self, change=lambda values: values, eps=1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(32, generator=torch.Generator().manual_seed(2)))
        self.eps = eps
        self.change = change

    def forward(self, hidden, gate=None):
        exact = hidden.float()
        exact = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.eps)
        hidden = self.change(exact).to(hidden.dtype) * self.weight
        return hidden if gate is None else hidden * gate


CHANGES = {
    "factor": lambda values: values * 1.001,
    "clamp of large values": lambda values: values.clamp(-3.0, 3.0),
    "one position": lambda values: torch.cat((values[..., :-1], values[..., -1:] * 1.1), -1),
    "gradient": lambda values: values.detach(),
    "gradient alone": lambda values: values + (values - values.detach()) * 0.01,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_another_formula_stays(change):
    model = nn.Sequential(Norm(change))
    assert use_fused_norms(model) == ["Norm"]
    assert not changed_modules(model)


class OtherNorm(Norm):
    """The epsilon that counts isn't the attribute."""

    def forward(self, hidden):
        exact = hidden.float()
        return (exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + 2e-6)).to(
            hidden.dtype
        ) * self.weight


def test_another_epsilon_stays():
    assert use_fused_norms(nn.Sequential(OtherNorm())) == ["OtherNorm"]


class NormRoundedTwice(Norm):
    """In mixed precision the output is rounded once more."""

    def forward(self, hidden):
        return super().forward(hidden).to(hidden.dtype)


class NormRoundedLast(Norm):
    """With 16-bit weights the values are rounded at another point; gradients are LLaMA's."""

    def forward(self, hidden):
        output = super().forward(hidden)
        if hidden.dtype != self.weight.dtype:
            return output
        exact = super().forward(hidden.float()).to(output.dtype)
        return output + (exact - output).detach()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rounded", [NormRoundedTwice, NormRoundedLast])
def test_other_roundings_stay(rounded, dtype):
    assert use_fused_norms(nn.Sequential(rounded().to(dtype))) == [rounded.__name__]


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_of_one_class_with_other_attributes_have_trials_of_their_own(dtype):
    model = nn.Sequential(Norm(), Norm(eps=1e-3), Norm(CHANGES["factor"])).to(dtype)
    assert use_fused_norms(model) == ["Norm"]
    assert changed_modules(model) == [model[0], model[1]]
    hidden = torch.full((3, 32), 1e-2, dtype=dtype)
    for norm in model:
        torch.testing.assert_close(norm(hidden), type(norm).forward(norm, hidden), rtol=4e-3, atol=0)


def test_further_arguments_and_plain_layers_run_the_modules_own_code():
    norm = Norm()
    use_fused_norms(nn.Sequential(norm))
    calls, hidden = [], torch.randn(2, 32)
    norm.change = lambda values: calls.append(1) or values
    norm(hidden)
    assert not calls
    torch.testing.assert_close(norm(hidden, torch.full((32,), 2.0)), norm(hidden) * 2)
    with plain_layers():
        norm(hidden)
    assert len(calls) == 2


def test_a_copied_model_computes_with_its_own_weights():
    model = kind("gemma3, text")
    use_fused_norms(model)
    ids = torch.arange(3, 20)[None]
    before = model(ids).logits
    copied = copy.deepcopy(model)
    copied.model.norm.weight.data.add_(1)
    assert model(ids).logits.equal(before) and not copied(ids).logits.equal(before)


def test_a_norm_that_peft_trains_whole_gets_its_gradient():
    results_of = []
    for is_ours in (False, True):
        model = kind("gemma3, text")
        if is_ours:
            use_fused_norms(model)
        model = get_peft_model(model, LoraConfig(target_modules=["q_proj"], modules_to_save=["norm"]))
        results_of.append(step_results(model)[2])
    own, ours = ({name: of[name] for name in of if "modules_to_save" in name} for of in results_of)
    assert any(name.endswith("model.norm.modules_to_save.default.weight") for name in own)
    torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", [rms_norm, norm_in_float32, partial(norm_in_float32, is_centred=True)])
def test_plain_layers_compute_the_same(form):
    hidden, weight = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1)) + 0.5, Norm().weight
    with plain_layers():
        expected = form(hidden, weight, 1e-6)
    torch.testing.assert_close(form(hidden, weight, 1e-6), expected, rtol=1e-5, atol=1e-6)


class Passes(TorchDispatchMode):
    """Counts operations that write as many values as the input has."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        is_new = isinstance(result, torch.Tensor) and not func.is_view
        self.count += is_new and result.numel() == 200 * 32
        return result


@pytest.mark.parametrize("name", ["glm", "gemma3, text", "olmo2", "cohere"])
def test_fewer_passes_and_no_float32_copies(name):
    passes, stored = [], []
    for is_ours in (False, True):
        model, sizes = small_model(name).bfloat16(), []
        if is_ours:
            use_fused_norms(model)
        hidden = torch.randn(1, 200, 32, dtype=torch.bfloat16, requires_grad=True)

        def store(tensor, sizes=sizes):
            sizes.append(tensor.nbytes)
            return tensor

        with Passes() as mode, torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor):
            output = model.model.norm(hidden)
        with mode:
            output.backward(torch.ones_like(output))
        passes.append(mode.count)
        stored.append(sum(sizes))
    assert passes[1] < passes[0]
    assert stored[1] < 0.35 * stored[0]
