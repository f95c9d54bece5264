"""Adapters are trained on, and merged into, the unpacked weights of a folder that another tool quantized."""

import json

import pytest
import torch
from merge_ways import only_whole
from safetensors.torch import load_file
from test_merge_origins import merged, trained
from test_ready_quantized import FORMATS, is_linear, quantized_folder
from tiny_checkpoints import PLAIN, at
from transformers import AutoModelForCausalLM

from workbench.config.merge import MergeConfig, WeightedPart
from workbench.config.merge_method import MergeMethod
from workbench.config.model import Architecture
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.models.combining.combine_models import combine_models
from workbench.models.loading import load_model

NF4 = QuantizationConfig(method=QuantizationMethod.nf4)
CASES = [
    *[(name, Architecture.auto, PLAIN) for name in ("gptq act-order", "awq", "int4 asymmetric", "fp8")],
    ("gptq", Architecture.native, PLAIN),
    ("fp8", Architecture.native, PLAIN),
    ("gptq_v2", Architecture.auto, NF4),
]


@pytest.mark.parametrize(("name", "architecture", "quantization"), CASES)
def test_a_merge_is_streamed_into_the_unpacked_base_and_is_that_of_the_whole_model(
    tmp_path, caplog, monkeypatch, name, architecture, quantization
):
    quantized_folder(tmp_path / "base", name)
    section = at(tmp_path / "base", architecture=architecture)
    adapter = trained(section, tmp_path / "adapter", quantization)
    with caplog.at_level("INFO"):
        report = merged(section, adapter, tmp_path / "merged", quantization)
    assert "the whole model is in memory" not in caplog.text
    assert report.dtype == "bfloat16" and report.merged is not None
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert "quantization_config" not in config and config["dtype"] == "bfloat16"
    streamed = load_file(tmp_path / "merged" / "model.safetensors")
    assert all(tensor.dtype == torch.bfloat16 for tensor in streamed.values())
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert plain.dtype == torch.bfloat16
    only_whole(monkeypatch)
    merged(section, adapter, tmp_path / "whole", quantization)
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    assert streamed.keys() == whole.keys()
    for tensor_name, tensor in streamed.items():
        # of two orders of sums, a value beside a tie may round to the other side
        assert (tensor != whole[tensor_name]).float().mean() < 1e-3, tensor_name


def test_every_format_is_merged_without_the_whole_model(tmp_path, caplog):
    quantized_folder(tmp_path / "first", "gptq")
    adapter = trained(at(tmp_path / "first"), tmp_path / "adapter")
    for name in FORMATS:
        folder = tmp_path / name.replace(" ", "-")
        quantized_folder(folder, name)
        with caplog.at_level("INFO"):
            merged(at(folder), adapter, folder / "merged", accepts_base=True)
    assert "the whole model is in memory" not in caplog.text


def test_models_of_a_quantized_base_are_merged_into_its_unpacked_weights(tmp_path):
    quantized_folder(tmp_path / "base", "awq")
    base = load_model(at(tmp_path / "base", architecture=Architecture.native), PLAIN)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    for parameter in base.parameters():
        parameter.data += 0.125 * torch.sign(parameter.data)
    base.save_pretrained(tmp_path / "tuned")
    merge = MergeConfig(
        models=[WeightedPart(path=str(tmp_path / "tuned"), weight=0.5)], method=MergeMethod.task_arithmetic
    )
    combine_models(at(tmp_path / "base"), merge, tmp_path / "merged")
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert "quantization_config" not in config and config["dtype"] == "bfloat16"
    written = load_file(tmp_path / "merged" / "model.safetensors")
    for name in filter(is_linear, before):
        tuned = base.state_dict()[name].float()
        assert written[name].dtype == torch.bfloat16
        assert torch.allclose(written[name].float(), (before[name].float() + tuned) / 2, atol=2e-3)
