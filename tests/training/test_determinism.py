import os

import pytest
import torch
from tiny_training import causal_rows, load_with_lora

from workbench.config.train import TrainConfig
from workbench.errors import TrainingError
from workbench.training import trainer
from workbench.training.determinism import FLASH, deterministic
from workbench.training.fit import fit

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def put():
    """An operation of which PyTorch knows no deterministic kernel, on no device."""
    torch.zeros(3).put_(torch.tensor([1]), torch.ones(1))


def settings():
    fills = torch.utils.deterministic.fill_uninitialized_memory
    return torch.get_deterministic_debug_mode(), fills, os.environ.get(FLASH)


@pytest.fixture(params=[(0, None), (1, "0")], ids=["default", "set"])
def before(request, monkeypatch):
    mode, flash = request.param
    if flash is not None:
        monkeypatch.setenv(FLASH, flash)
    torch.set_deterministic_debug_mode(mode)
    yield settings()
    torch.set_deterministic_debug_mode(0)


def test_a_gpu_takes_deterministic_kernels_and_afterwards_what_was_set_before(before):
    with deterministic(CUDA):
        assert settings() == (2, False, "1")
    assert settings() == before


def test_an_operation_without_such_a_kernel_is_named_with_the_way_out(before):
    said = r"^train.deterministic: put_ does not have .*\(or train.deterministic=false\)"
    with pytest.raises(TrainingError, match=said), deterministic(CUDA):
        put()
    assert settings() == before


def test_other_errors_are_passed_on():
    with pytest.raises(RuntimeError, match="size mismatch|must match"), deterministic(CUDA):
        torch.ones(2) + torch.ones(3)


def test_on_a_cpu_nothing_is_changed():
    with deterministic(CPU):
        put()
        assert settings() == (0, True, None)


@pytest.mark.parametrize("wanted", [True, False])
def test_each_micro_batch_is_trained_so_unless_the_configuration_says_otherwise(
    tmp_path, base, tokenizer, monkeypatch, wanted
):
    asked = []

    def asking(device):
        asked.append(device)
        return deterministic(device)

    monkeypatch.setattr(trainer, "deterministic", asking)
    sizes = {"per_device_batch_size": 4, "gradient_accumulation_steps": 2}
    train = TrainConfig(max_steps=3, deterministic=wanted, report_to=[], **sizes)
    fit(load_with_lora(base), tokenizer, causal_rows(), None, train, tmp_path, 7)
    assert asked == [CPU] * 6 * wanted
