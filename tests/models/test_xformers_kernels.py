"""xformers' kernels are chosen for both passes together, on a GPU that FakeTensorMode stands in for."""

import logging
from dataclasses import replace

import pytest
import torch
from tiny import model, tokens
from torch._subclasses.fake_tensor import FakeTensorMode

from workbench.config.model import Attention
from workbench.models.device import attention_name
from workbench.models.ops import attention, xformers_attention, xformers_kernels
from workbench.models.ops.xformers_kernels import Call, kernels_for, missing_reason, no_kernel_reason

pytest.importorskip("xformers.ops.fmha")

CUDA = torch.device("cuda", 0)
PACKED = Call("packed", CUDA, torch.bfloat16, 64, False, True, True)


@pytest.fixture
def fake_gpu(monkeypatch):
    """An H100 with xformers built for its CUDA version; tensors on it have shapes but no values."""
    from xformers.ops.fmha import attn_bias, common, flash

    for operator in (flash.FwOp, flash.BwOp):
        monkeypatch.setattr(operator, "OPERATOR", lambda *_: None)

    monkeypatch.setattr(
        attn_bias, "_to_device_tensor", lambda seq, dtype, device: torch.tensor(seq, dtype=dtype)
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(common, "_built_with_cuda", True)
    for function in (missing_reason, kernels_for, xformers_attention.log_once):
        function.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield common
    for function in (missing_reason, kernels_for, xformers_attention.log_once):
        function.cache_clear()


@pytest.mark.parametrize("kind", ["one token", "causal", "packed", "causal window", "packed window"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("deterministic", [False, True])
def test_both_passes_of_a_training_get_kernels_of_one_family(fake_gpu, kind, dtype, deterministic):
    call = Call(kind, CUDA, dtype, 64, False, True, deterministic)
    kernels = kernels_for(call)
    if kernels is None:  # local attention has no deterministic backward pass
        assert kind.endswith("window")
        return
    forward, backward = kernels.pair
    assert forward.VARLEN_LSE_PACKED == backward.VARLEN_LSE_PACKED
    assert backward.IS_DETERMINISTIC or not deterministic


def test_packed_rows_in_bfloat16_are_trained_deterministically_by_another_family(fake_gpu):
    assert kernels_for(replace(PACKED, deterministic=False)).name == "flash"
    assert kernels_for(PACKED).name == "cutlass"
    assert not torch.are_deterministic_algorithms_enabled()


def test_xformers_own_choice_has_no_backward_pass_for_these_rows(fake_gpu):
    """If this fails, xformers chooses both kernels together, and `kernels_for` isn't needed any more."""
    from xformers.ops.fmha import dispatch

    inputs = xformers_kernels._inputs(PACKED)
    torch.use_deterministic_algorithms(True)
    try:
        forward = dispatch._dispatch_fw(inputs, True)
        with pytest.raises(NotImplementedError):
            dispatch._dispatch_bw(inputs, forward.VARLEN_LSE_PACKED)
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_call_that_only_determinism_rules_out_says_so(fake_gpu, monkeypatch):
    from xformers.ops.fmha import cutlass

    monkeypatch.setattr(cutlass.BwOp, "IS_DETERMINISTIC", False)
    assert kernels_for(PACKED) is None
    reason = no_kernel_reason(PACKED)
    assert "packed, bfloat16, with a deterministic backward pass" in reason
    assert reason.endswith("it has one with train.deterministic=false")


def test_with_a_gpu_memory_efficient_attention_is_that_of_xformers(fake_gpu):
    assert missing_reason(CUDA) is None
    assert attention.default_attention(True) == "xformers"
    assert attention.default_attention(False) == "sdpa"
    assert attention_name(Attention.xformers, torch.bfloat16, CUDA) == "xformers"


def test_a_library_that_cannot_be_loaded_is_asked_once_and_named_once(fake_gpu, monkeypatch, caplog):
    """As with a PyTorch of another CUDA version: the package imports, and none of its kernels runs."""
    monkeypatch.setattr(fake_gpu, "_built_with_cuda", False)
    asked = []
    monkeypatch.setattr(
        xformers_kernels,
        "_inputs",
        lambda call, inputs=xformers_kernels._inputs: asked.append(call) or inputs(call),
    )
    caplog.set_level(logging.INFO, "workbench")
    assert [attention.default_attention(True) for _ in range(3)] == ["sdpa"] * 3
    assert len(asked) == 2  # float16 and float32
    lines = [record.message for record in caplog.records]
    assert len(lines) == 1 and "no kernel for this GPU and this PyTorch" in lines[0]
    assert attention_name(Attention.xformers, torch.bfloat16, CUDA) == "sdpa"


def test_a_package_that_cannot_be_imported_is_named(fake_gpu, monkeypatch):
    def broken(name):
        raise ImportError("libcudart.so.12: cannot open shared object file\nmore")

    monkeypatch.setattr(xformers_kernels, "import_module", broken)
    assert missing_reason(CUDA) == (
        "xformers can't be loaded, libcudart.so.12: cannot open shared object file"
    )


def test_an_untrained_call_takes_a_forward_kernel_alone(fake_gpu):
    kernels = kernels_for(replace(PACKED, needs_gradient=False))
    assert kernels.name == "flash" and kernels.pair[1] is None


def test_the_kernels_of_both_passes_reach_xformers(monkeypatch):
    """The model's packed call, with gradients in deterministic mode, as it arrives at xformers."""
    made, given = model(attn_implementation="xformers").train(), []
    kernels = xformers_kernels.Kernels("cutlass", (object, object))
    monkeypatch.setattr(xformers_attention, "missing_reason", lambda _: None)
    monkeypatch.setattr(xformers_attention, "kernels_for", lambda call: given.append(call) or kernels)

    def attend(query, key, value, *, attn_bias, p, scale, op):
        given.append((type(attn_bias).__name__, op))
        return query

    monkeypatch.setattr("xformers.ops.memory_efficient_attention", attend)
    positions = torch.cat([torch.arange(5), torch.arange(7)])[None].expand(len(tokens()), -1)
    torch.use_deterministic_algorithms(True)
    try:
        made(tokens(), position_ids=positions)
    finally:
        torch.use_deterministic_algorithms(False)
    calls = [each for each in given if isinstance(each, Call)]
    assert {(call.kind, call.needs_gradient, call.deterministic) for call in calls} == {
        ("packed", True, True)
    }
    assert ("BlockDiagonalCausalMask", (object, object)) in given
