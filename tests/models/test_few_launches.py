"""The variants for devices on which each operation costs a launch compute what those for a CPU do."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_attention import positions
from tiny import model, tokens
from torch._decomp.decompositions import _fused_rms_norm_backward
from transformers import BitsAndBytesConfig

from workbench.models import OpenLlamaForCausalLM
from workbench.models.ops import attention, elementwise, lora_products, torch_attention, varlen_attention

# peft 0.21 asks transformers 5.23 by a name that it has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def adapted(base, **fields):
    config = {"r": 4, "lora_alpha": 6, "target_modules": TARGETS, "init_lora_weights": False, **fields}
    torch.manual_seed(1)
    return get_peft_model(base, LoraConfig(**config)).train()


def tiny(dtype=torch.float32, **fields):
    return model(hidden_dropout_prob=0.0, attention_dropout_prob=0.0, num_key_value_heads=2, **fields).to(
        dtype
    )


def loss_and_gradients(made):
    made.zero_grad()
    ids = tokens()
    loss = made(ids, labels=ids).loss
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    return loss.detach(), gradients


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"target_modules": ["q_proj", "v_proj", "down_proj"]},
        {"use_rslora": True, "rank_pattern": {"k_proj": 7}, "alpha_pattern": {"up_proj": 3}},
    ],
    ids=["all", "some", "unlike ranks"],
)
@pytest.mark.parametrize("bias", [False, True])
def test_products_of_weights_and_adapters_in_one_function(fields, bias, monkeypatch):
    made = adapted(tiny(qkv_bias=bias), **fields)
    expected = loss_and_gradients(made)
    calls = counted(monkeypatch)
    torch.testing.assert_close(loss_and_gradients(made), expected, atol=1e-5, rtol=1e-5)
    assert calls and any(all(weights) for weights in calls) and (not bias or [False] * 3 in calls or fields)


def test_products_in_bfloat16_are_those_in_float32_but_for_rounding(monkeypatch):
    exact = loss_and_gradients(adapted(tiny()))
    calls = counted(monkeypatch)
    rounded = loss_and_gradients(adapted(tiny(torch.bfloat16)))
    assert calls
    for name, gradient in exact[1].items():
        assert rounded[1][name].dtype == torch.float32
        assert torch.cosine_similarity(rounded[1][name].flatten(), gradient.flatten(), dim=0) > 0.99, name


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_products_on_a_quantized_base(kind, tmp_path, monkeypatch):
    tiny().save_pretrained(tmp_path)
    options = (
        {"load_in_8bit": True} if kind == "int8" else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    )
    base = OpenLlamaForCausalLM.from_pretrained(
        tmp_path, quantization_config=BitsAndBytesConfig(**options), device_map="cpu"
    )
    made = adapted(base.train())
    expected = loss_and_gradients(made)
    calls = counted(monkeypatch)
    torch.testing.assert_close(loss_and_gradients(made), expected, atol=2e-3, rtol=2e-3)
    assert calls and not any(any(weights) for weights in calls)


def test_a_fresh_output_of_a_base_layer_is_overwritten_and_a_view_is_not():
    hidden, down, up = torch.randn(5, 8), torch.randn(2, 8), torch.randn(6, 2)
    whole = torch.randn(5, 12)
    view, fresh = whole[:, :6], torch.randn(5, 6)
    before = whole.clone()
    for base in (view, fresh):
        expected = base + 3 * hidden @ down.t() @ up.t()
        [output] = lora_products.adapted(hidden, [base], [False], [down], [up], [3.0])
        torch.testing.assert_close(output, expected)
        assert (output.data_ptr() == base.data_ptr()) == (base is fresh)
    assert torch.equal(whole, before)


def counted(monkeypatch):
    """Let the variants of this file be chosen on the CPU; collect which base layers gave their weight."""
    calls, original = [], lora_products.adapted

    def adapted_products(hidden, bases, are_weights, *rest):
        calls.append(list(are_weights))
        return original(hidden, bases, are_weights, *rest)

    monkeypatch.setattr(lora_products, "launches_cost", lambda states: True)
    monkeypatch.setattr(lora_products, "adapted", adapted_products)
    return calls


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("trains_weight", [False, True])
def test_norm_by_pytorchs_kernel(dtype, trains_weight, monkeypatch):
    torch.manual_seed(0)
    hidden = torch.randn(3, 5, 16, dtype=dtype, requires_grad=True)
    weight = torch.rand(16, dtype=dtype).requires_grad_(trains_weight)
    inputs = [hidden, weight] if trains_weight else [hidden]
    slope = torch.randn(3, 5, 16, dtype=dtype)
    expected = elementwise.rms_norm(hidden, weight, 1e-3)
    gradients = torch.autograd.grad(expected, inputs, slope)
    monkeypatch.setattr(elementwise, "_has_norm_kernel", lambda states: True)
    # PyTorch has no kernel of the backward pass for a CPU, but its own decomposition.
    monkeypatch.setattr(torch.ops.aten, "_fused_rms_norm_backward", _fused_rms_norm_backward)
    output = elementwise.rms_norm(hidden, weight, 1e-3)
    tolerance = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.02, "rtol": 0.02}
    torch.testing.assert_close(output, expected, **tolerance)
    torch.testing.assert_close(torch.autograd.grad(output, inputs, slope), gradients, **tolerance)


def test_rotation_without_a_copy(monkeypatch):
    torch.manual_seed(0)
    states, angles = torch.randn(2, 5, 3, 8, requires_grad=True), torch.randn(1, 5, 1, 4)
    tables = torch.cat([angles.cos()] * 2, -1), torch.cat([-angles.sin(), angles.sin()], -1)
    slope = torch.randn(2, 5, 3, 8)
    expected = elementwise.rotate(states, *tables)
    [gradient] = torch.autograd.grad(expected, states, slope)
    monkeypatch.setattr(elementwise, "launches_cost", lambda states: True)
    output = elementwise.rotate(states, *tables)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(torch.autograd.grad(output, states, slope)[0], gradient)


def text_by_text(query, key, value, offsets, longest, window, scaling):
    """Attention as its formula says, one text after the other; the signature is `varlen_attention.Kernel`."""
    assert offsets.dtype == torch.int32 and longest == offsets.diff().max()
    outputs = []
    for begin, end in zip(offsets[:-1], offsets[1:], strict=True):
        repeats = query.shape[1] // key.shape[1]
        keys, values = (states[begin:end].repeat_interleave(repeats, 1) for states in (key, value))
        scores = torch.einsum("qad,kad->aqk", query[begin:end], keys) * scaling
        distance = torch.arange(end - begin)[:, None] - torch.arange(end - begin)
        hidden = (distance < 0) | (distance >= (window or longest))
        outputs.append(
            torch.einsum("aqk,kad->qad", scores.masked_fill(hidden, -torch.inf).softmax(-1), values)
        )
    return torch.cat(outputs)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("groups", [4, 2])
def test_packed_texts_by_a_kernel_for_any_lengths(groups, window):
    torch.manual_seed(0)
    rows = torch.cat([positions(7, 1, 4), positions(2, 10)])
    packed = attention.packed_texts(rows, 2)
    states = [torch.randn(2, heads, 12, 8, requires_grad=True) for heads in (4, groups, groups)]
    slope = torch.randn(2, 12, 4, 8)
    expected, _ = torch_attention.sdpa(
        torch.nn.Identity(), *states, None, 0.3, packed=packed, sliding_window=window
    )
    output = torch_attention.attend_packed(text_by_text, *states, packed, 0.3, window)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(result, states, slope) for result in (output, expected)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


def test_known_lengths_give_the_texts_that_the_positions_give():
    rows = torch.cat([positions(7, 1, 4), positions(2, 10)])
    packed, known = attention.packed_texts(rows, 2), attention.packed_texts(rows, 2, [7, 1, 4, 2, 10])
    assert packed == known and known.offsets.tolist() == [0, 7, 8, 12, 14, 24]
    assert attention.packed_texts(positions(12), 1, [12]) is None


def test_the_kernel_gets_causal_order_windows_and_groups(monkeypatch):
    calls = []
    monkeypatch.setattr(varlen_attention, "_parameters", lambda: {"scale", "window_size", "enable_gqa"})
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", lambda *args, **kwargs: calls.append(kwargs))
    query, offsets = torch.empty(9, 4, 8), torch.tensor([0, 4, 9], dtype=torch.int32)
    for window in (None, 5, 4):
        varlen_attention.torch_kernel(query, query[:, :2], query[:, :2], offsets, 5, window, 0.3)
    assert [call["window_size"] for call in calls] == [(-1, 0), (-1, 0), (3, 0)]
    assert all(call["scale"] == 0.3 and call["enable_gqa"] for call in calls)


@pytest.mark.parametrize(
    ("dtype", "width", "dropout", "device", "expected"),
    [
        (torch.bfloat16, 128, 0.0, "meta", True),
        (torch.float32, 128, 0.0, "meta", False),
        (torch.bfloat16, 100, 0.0, "meta", False),
        (torch.bfloat16, 512, 0.0, "meta", False),
        (torch.bfloat16, 128, 0.1, "meta", False),
        (torch.bfloat16, 128, 0.0, "cpu", False),
    ],
)
def test_which_tensors_the_kernel_takes(dtype, width, dropout, device, expected):
    query = torch.empty(1, 2, 3, width, dtype=dtype, device=device)
    assert varlen_attention.takes(query, dropout) == expected


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 5])
def test_on_a_gpu_packed_texts_are_the_texts_alone(window):
    fields = dict(hidden_size=64, sliding_window=window, attn_implementation="sdpa")
    made = tiny(torch.bfloat16, **fields).cuda()
    ids, lengths = tokens(batch=1, length=20).cuda(), [7, 1, 12]
    query = torch.empty(1, 4, 20, 16, dtype=torch.bfloat16, device="cuda")
    assert varlen_attention.takes(query, 0.0)
    with torch.no_grad():
        packed = made(ids, position_ids=positions(*lengths).cuda(), text_lengths=lengths).logits[0]
        alone = torch.cat([made(text[None]).logits[0] for text in ids[0].split(lengths)])
    torch.testing.assert_close(packed, alone, atol=0.3, rtol=0.05)
