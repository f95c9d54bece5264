"""Activations that are kept elsewhere between the passes leave the numbers as they are."""

import logging

import pytest
import torch
from test_fit import same, settings, weights
from test_memory import SIZES, setting
from tiny_training import causal_rows, load, load_with_lora, tiny_tokenizer

from workbench.config.train import TrainConfig
from workbench.errors import ConfigError
from workbench.models.open_llama import OpenLlamaConfig
from workbench.training import build_trainer, offloading
from workbench.training.estimate.memory import Batch, activations_bytes, layer_bytes
from workbench.training.fit import fit


@pytest.fixture
def moved(monkeypatch):
    """Let CPU tensors of any size count as a GPU's; return the addresses of those that are moved."""
    addresses = []

    def is_on_gpu(tensor):
        addresses.append(tensor.untyped_storage().data_ptr())
        return True

    monkeypatch.setattr(offloading, "is_on_gpu", is_on_gpu)
    monkeypatch.setattr(offloading, "LEAST_BYTES", 1)
    return addresses


@pytest.mark.parametrize("made", [load, load_with_lora])
def test_gradients_are_the_same_to_the_bit_and_weights_are_not_copied(base, made, moved):
    model, ids = made(base).eval(), torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])

    def gradients():
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    expected = gradients()
    assert not moved
    with offloading.offloaded_activations(model):
        assert same(gradients(), expected)
    assert moved and not set(moved) & {p.untyped_storage().data_ptr() for p in model.parameters()}


def test_a_training_ends_with_the_same_weights(base, tmp_path, moved, monkeypatch):
    def trained(folder, **options):
        model = load_with_lora(base)
        fit(model, tiny_tokenizer(), causal_rows(12), None, settings(max_steps=3, **options), folder, 7)
        return weights(model)

    plain = trained(tmp_path / "plain")
    assert not moved

    def offloading_trainer(*args, **kwargs):
        return made(*args, **{**kwargs, "offloading": True})

    made = build_trainer.CountingTrainer
    monkeypatch.setattr(build_trainer, "CountingTrainer", offloading_trainer)
    assert same(trained(tmp_path / "offloaded"), plain) and moved


def test_a_cpu_has_nothing_to_offload_from(base, tmp_path, moved, caplog):
    caplog.set_level(logging.INFO, "workbench")
    train = settings(max_steps=1, activation_offloading=True)
    fit(load_with_lora(base), tiny_tokenizer(), causal_rows(12), None, train, tmp_path, 7)
    assert not moved and "activation_offloading: without effect on a CPU" in caplog.text


def test_it_is_one_of_two_ways_and_does_not_change_the_weights():
    with pytest.raises(ConfigError, match="train.activation_offloading: train.gradient_checkpointing"):
        TrainConfig(activation_offloading=True, gradient_checkpointing=True)
    assert TrainConfig(activation_offloading=True).learned() == TrainConfig().learned()


def test_the_plan_counts_one_layer():
    config, batch = OpenLlamaConfig(**SIZES), Batch(2, 64, 64)
    plain = setting(config, batch, on_cpu=False)
    kept = setting(config, batch, on_cpu=False, offloading=True)
    layers = config.num_hidden_layers
    assert activations_bytes(plain) - activations_bytes(kept) == (layers - 1) * layer_bytes(plain)
