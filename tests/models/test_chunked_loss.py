"""The loss from hidden states equals the model's own, and is refused where it wouldn't."""

import copy

import pytest
import torch
from causal_kinds import KINDS, kind
from torch import nn

from workbench.config.adapter import AdapterConfig
from workbench.models.adapters import attach
from workbench.models.trials.chunked_loss import use_chunked_loss

OTHER_LOGITS = {"gemma2": "soft cap", "cohere": "scale"}
SAME_LOGITS = [name for name in KINDS if name not in OTHER_LOGITS]


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


@pytest.mark.parametrize("name", SAME_LOGITS)
def test_loss_and_gradients_are_those_of_the_models_own_loss(name):
    own, ours = kind(name), kind(name)
    assert use_chunked_loss(ours) == ""
    loss, gradients = loss_and_gradients(own)
    chunked, chunked_gradients = loss_and_gradients(ours)
    torch.testing.assert_close(chunked, loss, rtol=1e-5, atol=0)
    assert chunked_gradients.keys() == gradients.keys()
    for weight, gradient in gradients.items():
        scale = gradient.abs().max().clamp(min=1e-3)
        torch.testing.assert_close(chunked_gradients[weight] / scale, gradient / scale, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("name", "words"), OTHER_LOGITS.items())
def test_logits_that_are_not_the_heads_output_keep_the_models_own_loss(name, words):
    model = kind(name)
    assert words in use_chunked_loss(model)
    assert "forward" not in vars(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cap", [30.0, 50.0])
def test_a_planted_soft_cap_is_seen_at_logits_far_below_it(cap, dtype):
    model = kind("gemma3, text", final_logit_softcapping=cap).to(dtype)
    assert model(**batch()).logits.abs().max() < 8
    assert "soft cap" in use_chunked_loss(model)


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
