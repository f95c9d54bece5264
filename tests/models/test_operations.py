"""A LoRA step of an Open-Llama launches few operations on a GPU, and reads nothing from it."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "performance"))

from operations import (  # noqa: E402
    PRODUCTS,
    OperationCounter,
    layer_operations,
    our_model,
    packed_row,
    step_operations,
    their_model,
)

from workbench.models.ops import loss  # noqa: E402

# peft 0.21 asks transformers 5.23 by a name that it has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

MOST = 150
"""Operations of a layer's forward and backward pass."""
ONE_TEXT = {"input_ids": torch.empty(1, 512, dtype=torch.long, device="meta")}


def lengths(count):
    return [20 + 7 * number for number in range(count)]


def test_a_layer_launches_at_most_150_operations_of_which_47_are_products():
    layer, _ = layer_operations(our_model, ONE_TEXT)
    assert sum(layer[name] for name in PRODUCTS) == 47
    assert layer.total() <= MOST


def test_a_layer_launches_less_than_half_of_what_transformers_and_peft_launch():
    ours, _ = layer_operations(our_model, ONE_TEXT)
    theirs, _ = layer_operations(their_model, ONE_TEXT, read_value=True)
    assert ours.total() < theirs.total() / 2


def test_texts_of_40_lengths_launch_at_most_10_operations_more_than_one_text():
    one_text, beside = layer_operations(our_model, ONE_TEXT)
    packed, packed_beside = layer_operations(our_model, packed_row(lengths(40)))
    assert packed["_varlen_attn"] == packed["_varlen_attn_backward"] == 1
    assert packed.total() <= one_text.total() + 10
    assert packed_beside <= beside + 10


def test_the_number_of_operations_does_not_grow_with_the_number_of_lengths():
    few, many = (step_operations(our_model(1), packed_row(lengths(count))) for count in (2, 64))
    assert few == many


def test_packed_texts_of_unknown_lengths_are_read_from_the_device():
    inputs = packed_row(lengths(2))
    del inputs["text_lengths"]
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta tensors"):
        step_operations(our_model(1), inputs)


def test_the_loss_takes_8_chunks_of_8192_positions_on_a_gpu_and_32_on_a_cpu():
    sizes = [loss.positions_per_chunk(128256, on_cpu=on_cpu) for on_cpu in (False, True)]
    assert [-(-8192 // size) for size in sizes] == [8, 32]
    head = torch.nn.Linear(8, 128256, bias=False, device="meta", dtype=torch.bfloat16).requires_grad_(False)
    hidden = torch.empty(1, 8192, 8, device="meta", dtype=torch.bfloat16, requires_grad=True)
    labels = torch.empty(1, 8192, dtype=torch.long, device="meta")
    with OperationCounter() as counter:
        loss.causal_lm_loss(head, hidden, labels, 8000, positions=labels[0]).backward()
    assert counter.counts["mm"] == 2 * 8


def test_views_and_new_memory_are_no_operations():
    with OperationCounter() as counter:
        states = torch.empty(4, 6, device="meta")
        states.view(3, 8).t().split(4)[0].detach()
    assert not counter.counts
    with OperationCounter() as counter:
        states.t().reshape(24).add_(1)
    assert counter.counts == {"clone": 1, "add_": 1}


def test_compiled_functions_launch_one_operation_each():
    """Two norms, two rotations and a gate are 10 of a layer's operations; without compilation they are 26."""
    plain, beside = layer_operations(our_model, ONE_TEXT)
    compiled, compiled_beside = layer_operations(our_model, ONE_TEXT, compiles=True)
    assert compiled["compiled"] == 10
    assert sum(compiled[name] for name in PRODUCTS) == 47
    assert compiled.total() == plain.total() - 16
    assert compiled_beside < beside
