"""`model.loss=liger` computes the loss and the gradients of the chunked loss.

The kernel runs in Triton's interpreter, which needs no GPU: pip install liger-kernel, TRITON_INTERPRET=1.
"""

import os

import pytest
import torch
from tiny import model, tokens

from workbench.config.model import LossKernel, ModelConfig
from workbench.errors import ConfigError, DeviceError
from workbench.models.ops import liger
from workbench.models.ops.logit_map import LogitMap
from workbench.models.ops.loss import causal_lm_loss

interpreted = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="Triton's interpreter is off (TRITON_INTERPRET=1)"
)


@pytest.fixture
def kernel_calls(monkeypatch):
    pytest.importorskip("liger_kernel")
    calls, original = [], liger.summed_loss
    monkeypatch.setattr(liger, "summed_loss", lambda *args: calls.append(len(args[0])) or original(*args))
    yield calls
    liger.enable_liger(False)


def loss_and_gradients(made, labels):
    made.zero_grad()
    loss = made(tokens(), labels=labels).loss
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in made.named_parameters() if p.grad is not None}


@interpreted
@pytest.mark.parametrize("is_head_trained", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_loss_and_gradients_are_those_of_the_chunked_loss(kernel_calls, dtype, tolerance, is_head_trained):
    made = model(hidden_dropout_prob=0.0, attention_dropout_prob=0.0).to(dtype).train()
    made.get_input_embeddings().weight.requires_grad_(is_head_trained)
    made.lm_head.weight.requires_grad_(is_head_trained)
    labels = tokens().clone()
    labels[:, :4] = -100
    expected = loss_and_gradients(made, labels)
    assert not kernel_calls
    liger.enable_liger(True)
    found = loss_and_gradients(made, labels)
    assert kernel_calls == [int((labels[:, 1:] != -100).sum())]
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@interpreted
def test_other_heads_and_empty_batches_keep_the_chunked_loss(kernel_calls):
    liger.enable_liger(True)
    hidden, labels = torch.randn(1, 5, 8, requires_grad=True), torch.tensor([[1, 2, 3, 4, 5]])
    plain, biased = torch.nn.Linear(8, 11, bias=False), torch.nn.Linear(8, 11)
    causal_lm_loss(biased, hidden, labels)
    causal_lm_loss(plain, hidden, labels, logit_map=LogitMap(scale=0.5))
    assert causal_lm_loss(plain, hidden, torch.full_like(labels, -100), 1) == 0
    assert not kernel_calls
    causal_lm_loss(plain, hidden, labels)
    assert kernel_calls == [4]


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(liger, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'open-llama-workbench\[liger\]'"):
        liger.check_liger(torch.device("cuda"))
    monkeypatch.setattr(liger, "find_spec", lambda name: object())
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    liger.check_liger(torch.device("cuda"))
    with pytest.raises(DeviceError, match=r"model\.loss: liger has no kernel for cpu"):
        liger.check_liger(torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"model\.loss: .*fused=false"):
        ModelConfig(loss=LossKernel.liger, fused=False)


@pytest.mark.gpu
def test_on_a_gpu_the_loss_is_the_chunked_one(kernel_calls):
    made = model(hidden_dropout_prob=0.0, attention_dropout_prob=0.0).bfloat16().cuda().train()
    ids = tokens().cuda()
    expected = made(ids, labels=ids).loss
    liger.enable_liger(True)
    torch.testing.assert_close(made(ids, labels=ids).loss, expected, atol=0.02, rtol=0.02)
    assert kernel_calls
