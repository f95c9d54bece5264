import random

import pytest
import torch
from tiny_training import causal_rows, load, load_with_lora, tiny_tokenizer
from transformers import BloomConfig, BloomForCausalLM

from workbench.config.train import TrainConfig
from workbench.data.collate import Collator
from workbench.errors import ConfigError
from workbench.training import build_trainer
from workbench.training.batches import Batches
from workbench.training.fit import fit
from workbench.training.packing_support import packing_fault

LENGTHS = [random.Random(seed).randint(1, 60) for seed in range(203)]


def plan(joined=True, seed=7, ranks=(0, 1), **changes):
    train = TrainConfig(**{"per_device_batch_size": 4, **changes})
    return Batches(LENGTHS, train, seed, joined=joined, ranks=ranks)


@pytest.mark.parametrize("changes", [{}, {"group_by_length": True}, {"max_tokens_per_batch": 128}])
@pytest.mark.parametrize("joined", [True, False])
def test_every_epoch_has_every_row_once_in_an_order_of_its_own(changes, joined):
    batches = plan(joined, **changes)
    orders = []
    for epoch in range(3):
        batches.set_epoch(epoch)
        order = list(batches)
        assert len(order) == len(batches)
        assert sorted(row for batch in order for row in batch) == list(range(len(LENGTHS)))
        orders.append(order)
    assert orders[0] != orders[1] != orders[2]
    torch.manual_seed(0)
    again = plan(joined, **changes)
    again.set_epoch(2)
    torch.randn(3)
    assert list(again) == orders[2]
    other = plan(joined, seed=8, **changes)
    other.set_epoch(2)
    assert list(other) != orders[2]


@pytest.mark.parametrize("changes", [{}, {"group_by_length": True}, {"max_tokens_per_batch": 128}])
def test_processes_take_turns_at_the_batches_of_one(changes):
    dummy = [[len(LENGTHS)]]
    for world in (2, 3, 4):
        alone = list(plan(gradient_accumulation_steps=world, **changes))
        shares = [list(plan(ranks=(rank, world), **changes)) for rank in range(world)]
        assert {len(part) for part in shares} == {len(plan(ranks=(0, world), **changes))}
        dealt = [batch for together in zip(*shares, strict=True) for batch in together]
        assert dealt == alone + dummy * (-len(alone) % world)


def test_batches_of_like_length_have_little_padding():
    def padding(batches):
        return sum(max(LENGTHS[row] for row in batch) * len(batch) for batch in batches) / sum(LENGTHS)

    assert padding(plan()) > 1.3
    assert padding(plan(group_by_length=True)) < 1.06


def test_a_token_budget_is_filled_and_never_exceeded():
    sizes = [sum(LENGTHS[row] for row in batch) for batch in plan(max_tokens_per_batch=128)]
    assert max(sizes) <= 128
    assert sum(sizes) / len(sizes) > 122
    padded = list(plan(joined=False, max_tokens_per_batch=128))
    assert max(len(batch) * max(LENGTHS[row] for row in batch) for batch in padded) <= 128


def test_a_row_longer_than_the_budget_is_said():
    with pytest.raises(ConfigError, match=r"train.max_tokens_per_batch: 20 is less than the longest row, 60"):
        plan(max_tokens_per_batch=20)


@pytest.mark.parametrize("kind", [("none", "auto"), ("nf4", "auto"), ("int8", "auto"), ("none", "native")])
def test_our_models_and_llama_keep_joined_texts_apart(base, kind):
    assert not packing_fault(load_with_lora(base, "causal_lm", *kind), 0)


def bloom():
    torch.manual_seed(0)
    return BloomForCausalLM(BloomConfig(vocab_size=32, hidden_size=16, n_layer=2, n_head=2)).eval()


def test_a_model_without_positions_doesnt_keep_texts_apart_and_gets_padded_batches(tmp_path, tokenizer):
    assert packing_fault(bloom(), 0)
    seen = []

    class Watched(Collator):
        def __call__(self, features):
            batch = super().__call__(features)
            seen.append(set(batch))
            return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_trainer, "Collator", Watched)
        fit(bloom(), tokenizer, causal_rows(), None, TrainConfig(max_steps=1), tmp_path, 7)
    assert seen[0] == {"input_ids", "labels", "attention_mask", "row"}


def test_packed_rows_are_refused_where_the_model_would_mix_them(tmp_path, tokenizer):
    rows = causal_rows().map(lambda row: {"position_ids": list(range(row["length"]))})
    with pytest.raises(
        ConfigError, match="data.packing: with this model, the texts packed in a row attend to each other"
    ):
        fit(bloom(), tokenizer, rows, None, TrainConfig(max_steps=1), tmp_path, 7)


@pytest.mark.parametrize("architecture", ["auto", "native"])
def test_joined_rows_have_the_loss_and_the_gradient_of_padded_ones(base, architecture):
    found = []
    for joined in (True, False):
        model = load_with_lora(base, "causal_lm", "none", architecture)
        batch = Collator(0, joined)(list(causal_rows(8)))
        del batch["row"]
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((loss.item(), gradients))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-4, atol=1e-7)


def test_an_epoch_begun_anew_has_the_order_that_it_would_have_had(tmp_path, base):
    """The Trainer skips what an interrupted epoch has behind it: the order must be that epoch's."""
    seen = []

    class Watched(Collator):
        def __call__(self, features):
            seen.append([feature["row"] for feature in features])
            return super().__call__(features)

    train = TrainConfig(num_epochs=3, per_device_batch_size=4, save_steps=8, save_total_limit=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_trainer, "Collator", Watched)
        fit(load(base), tiny_tokenizer(), causal_rows(), None, train, tmp_path, 7)
        through, seen[:] = list(seen), []
        for name in ("checkpoint-16", "checkpoint-18"):
            (tmp_path / "checkpoints" / name / "manifest.json").unlink()
        fit(load(base), tiny_tokenizer(), causal_rows(), None, train, tmp_path, 7)
    assert len(through) == 18
    assert seen == through[8:]
