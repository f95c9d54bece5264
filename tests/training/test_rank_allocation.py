"""AdaLoRA: ranks are removed as peft does, and a killed training resumes with what decides about them."""

import json
import os
from dataclasses import replace
from math import cos, pi

import pytest
import torch
from interrupted import forked, journal, killed_before
from peft import AdaLoraModel
from safetensors.torch import load_file, save_file
from tiny_training import causal_rows, class_rows, load, tiny_tokenizer
from torch.optim import AdamW

from workbench.config.adapter import AdapterConfig, AdapterMethod
from workbench.config.train import Keep, TrainConfig
from workbench.data.collate import Collator
from workbench.errors import CheckpointError, ConfigError
from workbench.models.adapters import attach
from workbench.run_dir import file_fingerprint
from workbench.training.callbacks import StepCallback
from workbench.training.fit import fit
from workbench.training.rank_allocation import FILE, PATTERN, allocation_problems, whole_ranks

STEPS = 12
OPTIONS = {"init_r": 6, "target_r": 2, "tinit": 2, "tfinal": 3, "deltaT": 2}
TRAIN = TrainConfig(
    max_steps=STEPS,
    per_device_batch_size=2,
    gradient_accumulation_steps=2,
    learning_rate=1e-2,
    warmup_steps=0.0,
    logging_steps=4,
    save_steps=1,
    save_total_limit=STEPS,
)


def adalora(base, task="causal_lm", **options):
    section = AdapterConfig(method=AdapterMethod.adalora, options=OPTIONS | options)
    return attach.attach(load(base, task), section, seed=1)


def trained(base, folder, task="causal_lm", train=TRAIN, **options):
    """A model after a training, whose adapter is saved."""
    torch.set_num_threads(1)
    model = adalora(base, task, **options)
    rows = class_rows() if task == "sequence_classification" else causal_rows()
    fit(model, tiny_tokenizer(), rows, rows.select(range(5)), train, folder, 7)
    attach.save(model, folder / "adapter")
    return model


def ranks(folder):
    """Rank of each layer in an adapter's file."""
    tensors = load_file(folder / "adapter" / "adapter_model.safetensors")
    return [len(tensor) for name, tensor in tensors.items() if "lora_E" in name]


@torch.no_grad()
def logits(model):
    return model.eval()(torch.tensor([[5, 9, 2, 17, 8, 11]])).logits


def test_the_second_term_of_the_loss_is_pefts(base):
    model = adalora(base, orth_reg_weight=0.25)
    ids = torch.tensor([[5, 9, 2, 17]])
    with_it = model(input_ids=ids, labels=ids).loss
    with whole_ranks(model) as term:
        without = model(input_ids=ids, labels=ids).loss
        assert (with_it - without).item() == pytest.approx(0.25 * term.value().item(), rel=1e-5)
        model.zero_grad()
        term.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    (model(input_ids=ids, labels=ids).loss - without).backward()
    for name, parameter in model.named_parameters():
        if name in found:
            assert torch.allclose(found[name], parameter.grad, atol=1e-6), name


def test_a_training_is_the_loop_that_peft_documents(base, tmp_path):
    """All rows are a step: forward, backward, step, update_and_allocate, with no code of ours."""
    train = replace(TRAIN, per_device_batch_size=12, gradient_accumulation_steps=2, save_steps=100)
    ours = trained(base, tmp_path, train=train)
    theirs = adalora(base)
    layers = theirs.base_model
    layers.rankallocator.set_total_step(STEPS)
    rows = causal_rows()
    collate = Collator(0)
    batch = collate([{**row} for row in rows])
    batch = {name: values for name, values in batch.items() if name != "row"}
    weights = [weight for weight in theirs.parameters() if weight.requires_grad]
    optimizer = AdamW(weights, lr=1e-2, weight_decay=train.weight_decay)
    theirs.train()
    for step in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 + cos(pi * (step - 1) / STEPS)) / 2
        theirs(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, train.max_grad_norm)
        optimizer.step()
        layers.update_and_allocate(step)
        optimizer.zero_grad()
    expected = {name: weight for name, weight in theirs.named_parameters() if weight.requires_grad}
    for name, weight in ours.named_parameters():
        if name in expected:
            assert torch.allclose(weight, expected[name], atol=2e-5), name
    assert sum(ranks(tmp_path)) == 2 * len(ranks(tmp_path))


def test_the_saved_adapter_has_the_ranks_that_remain_and_gives_the_same_logits(base, tmp_path):
    model = trained(base, tmp_path)
    assert sum(ranks(tmp_path)) == 2 * len(ranks(tmp_path)) and len({*ranks(tmp_path)}) > 1
    again = attach.load(load(base), tmp_path / "adapter")
    assert torch.allclose(logits(again), logits(model), atol=1e-6)
    assert not torch.allclose(logits(again), logits(load(base)), atol=1e-3)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["total_step"] == STEPS and config["orth_reg_weight"] == 0.5


@pytest.mark.parametrize(
    ("task", "killed_at"), [("causal_lm", 5), ("causal_lm", 11), ("sequence_classification", 5)]
)
def test_a_killed_training_ends_with_the_bytes_of_one_that_was_not(task, killed_at, base, tmp_path):
    through, killed = tmp_path / "through", tmp_path / "killed"
    plant = killed_before(StepCallback, "on_step_end", killed_at)
    assert forked(lambda: trained(base, through, task)) == 0
    assert forked(lambda: (plant(), trained(base, killed, task))) == 9
    assert forked(lambda: trained(base, killed, task)) == 0
    assert file_fingerprint(killed / "adapter") == file_fingerprint(through / "adapter")
    assert journal(killed) == journal(through)


def test_the_ranks_of_the_best_checkpoint_are_its_own(base, tmp_path):
    """Between two removals a rank may grow again: a stored list of ranks would cut it off."""
    train = replace(TRAIN, keep=Keep.best, max_steps=STEPS, learning_rate=0.3, save_steps=1)
    model = trained(base, tmp_path, train=train, tfinal=0, deltaT=5)
    again = attach.load(load(base), tmp_path / "adapter")
    assert torch.allclose(logits(again), logits(model), atol=1e-5)


def test_a_repeated_command_after_the_end_has_the_same_adapter(base, tmp_path):
    trained(base, tmp_path)
    first = file_fingerprint(tmp_path / "adapter")
    trained(base, tmp_path)
    assert file_fingerprint(tmp_path / "adapter") == first


def test_a_damaged_allocation_is_named(base, tmp_path):
    trained(base, tmp_path)
    folder = tmp_path / "checkpoints" / "checkpoint-4"
    model, file = adalora(base), folder / FILE
    assert list(allocation_problems(folder, model)) == []
    assert list(allocation_problems(folder, load(base))) == []
    tensors = load_file(file)
    pattern = {
        name.removeprefix("ipt."): [True] * 6 for name in tensors if name.startswith("ipt.") and "_E." in name
    }
    name = next(iter(tensors))
    for damage, said in [
        ((tensors | {name: -tensors[name]}, pattern), f"{name} is not the importance of a weight"),
        ((tensors | {name: tensors[name][:1]}, pattern), f"{name} is not the importance of a weight"),
        (({n: t for n, t in tensors.items() if n != name}, pattern), "other weights than this adapter"),
        ((tensors, {}), "rank_pattern has other layers"),
        ((tensors, pattern | {next(iter(pattern)): [True]}), "truth values"),
        ((tensors, "x"), "rank_pattern has other layers"),
    ]:
        save_file(damage[0], file, {PATTERN: json.dumps(damage[1])})
        assert said in next(allocation_problems(folder, model))
    save_file(tensors, file)
    assert list(allocation_problems(folder, model)) == [f"{FILE} is damaged"]
    os.truncate(file, 100)
    assert list(allocation_problems(folder, model)) == [f"{FILE} is damaged"]
    file.unlink()
    assert list(allocation_problems(folder, model)) == [f"{FILE} is missing"]


def test_what_can_not_be_done_is_one_line(base, tmp_path):
    with pytest.raises(
        ConfigError, match=r"tinit: 2, and tfinal 3, of 5 steps leave none to remove ranks in"
    ):
        trained(base, tmp_path / "short", train=replace(TRAIN, max_steps=5))
    trained(base, tmp_path / "whole")
    with pytest.raises(CheckpointError, match="ADALORA can't be trained further"):
        attach.load(load(base), tmp_path / "whole" / "adapter", trainable=True)
    model = adalora(base)
    assert isinstance(model.base_model, AdaLoraModel)
    with pytest.raises(ConfigError, match="which float16 scales differently"):
        rows = causal_rows()
        fit(model, tiny_tokenizer(), rows, None, TRAIN, tmp_path / "half", 7, autocast=torch.float16)
