"""LoRA layers of peft in transformers' own classes: peft's results, with fewer products and less stored."""

import copy
from types import SimpleNamespace

import pytest
import torch
from causal_kinds import KINDS, kind
from peft import LoraConfig, inject_adapter_in_model
from relatives import RELATIVES, relative
from torch import nn

from workbench.config.adapter import AdapterConfig, AdapterMethod
from workbench.models.adapters import attach
from workbench.models.ops import lora_projection
from workbench.models.trials.lora_layers import use_lora_products


def adapted(name: str, dtype=torch.float32, **settings):
    """A model whose adapter matters."""
    made = (relative if name in RELATIVES else kind)(name)
    model = attach.attach(made.to(dtype), AdapterConfig(rank=4, **settings), seed=1)
    generator = torch.Generator().manual_seed(4)
    for weight_name, weight in model.named_parameters():
        if "lora_B" in weight_name:
            weight.data.normal_(0, 0.1, generator=generator)
    return model


def results(model):
    ids = torch.randint(3, 96, (2, 20), generator=torch.Generator().manual_seed(3))
    torch.manual_seed(5)  # of dropout
    loss = model.train()(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    gradients = {
        name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad
    }
    return loss.detach(), gradients


@pytest.mark.parametrize("name", [*KINDS, "qwen3", "qwen2", "mistral, window", "granite"])
def test_loss_and_gradients_are_pefts_own(name, monkeypatch):
    ours, calls = adapted(name), []
    use_lora_products(ours)
    own = lora_projection._adapted
    monkeypatch.setattr(lora_projection, "_adapted", lambda *given: calls.append(1) or own(*given))
    (loss, gradients), (expected, expected_gradients) = results(ours), results(adapted(name))
    assert calls
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    for weight, gradient in gradients.items():
        scale = expected_gradients[weight].abs().max().clamp(min=1e-3)
        torch.testing.assert_close(gradient / scale, expected_gradients[weight] / scale, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "settings", [{"dropout": 0.5}, {"method": AdapterMethod.dora}], ids=["dropout", "dora"]
)
def test_other_adapters_are_called_as_they_are(settings):
    ours = adapted("glm", **settings)
    use_lora_products(ours)
    (loss, gradients), (expected, expected_gradients) = results(ours), results(adapted("glm", **settings))
    assert loss == expected
    assert all(torch.equal(gradient, expected_gradients[weight]) for weight, gradient in gradients.items())


def test_mixed_precision_is_pefts():
    ours, own = adapted("glm"), adapted("glm")
    use_lora_products(ours)
    with torch.autocast("cpu", torch.bfloat16):
        assert results(ours)[0] == results(own)[0]


def test_no_float32_copy_of_an_input_is_stored():
    stored = []
    for is_ours in (False, True):
        model, sizes = adapted("glm", torch.bfloat16), []
        if is_ours:
            use_lora_products(model)
        layer = model.get_base_model().model.layers[0].self_attn.q_proj
        hidden = torch.randn(1, 200, 32, dtype=torch.bfloat16)

        def store(tensor, sizes=sizes):
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor):
            layer.train()(hidden)
        stored.append(sum(sizes))
    assert stored[1] < 0.7 * stored[0]


def groups(model) -> set[tuple[str, ...]]:
    """Names of the layers that share products."""
    assert use_lora_products(model) == ""
    names = {module: name.rpartition(".")[2] for name, module in model.named_modules()}
    joint = [module.joint for module in names if hasattr(module, "joint")]
    return {tuple(names[layer] for layer in group.layers) for group in joint}


ATTENTION, MLP = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
GROUPS = {
    "gemma3, text": {ATTENTION, MLP},
    "qwen3": {ATTENTION, MLP},
    "mistral, window": {ATTENTION, MLP},
    "granite": {ATTENTION, MLP},
    "cohere": {ATTENTION, MLP},
    "glm4": {ATTENTION},
    "phi3": set(),
    "gpt2": set(),
    "mixtral": {ATTENTION},
    "qwen3_5": {ATTENTION, MLP, ("in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a")},
}


@pytest.mark.parametrize(("name", "expected"), GROUPS.items(), ids=GROUPS)
def test_layers_of_one_input_share_their_products(name, expected, monkeypatch):
    model, sizes = adapted(name), []
    assert groups(model) == expected
    own = lora_projection._adapted

    def counted(hidden, adapters):
        sizes.append(len(adapters))
        return own(hidden, adapters)

    monkeypatch.setattr(lora_projection, "_adapted", counted)
    results(model)
    assert {len(group) for group in expected} <= set(sizes)
    assert sum(sizes) == sum(lora_projection.is_lora_layer(module) for module in model.modules())


class Attention(nn.Module):
    """Layers for queries, keys and values, of which `change` decides the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(16, 16, bias=False) for _ in range(3))
        self.change = lambda hidden: (hidden, hidden, hidden)

    def forward(self, hidden):
        layers = (self.q_proj, self.k_proj, self.v_proj)
        return sum(layer(states) for layer, states in zip(layers, self.change(hidden), strict=True))


class Model(nn.Module):
    """The smallest model that `use_lora_products` can try."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=9))
        self.device = torch.device("cpu")
        self.embed = nn.Embedding(9, 16)
        self.attention = inject_adapter_in_model(
            LoraConfig(r=4, target_modules=["q_proj", "k_proj", "v_proj"], init_lora_weights=False),
            Attention(),
        )

    def forward(self, input_ids, use_cache=False):
        return self.attention(self.embed(input_ids))


def doubled_in_place(hidden):
    yield hidden
    yield hidden.mul_(2)
    yield hidden


CHANGES = {
    "another tensor": lambda hidden: (hidden, hidden * 2, hidden),
    "a tensor changed in place": doubled_in_place,
    "an equal tensor": lambda hidden: (hidden, hidden.clone(), hidden.clone()),
    "the first alone": lambda hidden: iter((hidden, hidden + 1, hidden + 2)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_layer_that_gets_another_input_than_in_the_trial_computes_that(change):
    ours, own, hidden = Model(), Model(), torch.randn(2, 5, 16)
    assert groups(ours) == {ATTENTION}
    outputs = []
    for model in (ours, own):
        model.attention.change = change
        outputs.append(model.attention(hidden.clone()))
    torch.testing.assert_close(outputs[0], outputs[1])


def test_no_output_outlives_the_call_of_the_module_even_if_that_fails():
    model, hidden = Model(), torch.randn(2, 5, 16)
    use_lora_products(model)
    attention = model.attention
    expected = attention(hidden)

    def fail(hidden):
        yield hidden
        assert attention.q_proj.joint.outputs
        raise RuntimeError("out of memory")

    attention.change = fail
    with pytest.raises(RuntimeError):
        attention(hidden)
    assert not attention.q_proj.joint.outputs and attention.q_proj.joint.input is None
    attention.q_proj(hidden)
    assert not attention.q_proj.joint.outputs
    attention.k_proj.lora_B["default"].weight.data.zero_()
    attention.change = lambda hidden: (hidden, hidden, hidden)
    assert not torch.allclose(attention(hidden), expected)


def test_layers_that_are_called_several_times_share_nothing():
    model = Model()
    model.forward = lambda input_ids, use_cache: model.attention(model.attention(model.embed(input_ids)))
    assert groups(model) == set()


def test_a_model_that_needs_other_inputs_shares_nothing_and_the_reason_is_said():
    model, hidden = Model(), torch.randn(2, 5, 16)
    model.forward = lambda images: images
    assert use_lora_products(model).startswith("the trial ended with TypeError")
    torch.testing.assert_close(model.attention(hidden), Model().attention(hidden))


@pytest.mark.parametrize("change", ["hook", "disabled", "merged", "dropout"])
def test_a_layer_that_changes_later_is_called_as_it_is(change):
    ours, own, hidden = Model(), Model(), torch.randn(2, 5, 16)
    use_lora_products(ours)
    outputs = []
    for model in (ours, own):
        layer = model.attention.k_proj
        if change == "hook":
            layer.register_forward_hook(lambda _, args, output: output * 2)
        elif change == "disabled":
            layer.enable_adapters(False)
        elif change == "merged":
            layer.merge()
        else:
            layer.lora_dropout["default"] = nn.Dropout(0.5)
        torch.manual_seed(1)
        outputs.append(model.attention(hidden))
    torch.testing.assert_close(outputs[0], outputs[1])


def test_a_copied_model_computes_with_its_own_adapter():
    model = adapted("gemma3, text")
    use_lora_products(model)
    ids = torch.arange(3, 20)[None]
    before = model(ids).logits
    copied = copy.deepcopy(model)
    for name, weight in copied.named_parameters():
        if "v_proj.lora_B" in name:
            weight.data.mul_(3)
    assert model(ids).logits.equal(before) and not copied(ids).logits.equal(before)


def test_checkpointed_layers_have_the_same_gradients():
    expected, checkpointed = adapted("gemma3, text"), adapted("gemma3, text")
    for model in (expected, checkpointed):
        use_lora_products(model)
    checkpointed.activation_checkpointing_enable({"use_reentrant": False})
    (loss, gradients), (own_loss, own_gradients) = results(checkpointed), results(expected)
    assert loss == own_loss
    assert all(gradient.equal(own_gradients[weight]) for weight, gradient in gradients.items())


def test_answers_are_computed_without_gradients_as_before():
    model, ids = adapted("gemma3, text"), torch.arange(3, 20)[None]
    expected = model(ids).logits
    use_lora_products(model)
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, expected, rtol=0, atol=1e-5)
