"""A training step waits for the device only to read the step's losses."""

import sys
from pathlib import Path

import pytest
import torch
from test_fit import settings
from tiny_training import causal_rows, load_with_lora, tiny_tokenizer

from workbench.data.collate import Collator
from workbench.models.ops import loss
from workbench.training import trainer as trainer_module
from workbench.training.build_trainer import Training, build_trainer
from workbench.training.callbacks import ProgressBar
from workbench.training.counters import TrainCounters
from workbench.training.estimate import memory
from workbench.training.known_values import known_values

sys.path.append(str(Path(__file__).parents[1] / "performance"))

from operations import OperationCounter, kernels_of_a_gpu, our_model  # noqa: E402

# peft 0.21 asks transformers 5.23 by a name that it has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


def joined(rows):
    return Collator(0, joined=True)([*rows])


@pytest.fixture
def step_on_meta(base, tmp_path):
    """Trainer whose device is the meta device, its model there, and a batch of 8 rows on the CPU."""
    rows, counters = causal_rows(8), TrainCounters()
    train = settings(per_device_batch_size=8, max_steps=1)
    training = Training(load_with_lora(base), tiny_tokenizer(), rows, None, train, tmp_path, 7, None)
    trainer = build_trainer(training, "identity", counters, ProgressBar(counters))
    trainer.model = our_model(2)
    vars(trainer.args)["_setup_devices"] = torch.device("meta")
    return trainer, counters, joined(rows)


def test_a_step_of_two_batches_reads_its_losses_at_its_end_and_nothing_else(step_on_meta):
    trainer, counters, batch = step_on_meta
    items = torch.empty((), dtype=torch.long, device="meta")
    with kernels_of_a_gpu(), OperationCounter() as counter:
        for _ in range(2):
            trainer.training_step(trainer.model, dict(batch), items)
    assert counter.counts["_varlen_attn"] == 4
    assert counters.step_tokens == 2 * batch["input_ids"].numel()
    with pytest.raises(RuntimeError, match="meta"):
        counters.end_step()


def test_without_known_values_a_step_would_wait_for_the_device(step_on_meta, monkeypatch):
    trainer, _, batch = step_on_meta
    monkeypatch.setattr(trainer_module, "known_values", lambda *_: {})
    with kernels_of_a_gpu(), pytest.raises(RuntimeError, match="meta tensors"):
        trainer.training_step(trainer.model, batch, 1)


def test_known_values_are_those_that_the_model_finds_itself(base):
    model = load_with_lora(base, dropout=0.0).train()
    batch = joined(causal_rows(8))
    del batch["row"]
    known = known_values(model, batch)
    assert known["text_lengths"] == [4 + number % 7 for number in range(8)]
    losses = [model(**batch, **more).loss for more in ({}, known)]
    gradients = [
        torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]) for loss in losses
    ]
    torch.testing.assert_close(losses[0], losses[1], atol=0, rtol=0)
    torch.testing.assert_close(*gradients, atol=0, rtol=0)


def test_padded_rows_and_other_models_get_no_known_values(base):
    batch = joined(causal_rows(8))
    assert known_values(load_with_lora(base, "causal_lm", "none", "native"), batch) == {}
    padded = Collator(0)([*causal_rows(8)])
    assert known_values(load_with_lora(base), padded) == {}


def test_the_rows_of_each_batch_with_a_loss_that_is_no_number_are_noted():
    counters = TrainCounters()
    counters.step_losses = [
        (torch.tensor(1.5), [1, 2]),
        (torch.tensor(float("nan")), [3]),
        (torch.tensor(0.5), [4]),
    ]
    counters.end_step()
    assert counters.nonfinite_rows == [3] and counters.step_losses == []
    counters.step_losses = [(torch.tensor(1.5), [1]), (torch.tensor(0.25), [2])]
    counters.end_step()
    assert counters.losses[1] == 1.75


def test_the_plan_counts_the_chunks_of_logits_that_the_loss_takes():
    assert (memory.LOGITS_BYTES, memory.GPU_LOGITS_BYTES) == (loss.CHUNK_BYTES, loss.GPU_CHUNK_BYTES)
