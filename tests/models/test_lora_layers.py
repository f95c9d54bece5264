"""LoRA layers of peft in transformers' own classes: their results are peft's, with less stored."""

import pytest
import torch
from causal_kinds import KINDS, kind

from workbench.config.adapter import AdapterConfig, AdapterMethod
from workbench.models.adapters import attach
from workbench.models.ops import lora_projection
from workbench.models.trials.lora_layers import use_lora_products


def adapted(name: str, dtype=torch.float32, **settings):
    """A model whose adapter matters."""
    model = attach.attach(kind(name).to(dtype), AdapterConfig(rank=4, **settings), seed=1)
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


@pytest.mark.parametrize("name", KINDS)
def test_loss_and_gradients_are_pefts_own(name, monkeypatch):
    ours, calls = adapted(name), []
    assert use_lora_products(ours) > 0
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
