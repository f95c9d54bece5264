"""The loss without the logits of a whole batch is the plain loss."""

import pytest
import torch
import torch.nn.functional as F
from accelerate.utils import convert_outputs_to_fp32
from peft import LoraConfig, get_peft_model
from tiny import TINY, model, tokens
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.flop_counter import FlopCounterMode

from workbench.models.ops import loss

# peft 0.21 asks transformers 5.23 by a name that it has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_dropout_prob": 0.0}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(loss, "CHUNK_BYTES", 4 * 101 * 5)  # five positions at a time


def labels_of(ids):
    labels = ids.clone()
    labels[0, :4] = -100
    labels[1, 7:9] = -100
    return labels


def plain(made, ids, labels, items=None):
    """The textbook loss, from logits that are all there."""
    logits = made(ids).logits[:, :-1].float().flatten(0, 1)
    total = F.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=-100, reduction="sum")
    return total / (items or (labels[:, 1:] != -100).sum())


def value_and_gradients(made, value):
    made.zero_grad()
    value.backward()
    return value.detach(), {name: w.grad.clone() for name, w in made.named_parameters() if w.grad is not None}


def compare(made, atol=1e-5, rtol=1e-5, items=None):
    made.train()
    ids = tokens()
    labels = labels_of(ids)
    found = value_and_gradients(made, made(ids, labels=labels, num_items_in_batch=items).loss)
    wanted = value_and_gradients(made, plain(made, ids, labels, items))
    torch.testing.assert_close(found, wanted, atol=atol, rtol=rtol)


@pytest.mark.parametrize("items", [None, 7, torch.tensor(31)], ids=str)
@pytest.mark.parametrize(
    "fields",
    [
        {"shared_input_output_embedding": True},
        {"shared_input_output_embedding": False},
        {"shared_input_output_embedding": False, "tie_word_embeddings": True},
    ],
    ids=["shared", "unshared", "tied"],
)
def test_loss_and_gradients_are_those_of_the_plain_loss(fields, items):
    compare(model(**NO_DROPOUT, **fields), items=items)


def test_loss_and_gradients_are_those_of_the_plain_loss_in_bfloat16():
    compare(model(**NO_DROPOUT).bfloat16(), atol=2e-2, rtol=5e-2)


def test_loss_and_gradients_are_those_of_the_plain_loss_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        compare(model(**NO_DROPOUT, shared_input_output_embedding=False), atol=2e-2, rtol=5e-2)


@pytest.mark.parametrize(
    "adapter",
    [
        {"target_modules": ["q_proj", "down_proj"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    ],
    ids=["frozen head", "adapted head", "trained head"],
)
def test_loss_and_gradients_are_those_of_the_plain_loss_under_adapters(adapter):
    made = model(**NO_DROPOUT, shared_input_output_embedding=False)
    compare(get_peft_model(made, LoraConfig(init_lora_weights=False, **adapter)))


def test_loss_of_evaluation_is_that_of_training():
    made = model(**NO_DROPOUT)
    ids = tokens()
    labels = labels_of(ids)
    training = made.train()(ids, labels=labels).loss
    torch.testing.assert_close(made.eval()(ids, labels=labels).loss, training)
    torch.testing.assert_close(made(ids, labels=labels, logits_to_keep=1).loss, training)


def test_very_unlikely_labels_have_a_finite_exact_loss():
    head = torch.nn.Linear(4, 101, bias=False)
    hidden = torch.randn(1, 3, 4) * 300
    labels = (hidden[:, :2] @ head.weight.t()).argmin(-1)
    labels = F.pad(labels, (1, 0))
    wanted = F.cross_entropy((hidden[0, :2] @ head.weight.t()), labels[0, 1:])
    assert wanted > 100
    torch.testing.assert_close(loss.causal_lm_loss(head, hidden, labels), wanted)


def test_no_label_at_all_gives_nan_as_in_pytorch_and_zero_with_a_divisor():
    made = model(**NO_DROPOUT).train()
    ids = tokens()
    nothing = torch.full_like(ids, -100)
    assert made(ids, labels=nothing).loss.isnan()
    value, gradients = value_and_gradients(made, made(ids, labels=nothing, num_items_in_batch=5).loss)
    assert value == 0 and not any(gradient.any() for gradient in gradients.values())


def test_positions_without_a_label_cost_nothing():
    head = torch.nn.Linear(32, 101, bias=False)
    hidden = torch.randn(2, 40, 32, requires_grad=True)
    labels = torch.full((2, 40), -100)

    def cost(count):
        labels[0, 1 : 1 + count] = 5
        with FlopCounterMode(display=False) as counter:
            loss.causal_lm_loss(head, hidden, labels).backward()
        return counter.get_total_flops()

    assert cost(10) * 3 == cost(30) > 0


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest new tensor had; a view is not new."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
        for tensor in [out] if isinstance(out, torch.Tensor) else out or ():
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in given:
                self.numbers = max(self.numbers, tensor.numel())
        return out


def test_frozen_head_gets_no_gradient_made():
    head = torch.nn.Linear(32, 101, bias=False)
    hidden = torch.randn(2, 40, 32, requires_grad=True)

    def largest():
        with Largest() as seen:
            loss.causal_lm_loss(head, hidden, tokens(length=40)).backward()
        return seen.numbers

    assert largest() == head.weight.numel()
    head.requires_grad_(False)
    assert largest() < head.weight.numel()


@pytest.mark.parametrize("adapter", [None, {"target_modules": ["lm_head"]}], ids=["plain", "adapted head"])
def test_logits_of_the_whole_batch_never_exist(adapter):
    made = model(**NO_DROPOUT, shared_input_output_embedding=False)
    made = get_peft_model(made, LoraConfig(**adapter)) if adapter else made
    ids = tokens(batch=4, length=40)
    with Largest() as seen:
        made.train()(ids, labels=ids).loss.backward()
    assert seen.numbers < ids.numel() * TINY["vocab_size"] / 2
    with Largest() as seen:
        made.eval()(ids, labels=ids)
    assert seen.numbers >= ids.numel() * TINY["vocab_size"]


def test_logits_of_training_are_had_by_name_place_and_from_copies_with_the_same_loss():
    made, ids = model(**NO_DROPOUT), tokens()
    expected = made(ids).logits
    made.train()
    assert torch.equal(made(ids, labels=ids).get("logits"), expected)
    assert "logits" in made(ids, labels=ids) and list(made(ids, labels=ids)) == ["loss"]
    as_accelerate_rounds = convert_outputs_to_fp32(made.forward)(ids, labels=ids)
    assert torch.equal(as_accelerate_rounds.logits, expected)
    leaves, shape = tree_flatten(made(ids, labels=ids))
    assert torch.equal(tree_unflatten(leaves, shape).logits, expected)


def test_logits_of_training_are_computed_in_its_precision():
    made, ids = model(**NO_DROPOUT).train(), tokens()
    with torch.autocast("cpu", torch.bfloat16):
        found = made(ids, labels=ids)
    assert found.logits.dtype == torch.bfloat16


def test_logits_of_a_head_that_has_been_trained_on_since_are_refused():
    made, ids = model(**NO_DROPOUT).train(), tokens()
    found = made(ids, labels=ids)
    found.loss.backward()
    torch.optim.SGD(made.parameters(), lr=1.0).step()
    with pytest.raises(RuntimeError, match="logits: the head has changed since the forward pass"):
        _ = found.logits


@pytest.mark.parametrize("training", [True, False])
def test_labels_that_are_shifted_already_are_used_as_they_are(training):
    made, ids = model(**NO_DROPOUT).train(training), tokens()
    shifted = F.pad(labels_of(ids)[:, 1:], (0, 1), value=-100)
    expected = made(ids, labels=labels_of(ids)).loss
    torch.testing.assert_close(made(ids, labels=ids, shift_labels=shifted).loss, expected)
    assert not torch.allclose(made(ids, labels=ids).loss, expected)


def test_the_gradient_of_a_half_precision_head_does_not_overflow_where_its_mean_does_not():
    torch.manual_seed(0)
    rows = (torch.randn(8, 4096, 32) + 10).half()
    labels = torch.randint(0, 50, (8, 4096))
    labels[:, ::2] = 7
    head = torch.nn.Linear(32, 50, bias=False).half()
    found = []
    for value in (loss.causal_lm_loss(head, rows, labels), loss.loss_of_logits(head(rows), labels)):
        head.weight.grad = None
        value.backward()
        found.append(head.weight.grad)
    assert found[0].isfinite().all()
    torch.testing.assert_close(found[0].float(), found[1].float(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("dynamic", [False, True])
def test_training_compiles_into_one_graph(dynamic):
    made, ids = model(**NO_DROPOUT).train(), tokens()
    expected, gradients = value_and_gradients(made, made(ids, labels=labels_of(ids)).loss)
    torch._dynamo.reset()
    compiled = torch.compile(made, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    found, others = value_and_gradients(made, compiled(ids, labels=labels_of(ids)).loss)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(others, gradients)
