"""LLaMA folders saved in 8 and 4 bits: plain transformers loads the weights that bitsandbytes makes."""

import json

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_quant, quantize_4bit
from safetensors.torch import load_file
from test_export import open_llama
from tiny_checkpoints import PLAIN, at, logits
from transformers import LlamaForCausalLM

from workbench.config.model import Architecture
from workbench.config.publishing.export import ExportConfig, ExportFormat
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import CheckpointError, ConfigError
from workbench.models import OpenLlamaForCausalLM
from workbench.models.export import export
from workbench.models.loading import load_model
from workbench.models.quantization import float_weight, is_quantized, stored_bytes
from workbench.models.quantized_folder import check_saved

LAYERS = [
    f"model.layers.{number}.{module}"
    for number in range(2)
    for module in ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
]


def saved(folder, method):
    """An Open-Llama exported unquantized to `folder`/plain and in few bits to `folder`/few."""
    open_llama(folder / "in")
    export(at(folder / "in"), ExportConfig(), folder / "plain")
    section = ExportConfig(quantization=QuantizationMethod[method])
    return export(at(folder / "in"), section, folder / "few")


def few_bits(weight, method):
    """The weight as bitsandbytes' functions quantize it and back."""
    if method == "int8":
        values, scales, _ = int8_vectorwise_quant(weight.half())
        return values.float() * (scales[:, None] * (1 / 127))
    return dequantize_4bit(*quantize_4bit(weight, quant_type=method, compress_statistics=True))


@pytest.mark.parametrize("method", ["nf4", "fp4", "int8"])
def test_plain_transformers_loads_the_bytes_that_bitsandbytes_makes_of_the_weights(tmp_path, method):
    report = saved(tmp_path, method)
    whole = load_file(tmp_path / "plain" / "model.safetensors")
    model = LlamaForCausalLM.from_pretrained(tmp_path / "few")
    for name in LAYERS:
        weight = float_weight(model.get_submodule(name), model.dtype)
        assert torch.equal(weight, few_bits(whole[f"{name}.weight"], method)), name
    for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"):
        assert torch.equal(model.state_dict()[name], whole[name]), name
    assert report.num_bytes == sum(
        tensor.nbytes for tensor in load_file(tmp_path / "few" / "model.safetensors").values()
    )


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_this_project_reads_the_folder_as_it_is_and_says_in_its_report_what_it_is(tmp_path, method):
    saved(tmp_path, method)
    assert json.loads((tmp_path / "few" / "export_report.json").read_text())["quantization"] == method
    model = load_model(at(tmp_path / "few", architecture=Architecture.native), PLAIN)
    same = load_model(at(tmp_path / "in"), QuantizationConfig(method=QuantizationMethod[method]))
    torch.testing.assert_close(logits(model), logits(same), rtol=0, atol=1e-5)
    unpacked = load_model(at(tmp_path / "few"), PLAIN)
    assert isinstance(unpacked, OpenLlamaForCausalLM) and not is_quantized(unpacked)


def test_a_folder_that_reads_back_as_other_weights_is_not_published(tmp_path):
    saved(tmp_path, "nf4")
    model, other = (LlamaForCausalLM.from_pretrained(tmp_path / "few") for _ in range(2))
    check_saved(model, other)
    other.model.layers[1].mlp.up_proj.weight.data[0] += 1
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\.mlp\.up_proj reads back as other"):
        check_saved(model, other)
    with torch.no_grad():
        other = LlamaForCausalLM.from_pretrained(tmp_path / "few")
        other.model.norm.weight[0] += 1
    with pytest.raises(CheckpointError, match=r"model\.norm reads back as other"):
        check_saved(model, other)


def test_only_llama_folders_are_saved_in_few_bits():
    with pytest.raises(ConfigError, match=r"^export.quantization: 'nf4' is for export.format=llama, not for"):
        ExportConfig(quantization=QuantizationMethod.nf4, format=ExportFormat["gguf"])


def test_stored_bytes_counts_a_weight_that_layers_share_once(tmp_path):
    model = open_llama(tmp_path / "in", stable=False, tied=True)
    assert stored_bytes(model) == sum(
        tensor.nbytes for tensor in load_file(tmp_path / "in" / "model.safetensors").values()
    )
