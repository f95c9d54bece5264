"""Every optimizer trains, is resumed to the bit, and takes the memory that the plan counts."""

import logging
import shutil

import pytest
import torch
from test_fit import same, settings, weights
from tiny_training import causal_rows, load, tiny_tokenizer
from transformers import Trainer, TrainingArguments

from workbench.config.adapter import AdapterConfig
from workbench.config.quantization import QuantizationConfig
from workbench.config.train import Optimizer
from workbench.models.adapters import attach
from workbench.run_dir import read_json
from workbench.training.checkpoint_checks.states import Untrained, optimizer_problems
from workbench.training.estimate.memory import moment_bytes
from workbench.training.estimate.setting import Batch, Setting, Shape
from workbench.training.fit import fit
from workbench.training.resume import write_manifest

ROWS = causal_rows(12)


def trained(base, folder, optimizer, **changes):
    """The model after four steps, and the report; a rank of 256 gives bitsandbytes weights of 8 bits."""
    model = attach.attach(load(base), AdapterConfig(rank=256, alpha=8.0, dropout=0.0), seed=1)
    train = settings(max_steps=4, save_steps=2, logging_steps=1, optimizer=optimizer, **changes)
    return model, fit(model, tiny_tokenizer(), ROWS, None, train, folder, 7)


@pytest.mark.parametrize("optimizer", Optimizer, ids=lambda optimizer: optimizer.name)
def test_a_training_is_resumed_to_the_bit_and_a_damaged_state_is_named(base, tmp_path, optimizer, caplog):
    caplog.set_level(logging.INFO, "workbench")
    model, report = trained(base, tmp_path, optimizer)
    assert report.loss_last < report.loss_first
    assert ("is not paged on a CPU" in caplog.text) == optimizer.is_paged
    whole, last = weights(model), tmp_path / "checkpoints" / "checkpoint-4"
    shutil.rmtree(last)
    model, report = trained(base, tmp_path, optimizer)
    assert report.resumed_from == 2 and same(weights(model), whole)

    state = torch.load(last / "optimizer.pt", weights_only=False)
    moments = state["state"][0].get("__bnb_optimizer_quant_state__", state["state"][0])
    key = "state1" if "state1" in moments else "exp_avg"
    assert (moments[key].dtype == torch.uint8) == ("8bit" in optimizer.value)
    moments[key] = moments[key][:1]
    torch.save(state, last / "optimizer.pt")
    manifest = read_json(last / "manifest.json")
    write_manifest(last, 4, manifest["identity"], manifest["meter"], is_final=False)
    caplog.clear()
    model, report = trained(base, tmp_path, optimizer)
    assert f"optimizer.pt: parameter 0: {key} is " in caplog.text
    assert report.resumed_from == 2 and same(weights(model), whole)


@pytest.mark.filterwarnings("ignore:Paged optimizers")
@pytest.mark.parametrize("optimizer", Optimizer, ids=lambda optimizer: optimizer.name)
def test_each_damaged_or_missing_part_of_a_state_is_named(tmp_path, optimizer):
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, optim=optimizer.value)
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    weight = torch.nn.Parameter(torch.zeros(256, 256))
    made = kind([weight], **options)
    made.param_groups[0]["initial_lr"] = made.param_groups[0]["lr"]
    groups = made.state_dict()["param_groups"]
    untrained = Untrained([weight.shape], groups, optimizer.num_moments, scheduler=None)
    weight.sum().backward()
    made.step()

    def problems() -> str:
        torch.save(made.state_dict() | {"state": {0: state}}, tmp_path / "optimizer.pt")
        return "; ".join(optimizer_problems(tmp_path, untrained))

    state = made.state_dict()["state"][0]
    assert problems() == ""
    moments = state.get("__bnb_optimizer_quant_state__", state)
    for key in moments.keys() - {"step"}:
        value = moments.pop(key)
        assert "(expected" in problems(), key
        moments[key] = value[:1]
        assert f"parameter 0: {key} is " in problems()
        moments[key] = value
    assert problems() == ""


def test_optimizers_that_compute_otherwise_train_other_weights(base, tmp_path):
    found = {
        name: weights(trained(base, tmp_path / name, Optimizer[name])[0])
        for name in ("adamw_torch_fused", "adamw_8bit", "lion_32bit")
    }
    assert not same(found["adamw_torch_fused"], found["adamw_8bit"])
    assert not same(found["adamw_torch_fused"], found["lion_32bit"])
    paged = trained(base, tmp_path / "paged", Optimizer.paged_adamw_8bit)[0]
    assert same(weights(paged), found["adamw_8bit"])


def test_lora_plus_has_its_two_rates_with_every_optimizer(base, tmp_path):
    for optimizer in (Optimizer.adamw_8bit, Optimizer.paged_lion_32bit):
        plain, _ = trained(base, tmp_path / f"{optimizer.name}-1", optimizer)
        plus, _ = trained(base, tmp_path / f"{optimizer.name}-16", optimizer, lora_plus_ratio=16.0)
        assert not same(weights(plain), weights(plus))


@pytest.mark.filterwarnings("ignore:Paged optimizers")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("optimizer", Optimizer, ids=lambda optimizer: optimizer.name)
def test_the_plan_counts_the_bytes_of_the_state(base, tmp_path, optimizer, dtype):
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, optim=optimizer.value)
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    weight = torch.nn.Parameter(torch.zeros(256, 256, dtype=dtype))
    made = kind([weight], **options)
    weight.sum().backward()
    made.step()
    tensors = [value for key, value in made.state[weight].items() if key not in ("step", "qmap1", "qmap2")]
    held = sum(tensor.nbytes for tensor in tensors)
    here = Setting(
        shape=Shape.of(load(base)),
        quantization=QuantizationConfig(),
        adapter=None,
        batch=Batch(1, 8, 8),
        checkpointing=False,
        dtype_bytes=dtype.itemsize,
        on_cpu=True,
        optimizer=optimizer,
    )
    assert moment_bytes(here) * weight.numel() == held
