"""The loss from hidden states equals the model's own, and is refused where it wouldn't."""

import copy

import pytest
import torch
from causal_kinds import KINDS, kind
from model_steps import small_model
from torch import nn
from transformers import Gemma3ForCausalLM

from workbench.config.adapter import AdapterConfig
from workbench.models.adapters import attach
from workbench.models.ops.logit_map import LogitMap
from workbench.models.trials.chunked_loss import use_chunked_loss
from workbench.models.trials.logit_map import find_logit_map

MAPPED = {
    "gemma2": {"final_logit_softcapping": 3.0},
    "gemma3, text": {"final_logit_softcapping": 2.5},
    "cohere": {"logit_scale": 0.3},
    "falcon_h1": {"lm_head_multiplier": 0.7},
    "granite": {"logits_scaling": 2.5},
}
"""Models that scale or cap the output of their head, so that it matters."""


def batch(size: int = 100):
    ids = torch.randint(3, size, (2, 20), generator=torch.Generator().manual_seed(3))
    labels = ids.clone()
    labels[:, ::3] = -100
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def loss_and_gradients(model):
    model.train()
    model.zero_grad()
    torch.manual_seed(5)  # of dropout
    loss = model(**batch()).loss
    loss.backward()
    return loss.detach(), {
        name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None
    }


@pytest.mark.parametrize(
    ("name", "fields"),
    [*((name, {}) for name in (*KINDS, "mistral, window", "qwen3")), *MAPPED.items()],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else value,
)
def test_loss_and_gradients_are_those_of_the_models_own_loss(name, fields):
    own, ours = small_model(name, **fields), small_model(name, **fields)
    assert use_chunked_loss(ours) == ""
    loss, gradients = loss_and_gradients(own)
    chunked, chunked_gradients = loss_and_gradients(ours)
    torch.testing.assert_close(chunked, loss, rtol=1e-5, atol=0)
    assert chunked_gradients.keys() == gradients.keys()
    for weight, gradient in gradients.items():
        scale = gradient.abs().max().clamp(min=1e-3)
        torch.testing.assert_close(chunked_gradients[weight] / scale, gradient / scale, rtol=0, atol=1e-4)


def with_logits(change):
    """A Gemma 3 whose code changes its logits in a way that no number of its configuration tells."""

    class Changed(Gemma3ForCausalLM):
        def forward(self, *args, labels=None, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = change(output.logits)
            if labels is not None:
                output.loss = self.loss_function(output.logits, labels, self.vocab_size)
            return output

    model = kind("gemma3, text")
    model.__class__ = Changed
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "change",
    [
        lambda logits: (logits / 29.0).tanh() * 29.0,
        lambda logits: (logits / 51.0).tanh() * 51.0,
        lambda logits: logits * 1.01,
        lambda logits: logits.clamp(-90, 90),
        lambda logits: logits + torch.arange(logits.shape[-1]) / 100,
    ],
    ids=["cap of 29", "cap of 51", "scale", "clamp", "sum"],
)
def test_logits_that_no_number_of_the_configuration_explains_keep_the_models_own_loss(change, dtype):
    model = with_logits(change).to(dtype)
    assert model(**batch()).logits.abs().max() < 8
    assert "its logits are not its head's output" in use_chunked_loss(model)
    assert "forward" not in vars(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cap", [30.0, 50.0])
def test_a_cap_is_known_at_logits_far_below_it(cap, dtype):
    model = kind("gemma3, text", final_logit_softcapping=cap).to(dtype)
    assert model(**batch()).logits.abs().max() < 8
    assert find_logit_map(model, model.lm_head) == LogitMap(cap=cap)


def test_a_cap_is_computed_in_float32_where_the_model_does():
    def capped(logits):
        return (logits.float() / 40).tanh() * 40

    model = with_logits(capped).bfloat16()
    model.config.cap_of_logits = 40
    assert find_logit_map(model, model.lm_head) == LogitMap(cap=40.0, in_float32=True)
    model.float()
    assert find_logit_map(model, model.lm_head) == LogitMap(cap=40.0)


@pytest.mark.parametrize("name", MAPPED)
def test_16_bit_losses_are_rounded_as_the_models_own(name):
    own, ours = small_model(name, **MAPPED[name]).bfloat16(), small_model(name, **MAPPED[name]).bfloat16()
    assert use_chunked_loss(ours) == ""
    torch.testing.assert_close(loss_and_gradients(ours)[0], loss_and_gradients(own)[0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", MAPPED)
def test_logits_that_are_read_are_scaled_and_capped(name):
    model = small_model(name, **MAPPED[name])
    expected = model.train()(**batch()).logits
    assert use_chunked_loss(model.eval()) == ""
    torch.testing.assert_close(model.train()(**batch()).logits, expected, rtol=0, atol=1e-5)


def test_a_router_with_a_loss_of_its_own_keeps_the_models_loss():
    assert "router" in use_chunked_loss(kind("mixtral", output_router_logits=True))


def test_a_router_whose_loss_is_asked_for_later_is_in_the_loss():
    own, ours = kind("mixtral").train(), kind("mixtral")
    assert use_chunked_loss(ours) == ""
    without = ours.train()(**batch()).loss.item()
    asked = [model(**batch(), output_router_logits=True).loss.item() for model in (own, ours)]
    ours.config.output_router_logits = own.config.output_router_logits = True
    configured = [model(**batch()).loss.item() for model in (own, ours)]
    assert asked[1] == asked[0] == configured[0] == configured[1] > without


def test_the_logits_of_a_training_step_are_computed_only_if_they_are_read(monkeypatch):
    model, lengths, linear = kind("gemma3, text"), [], nn.Linear.forward
    expected = model(**batch()).logits
    assert use_chunked_loss(model) == ""

    def counted(layer, states):
        if layer is model.lm_head:
            lengths.append(states.shape[1])
        return linear(layer, states)

    monkeypatch.setattr(nn.Linear, "forward", counted)
    output = model.train()(**batch())
    assert lengths == [0]
    torch.testing.assert_close(output.logits, expected, rtol=0, atol=1e-5)
    assert lengths == [0, 20]


def test_without_labels_and_in_eval_mode_the_model_computes_logits_as_before():
    model = kind("gemma3, text")
    expected, inputs = model(**batch()).logits, batch()
    assert use_chunked_loss(model) == ""
    torch.testing.assert_close(model(**inputs).logits, expected, rtol=0, atol=0)
    del inputs["labels"]
    torch.testing.assert_close(model.train()(**inputs).logits, expected, rtol=0, atol=0)


def test_an_adapter_on_head_and_layers_gets_the_gradients_of_the_models_own_loss():
    results = []
    for is_chunked in (False, True):
        model = kind("gemma3, text", tie_word_embeddings=False)
        if is_chunked:
            assert use_chunked_loss(model) == ""
        adapted = attach.attach(model, AdapterConfig(rank=4, target_modules=["q_proj", "lm_head"]), seed=1)
        generator = torch.Generator().manual_seed(4)
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(0, 0.1, generator=generator)
        results.append(loss_and_gradients(adapted))
    (loss, gradients), (chunked, chunked_gradients) = results
    torch.testing.assert_close(chunked, loss, rtol=1e-5, atol=0)
    assert any("lm_head" in name for name in gradients)
    for name, gradient in gradients.items():
        torch.testing.assert_close(chunked_gradients[name], gradient, rtol=1e-3, atol=1e-5)


def test_a_copied_model_computes_the_loss_of_its_own_weights():
    model = kind("gemma3, text")
    assert use_chunked_loss(model) == ""
    copied = copy.deepcopy(model)
    before = model.train()(**batch()).loss.item()
    copied.lm_head.weight.data.mul_(2)
    assert model(**batch()).loss.item() == before != copied.train()(**batch()).loss.item()
