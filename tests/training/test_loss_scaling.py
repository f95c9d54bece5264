"""float16 is trained with loss scaling on a GPU, and what has none is said or refused."""

import logging
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import AutocastKwargs
from tiny_training import causal_rows, load_with_lora, tiny_tokenizer

from workbench.config.train import TrainConfig
from workbench.errors import ConfigError
from workbench.training import check_settings as checking
from workbench.training.arguments import scales_loss, training_arguments
from workbench.training.build_trainer import Training, build_trainer
from workbench.training.callbacks import ProgressBar
from workbench.training.counters import TrainCounters
from workbench.training.fit import fit


def adapted(base, dtype):
    """A base model in `dtype`, with an adapter in float32."""
    model = load_with_lora(base)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return model


FLOATS = (torch.float32, torch.bfloat16, torch.float16)
TRAIN = TrainConfig(max_steps=2, per_device_batch_size=2, report_to=[], save_steps=1)


@pytest.mark.parametrize("autocast", [None, torch.float16])
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_trainer_scales_the_loss_of_float16_on_a_gpu_only(dtype, autocast, tmp_path):
    for device in ("cpu", "cuda"):
        model = SimpleNamespace(device=torch.device(device), dtype=dtype)
        arguments = training_arguments(
            TRAIN, tmp_path, 1, steps=1, metric=None, model=model, autocast=autocast
        )
        expected = device == "cuda" and torch.float16 in (dtype, autocast)
        assert arguments.fp16 == scales_loss(model, autocast) == expected
        assert not (arguments.fp16 and arguments.bf16)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_scaling_without_autocast_leaves_products_as_they_are(base, autocast, tmp_path):
    model = adapted(base, torch.float16 if autocast is None else torch.float32)
    training = Training(model, tiny_tokenizer(), causal_rows(), None, TRAIN, tmp_path, 1, None, autocast)
    counters = TrainCounters()
    trainer = build_trainer(training, "", counters, ProgressBar(counters))
    assert torch.get_float32_matmul_precision() == "highest"  # TF32 stays off
    handler = trainer.accelerator.autocast_handler
    if autocast is None:
        assert isinstance(handler, AutocastKwargs) and not handler.enabled
    else:
        assert handler is None


def test_float16_on_a_cpu_is_said_to_lose_small_gradients(base, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "workbench")
    model = adapted(base, torch.float16)
    fit(model, tiny_tokenizer(), causal_rows(), None, TRAIN, tmp_path, 1)
    assert "float16: small gradients vanish on a CPU" in caplog.text


def test_float16_weights_themselves_are_not_trained_on_a_gpu(base, tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "scales_loss", lambda *_: True)
    model = adapted(base, torch.float16)
    training = Training(model, tiny_tokenizer(), causal_rows(), None, TRAIN, tmp_path, 1, None)
    checking.check_settings(training)  # an adapter is in float32
    model.get_input_embeddings().weight.requires_grad_(True)
    with pytest.raises(ConfigError, match="train.precision: float16 weights"):
        checking.check_settings(training)


@pytest.mark.gpu
def test_a_float16_training_on_a_gpu_scales_its_loss_and_resumes_the_scale(base, tmp_path):
    model = adapted(base, torch.float16).to("cuda")
    report = fit(model, tiny_tokenizer(), causal_rows(), None, TRAIN, tmp_path, 1)
    assert report.loss_last < 20
    scaler = torch.load(tmp_path / "checkpoints" / "checkpoint-2" / "scaler.pt", weights_only=True)
    assert scaler["scale"] > 1


def test_a_model_that_is_split_over_gpus_is_not_trained(base, tmp_path):
    model = load_with_lora(base)
    model.hf_device_map = {"model": 0, "lm_head": 1}
    training = Training(model, tiny_tokenizer(), causal_rows(), None, TRAIN, tmp_path, 1, None)
    with pytest.raises(ConfigError, match="split over several GPUs"):
        checking.check_settings(training)
    model.hf_device_map = {"": 0}
    checking.check_settings(training)
