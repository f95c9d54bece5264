"""Folders that another tool has quantized are unpacked while they are read."""

import json
import shutil
from pathlib import Path

import numpy as np
import packed_layers
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from safetensors.torch import load_file, save_file
from tiny_checkpoints import IDS, PLAIN, SIZES, at, llama, logits, words_tokenizer
from transformers import FineGrainedFP8Config, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from workbench.config.model import Architecture, Dtype
from workbench.config.publishing.export import ExportConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import CheckpointError
from workbench.models.checkpoints.model_folder import open_folder
from workbench.models.export import export
from workbench.models.loading import check_model, load_model, outline, read_config
from workbench.models.quantization import dequantize_state_dict
from workbench.weights import rows_as_trained
from workbench.weights.fused_rows import FusedRows
from workbench.weights.merge_plan import MergePlan, PlannedTensor
from workbench.weights.unpacking.awq import Awq
from workbench.weights.unpacking.gptq import Gptq
from workbench.weights.unpacking.unpacked_rows import UnpackedRows

BOTH = [Architecture.auto, Architecture.native]


def groups(weights: dict, **fields) -> dict:
    """A quantization_config of compressed-tensors."""
    section = {"targets": ["Linear"], "weights": {"dynamic": False, **weights}}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": section}, **fields}


PACKED = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 16}
INT8 = {"num_bits": 8, "type": "int", "symmetric": False, "strategy": "channel"}
FLOAT8 = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel"}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 16, "desc_act": False, "sym": False}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 16, "zero_point": True, "version": "gemm"}
FP8 = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [24, 40], "activation_scheme": "dynamic"}
FORMATS = {
    "gptq": (GPTQ, packed_layers.gptq, {}),
    "gptq 8 bits": ({**GPTQ, "bits": 8}, packed_layers.gptq, {"bits": 8}),
    "gptq act-order": ({**GPTQ, "desc_act": True}, packed_layers.gptq, {"act_order": True}),
    "gptq one group": ({**GPTQ, "group_size": -1}, packed_layers.gptq, {"group_size": -1}),
    "gptq symmetric": ({**GPTQ, "sym": True}, packed_layers.gptq, {"symmetric": True}),
    "gptq_v2": ({**GPTQ, "checkpoint_format": "gptq_v2"}, packed_layers.gptq, {"version": 2}),
    "gptq_v2 8 bits": (
        {**GPTQ, "bits": 8, "format": "gptq_v2"},
        packed_layers.gptq,
        {"bits": 8, "version": 2},
    ),
    "awq": (AWQ, packed_layers.awq, {}),
    "int4 packed": (groups(PACKED, format="pack-quantized"), packed_layers.packed, {}),
    "int4 asymmetric": (
        groups({**PACKED, "symmetric": False}, format="pack-quantized"),
        packed_layers.packed,
        {"symmetric": False},
    ),
    "int4 act-order": (
        groups({**PACKED, "actorder": "group"}, format="pack-quantized"),
        packed_layers.packed,
        {"g_idx": True},
    ),
    "int8 packed": (
        groups({**PACKED, "num_bits": 8, "strategy": "channel", "group_size": None}, format="pack-quantized"),
        packed_layers.packed,
        {"bits": 8, "group_size": None},
    ),
    "int8 rows": (groups(INT8, format="int-quantized"), packed_layers.int8_rows, {}),
    "fp8 rows": (
        groups(FLOAT8, format="float-quantized"),
        packed_layers.float8,
        {"block": (1, 10**6), "scale": "weight_scale"},
    ),
    "fp8 tensors": (
        groups({**FLOAT8, "strategy": "tensor"}, format="float-quantized"),
        packed_layers.float8,
        {"block": (10**6, 10**6), "scale": "weight_scale"},
    ),
    "fp8 blocks": (
        groups({**FLOAT8, "strategy": "block", "block_structure": [24, 40]}, format="float-quantized"),
        packed_layers.float8,
        {"block": (24, 40), "scale": "weight_scale"},
    ),
    "fp8": (FP8, packed_layers.float8, {"block": (24, 40), "scale": "weight_scale_inv"}),
    "fp8 static": (
        {"quant_method": "fp8", "activation_scheme": "static"},
        packed_layers.float8,
        {"block": (10**6, 10**6), "scale": "weight_scale"},
    ),
}


def is_linear(name: str) -> bool:
    return name.endswith("_proj.weight")


def quantized_folder(folder: Path, name: str, dtype: torch.dtype = torch.float16) -> dict[str, np.ndarray]:
    """Write a tiny LLaMA in a format; the result is that of `pack_layers`."""
    llama().to(dtype).save_pretrained(folder)
    words_tokenizer().save_pretrained(folder)
    return pack_layers(folder, name)


def pack_layers(folder: Path, name: str, is_packed=is_linear) -> dict[str, np.ndarray]:
    """Replace the layers of a folder by packed ones; the result is what the weight of each stands for."""
    settings, pack, options = FORMATS[name]
    tensors, exact = {}, {}
    for tensor_name, tensor in load_file(folder / "model.safetensors").items():
        if not is_packed(tensor_name):
            tensors[tensor_name] = tensor
            continue
        layer, exact[tensor_name] = pack(tensor.float(), **options)
        tensors |= {f"{tensor_name.removesuffix('weight')}{end}": part for end, part in layer.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    described(folder, quantization_config=settings)
    return exact


def described(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize("architecture", BOTH)
@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_of_each_format_is_loaded_as_the_weights_that_it_stands_for(tmp_path, name, architecture):
    exact = quantized_folder(tmp_path, name)
    section = at(tmp_path, architecture=architecture)
    check_model(section, PLAIN)
    weights = load_model(section, PLAIN).state_dict()
    assert len(exact) == 14
    for tensor_name, values in exact.items():
        expected = torch.from_numpy(values).float().bfloat16()
        stored = weights[tensor_name]
        assert stored.dtype == torch.bfloat16
        # float32 products, then bfloat16: a value beside a tie may round to the other side
        assert (stored != expected).float().mean() < 1e-3, tensor_name
        assert torch.allclose(stored.float(), expected.float(), rtol=2**-7, atol=0)
    embedding = llama().half().model.embed_tokens.weight.bfloat16()
    assert torch.equal(weights["model.embed_tokens.weight"], embedding)


@pytest.mark.parametrize("name", FORMATS)
def test_in_float32_the_weights_are_the_formulas_and_any_rows_are_those_of_the_whole(tmp_path, name):
    exact = quantized_folder(tmp_path, name)
    tensors = open_folder(tmp_path).tensors
    for tensor_name, values in exact.items():
        stored = tensors[tensor_name.removeprefix("model.")]
        whole = stored[...]
        assert np.allclose(whole.numpy(), values, rtol=1e-6, atol=1e-9)
        for first, last in ((0, 1), (3, 4), (5, 21), (17, len(values))):
            assert torch.equal(stored.rows(first, last), whole[first:last])


@pytest.mark.parametrize("architecture", BOTH)
def test_unpacked_weights_are_quantized_anew_as_an_unquantized_folder_is(tmp_path, architecture):
    quantized_folder(tmp_path / "packed", "gptq")
    plain = load_model(at(tmp_path / "packed", architecture=architecture), PLAIN)
    assert getattr(plain.config, "quantization_config", None) is None
    plain.save_pretrained(tmp_path / "plain")
    words_tokenizer().save_pretrained(tmp_path / "plain")
    for method in (QuantizationMethod.nf4, QuantizationMethod.int8):
        quantization = QuantizationConfig(method=method)
        first, second = (
            dequantize_state_dict(load_model(at(tmp_path / name, architecture=architecture), quantization))
            for name in ("packed", "plain")
        )
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("double_quant", [False, True])
@pytest.mark.parametrize("method", ["nf4", "fp4"])
def test_four_bits_of_bitsandbytes_are_its_own_dequantized(tmp_path, method, double_quant):
    stored = saved_by_bitsandbytes(
        tmp_path, QuantizationConfig(method=QuantizationMethod[method], double_quant=double_quant)
    )
    expected = {
        f"{name}.weight": dequantize_4bit(module.weight.data, module.weight.quant_state)
        for name, module in stored.named_modules()
        if name.endswith("_proj")
    }
    unpacked = load_model(at(tmp_path / "stored"), PLAIN).state_dict()
    assert len(expected) == 14
    for name, weight in expected.items():
        assert torch.equal(unpacked[name], weight), name


def test_eight_bits_of_bitsandbytes_are_rows_times_their_largest_value(tmp_path):
    stored = saved_by_bitsandbytes(tmp_path, QuantizationConfig(method=QuantizationMethod.int8))
    expected = dequantize_state_dict(stored)
    unpacked = load_model(at(tmp_path / "stored", dtype=Dtype.float32), PLAIN).state_dict()
    for name in filter(is_linear, expected):
        assert torch.allclose(unpacked[name], expected[name], rtol=2**-7, atol=0)


def saved_by_bitsandbytes(folder: Path, quantization: QuantizationConfig):
    """The tiny LLaMA, quantized and saved by transformers to `stored`.

    All widths are multiples of 64: for others, bitsandbytes 0.50 dequantizes wrongly on a CPU.
    """
    llama(intermediate_size=128).bfloat16().save_pretrained(folder / "whole")
    words_tokenizer().save_pretrained(folder / "whole")
    model = load_model(at(folder / "whole", architecture=Architecture.native), quantization)
    model.save_pretrained(folder / "stored")
    words_tokenizer().save_pretrained(folder / "stored")
    return model


def test_a_native_folder_of_bitsandbytes_is_quantized_anew_when_that_is_asked_for(tmp_path):
    saved_by_bitsandbytes(tmp_path, QuantizationConfig(method=QuantizationMethod.nf4))
    int8 = QuantizationConfig(method=QuantizationMethod.int8)
    model = load_model(at(tmp_path / "stored", architecture=Architecture.native), int8)
    assert type(model.model.layers[0].mlp.up_proj).__name__ == "Linear8bitLt"
    unpacked = load_model(at(tmp_path / "stored"), PLAIN)
    error = logits(model) - logits(unpacked)
    assert error.norm() < 0.05 * logits(unpacked).norm()  # int8's, and not that of other weights


@pytest.mark.parametrize("architecture", BOTH)
def test_the_log_says_what_the_weights_were(tmp_path, caplog, architecture):
    quantized_folder(tmp_path, "awq")
    with caplog.at_level("INFO"):
        load_model(at(tmp_path, architecture=architecture), PLAIN)
    assert "awq, unpacked to bfloat16" in caplog.text and "quantization none" in caplog.text


def test_float32_stays_and_the_outline_has_the_configuration_of_the_unpacked_model(tmp_path):
    quantized_folder(tmp_path, "fp8", torch.float32)
    for architecture in BOTH:
        section = at(tmp_path, architecture=architecture)
        config, dtype = read_config(section)
        assert dtype == torch.float32
        assert getattr(config, "quantization_config", None) is None
        assert len(list(outline(section).parameters())) == 21


def test_the_unpacked_model_answers_as_the_plain_model_of_the_same_weights(tmp_path):
    exact = quantized_folder(tmp_path, "int4 asymmetric", torch.float32)
    plain = llama()
    plain.load_state_dict({name: torch.from_numpy(w).float() for name, w in exact.items()}, strict=False)
    for architecture in BOTH:
        model = load_model(at(tmp_path, architecture=architecture), PLAIN)
        assert torch.allclose(logits(model), logits(plain, IDS), atol=1e-5)


REFUSED = {
    "bits=3": {**GPTQ, "bits": 3},
    "format='marlin'": {**GPTQ, "checkpoint_format": "marlin"},
    "dynamic='+:.*up.*'": {**GPTQ, "dynamic": {"+:.*up.*": {"bits": 8}}},
    "group_size=None": {**GPTQ, "group_size": None},
    "version='gemv'": {**AWQ, "version": "gemv"},
    "zero_point=False": {**AWQ, "zero_point": False},
    "fmt='e5m2'": {**FP8, "fmt": "e5m2"},
    "format='nvfp4-pack-quantized'": groups(PACKED, format="nvfp4-pack-quantized"),
    "num_bits=3": groups({**PACKED, "num_bits": 3}, format="pack-quantized"),
    "strategy='tensor_group'": groups({**PACKED, "strategy": "tensor_group"}, format="pack-quantized"),
    "transform_config=": groups(
        PACKED, format="pack-quantized", transform_config={"config_groups": {"r": {}}}
    ),
    "'hqq'": {"quant_method": "hqq"},
    "'aqlm'": {"quant_method": "aqlm"},
    "'mxfp4'": {"quant_method": "mxfp4"},
    "wrong type": {**GPTQ, "dynamic": 7},
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_setting_that_is_not_known_is_refused_by_name_before_the_weights_are_read(tmp_path, words):
    llama().save_pretrained(tmp_path)
    words_tokenizer().save_pretrained(tmp_path)
    described(tmp_path, quantization_config=REFUSED[words])
    for architecture in BOTH:
        with pytest.raises(CheckpointError) as error:
            check_model(at(tmp_path, architecture=architecture), PLAIN)
        message = str(error.value)
        assert words in message and "take the unquantized model" in message and "\n" not in message


def damaged(folder: Path, change) -> str:
    """The message about a GPTQ folder whose tensors `change` has changed."""
    quantized_folder(folder, "gptq")
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    messages = []
    for architecture in BOTH:
        with pytest.raises(CheckpointError) as error:
            load_model(at(folder, architecture=architecture), PLAIN)
        messages.append(str(error.value))
    assert "\n" not in messages[0]
    assert messages[0].startswith(str(folder)) and messages[1].startswith(str(folder))
    return messages[0]


UP = "model.layers.1.mlp.up_proj"


def test_tensors_of_a_layer_that_contradict_each_other_are_named(tmp_path):
    lacking = damaged(tmp_path / "a", lambda tensors: tensors.pop(f"{UP}.scales"))
    assert f"{UP} (gptq): the layer has no scales" in lacking
    cut = damaged(tmp_path / "b", lambda tensors: tensors.update({f"{UP}.qzeros": torch.zeros(1, 3).int()}))
    assert f"{UP} (gptq): qzeros has the shape (1, 3), not (4, 12)" in cut
    outside = damaged(tmp_path / "c", lambda tensors: tensors[f"{UP}.g_idx"].fill_(4))
    assert "g_idx names groups outside of the 4" in outside


def test_a_folder_that_only_claims_to_be_quantized_is_refused(tmp_path):
    llama().save_pretrained(tmp_path)
    words_tokenizer().save_pretrained(tmp_path)
    described(tmp_path, quantization_config=GPTQ)
    with pytest.raises(CheckpointError, match="no layer has a tensor qweight"):
        check_model(at(tmp_path), PLAIN)


def test_a_weight_in_fp8_without_scales_is_refused(tmp_path):
    quantized_folder(tmp_path, "fp8")
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop(f"{UP}.weight_scale_inv")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for architecture in BOTH:
        with pytest.raises(CheckpointError, match=rf"{UP}.weight is float8_e4m3fn, and no scales"):
            check_model(at(tmp_path, architecture=architecture), PLAIN)


@pytest.mark.parametrize(
    ("name", "settings", "file"),
    [
        ("gptq", {"bits": 4, "group_size": 16, "desc_act": False, "sym": True}, "quantize_config.json"),
        ("awq", {"w_bit": 4, "q_group_size": 16, "zero_point": True, "version": "GEMM"}, "quant_config.json"),
    ],
)
def test_an_early_folder_has_its_settings_in_a_file_of_their_own(tmp_path, name, settings, file):
    quantized_folder(tmp_path, name)
    expected = load_model(at(tmp_path), PLAIN).state_dict()
    config = json.loads((tmp_path / "config.json").read_text())
    del config["quantization_config"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / file).write_text(json.dumps(settings))
    assert all(torch.equal(w, expected[n]) for n, w in load_model(at(tmp_path), PLAIN).state_dict().items())
    (tmp_path / file).write_text('{"bits": 3}')
    with pytest.raises(CheckpointError, match=f"{file}: {name}: bits=3 can't be unpacked"):
        check_model(at(tmp_path), PLAIN)


def test_an_export_has_the_unpacked_weights_in_bfloat16(tmp_path):
    quantized_folder(tmp_path / "packed", "gptq")
    export(at(tmp_path / "packed"), ExportConfig(), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization_config" not in config and config["dtype"] == "bfloat16"
    expected = load_model(at(tmp_path / "packed", architecture=Architecture.native), PLAIN).state_dict()
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(expected[name], weight) for name, weight in written.items())


def test_fp8_is_dequantized_as_transformers_dequantizes_it(tmp_path):
    settings = FineGrainedFP8Config(weight_block_size=(32, 32), dequantize=True)
    FORMATS["fp8 of transformers"] = (
        {**json.loads(settings.to_json_string(use_diff=False)), "dequantize": False},
        packed_layers.float8,
        {"block": (32, 32), "scale": "weight_scale_inv"},
    )
    quantized_folder(tmp_path, "fp8 of transformers", torch.bfloat16)
    del FORMATS["fp8 of transformers"]
    theirs = LlamaForCausalLM.from_pretrained(
        tmp_path, quantization_config=settings, dtype=torch.bfloat16, device_map="cpu"
    ).state_dict()
    ours = load_model(at(tmp_path), PLAIN).state_dict()
    for name in filter(is_linear, ours):
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize("method", ["none", "nf4"])
@pytest.mark.parametrize("name", ["fp8", "gptq"])
def test_experts_of_a_mixture_are_unpacked_one_by_one_and_joined(tmp_path, name, method):
    torch.manual_seed(0)
    sizes = {**SIZES, "intermediate_size": 128, "num_key_value_heads": 2, "head_dim": 16}
    experts = dict(moe_intermediate_size=64, num_experts=3, num_experts_per_tok=2)
    Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, **experts)).bfloat16().save_pretrained(tmp_path / "packed")
    words_tokenizer().save_pretrained(tmp_path / "packed")
    shutil.copytree(tmp_path / "packed", tmp_path / "plain")
    plain = load_file(tmp_path / "packed" / "model.safetensors")
    exact = pack_layers(tmp_path / "packed", name)
    assert sum(".experts." in layer for layer in exact) == 2 * 3 * 3
    plain |= {layer: torch.from_numpy(weight).float().bfloat16() for layer, weight in exact.items()}
    save_file(plain, tmp_path / "plain" / "model.safetensors", metadata={"format": "pt"})
    quantization = QuantizationConfig(method=QuantizationMethod[method])
    sections = [at(tmp_path / folder, architecture=Architecture.native) for folder in ("packed", "plain")]
    ours, expected = (dequantize_state_dict(load_model(section, quantization)) for section in sections)
    assert ours.keys() == expected.keys()
    joined = [layer for layer, weight in ours.items() if weight.dim() == 3]
    assert len(joined) == 4
    for layer in joined:
        assert (ours[layer] != expected[layer]).float().mean() < (1e-3 if method == "none" else 1e-2)


def test_transformers_reads_a_merged_folder_without_the_quantization(tmp_path):
    exact = quantized_folder(tmp_path, "fp8")
    model = load_model(at(tmp_path, architecture=Architecture.native), PLAIN)
    model.save_pretrained(tmp_path / "saved")
    again = LlamaForCausalLM.from_pretrained(tmp_path / "saved", dtype="auto")
    assert again.dtype == torch.bfloat16
    name = next(iter(exact))
    assert torch.equal(again.state_dict()[name], model.state_dict()[name])


@pytest.mark.parametrize("name", ["gptq", "awq"])
def test_projections_in_a_fused_tensor_packed_across_rows_are_its_rows_and_unpack_it_once(name, monkeypatch):
    """Else a merge would unpack all of it for each of its blocks."""
    kind = {"gptq": Gptq(bits=4, group_size=16, zeros_plus_one=True), "awq": Awq(group_size=16)}[name]
    weight = torch.randn(48, 32, generator=torch.Generator().manual_seed(0))
    parts, exact = getattr(packed_layers, name)(weight)
    counts = []
    of_kind = type(kind).rows
    monkeypatch.setattr(type(kind), "rows", lambda *parts: counts.append(1) or of_kind(*parts))
    monkeypatch.setattr(rows_as_trained, "BLOCK", 64)
    fused = UnpackedRows(name="qkv", parts=parts, format=kind, shape=kind.shape(parts))
    keys = FusedRows(fused=fused, group=16, start=8, count=4)
    plan = MergePlan(tensors={}, adapter=Path(), base_dtype=torch.float32, dtype=torch.float32)
    rows = torch.cat([rows for _, rows in rows_as_trained.held_rows(PlannedTensor(source=keys), plan)])
    expected = exact[[*range(8, 12), *range(24, 28), *range(40, 44)]]
    assert np.allclose(rows, expected, atol=1e-5) and len(counts) == 1
