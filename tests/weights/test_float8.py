"""Weights that transformers quantized to FP8 are read as transformers dequantizes them, bit by bit."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from transformers import FineGrainedFP8Config
from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize

from workbench.weights.file_tensors import file_tensors
from workbench.weights.unpacking.formats import quantized_format
from workbench.weights.unpacking.unpack import unpacked

SHAPE = (96, 120)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale_fmt", ["float", "ue8m0"])
@pytest.mark.parametrize("block", [(24, 40), (96, 1), (96, 120), None])
def test_a_weight_is_the_one_that_transformers_dequantizes(tmp_path: Path, block, scale_fmt, dtype):
    config = FineGrainedFP8Config(weight_block_size=block or (128, 128), scale_fmt=scale_fmt)
    config.weight_block_size = block
    quantizer = SimpleNamespace(quantization_config=config)
    weight = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)) * 0.05
    weight[:24, :40] = 0
    layer = Fp8Quantize(quantizer).convert({"layer.weight": weight.to(dtype)})
    expected = Fp8Dequantize(quantizer).convert(
        {"weight": layer["layer.weight"], "weight_scale_inv": layer["layer.weight_scale_inv"]}
    )["weight"]
    save_file(layer, tmp_path / "model.safetensors")
    settings = json.loads(config.to_json_string(use_diff=False))
    stored = file_tensors([tmp_path / "model.safetensors"])
    read = unpacked(stored, quantized_format(settings), tmp_path)["layer.weight"]
    assert len(expected.unique()) > 100
    assert torch.equal(read[...].to(expected.dtype), expected)
    assert torch.equal(read.rows(5, 47), read[...][5:47])
