"""Mixtures of experts: the experts are quantized with the layers, and what isn't is said."""

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from tiny_checkpoints import PLAIN, SIZES, at, logits, words_tokenizer
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from workbench.config.adapter import AdapterConfig
from workbench.config.merge import MergeConfig
from workbench.config.model import Architecture
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import ConfigError
from workbench.models.adapters import attach, provenance
from workbench.models.adapters.targets import check_saved
from workbench.models.loading import load_model, outline
from workbench.models.merging.merge import merge
from workbench.models.quantization import dequantize_state_dict, parameter_count
from workbench.training.estimate.setting import Shape

WIDTHS = {**SIZES, "intermediate_size": 96, "num_key_value_heads": 2}  # 96: no whole number of blocks
DEEPSEEK = dict(
    n_routed_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=64,
    n_shared_experts=1,
    n_group=2,
    topk_group=1,
    first_k_dense_replace=1,
    q_lora_rank=64,
    kv_lora_rank=64,
    qk_rope_head_dim=16,
    qk_nope_head_dim=16,
    v_head_dim=16,
    num_key_value_heads=4,
)
MODELS = {
    "qwen3_moe": lambda: Qwen3MoeForCausalLM(
        Qwen3MoeConfig(**WIDTHS, moe_intermediate_size=64, num_experts=4, num_experts_per_tok=2, head_dim=16)
    ),
    "mixtral": lambda: MixtralForCausalLM(MixtralConfig(**WIDTHS, num_local_experts=4)),
    "deepseek_v3": lambda: DeepseekV3ForCausalLM(DeepseekV3Config(**{**WIDTHS, **DEEPSEEK})),
}
NF4 = QuantizationConfig(method=QuantizationMethod.nf4)


@pytest.fixture(params=MODELS)
def folder(request, tmp_path):
    torch.manual_seed(0)
    MODELS[request.param]().bfloat16().save_pretrained(tmp_path / "base")
    words_tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def native(folder):
    return at(folder, architecture=Architecture.native)


def experts_of(model) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.state_dict().items() if weight.dim() == 3}


@pytest.mark.parametrize("method", ["nf4", "fp4"])
def test_experts_are_quantized_as_bitsandbytes_quantizes_them(folder, method, caplog):
    plain = experts_of(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16))
    with caplog.at_level("INFO"):
        model = load_model(native(folder), QuantizationConfig(method=QuantizationMethod[method]))
    weights = dequantize_state_dict(model)
    assert plain and plain.keys() <= weights.keys()
    for name, weight in plain.items():
        expected = dequantize_4bit(*quantize_4bit(weight, quant_type=method, compress_statistics=True))
        assert torch.equal(weights[name], expected.float()), name
    assert not any(parameter.dim() == 3 for parameter in model.parameters())
    count = sum(weight.numel() for weight in AutoModelForCausalLM.from_pretrained(folder).parameters())
    share = sum(weight.numel() for weight in plain.values()) / count
    assert f"experts: {share:.1%} of the weights, quantized; " in caplog.text
    assert parameter_count(model) == count
    assert model.config.quantization_config.quant_method == "bitsandbytes"


def test_a_model_with_quantized_experts_computes_with_the_dequantized_ones(folder):
    model = load_model(native(folder), NF4)
    weights = dequantize_state_dict(model)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    plain.load_state_dict({name: weight.bfloat16() for name, weight in weights.items()}, strict=False)
    difference = logits(model) - logits(plain.eval())
    assert difference.norm() < 0.02 * logits(plain).norm()


def test_an_adapter_is_trained_on_quantized_experts_and_merged_into_them(folder, tmp_path, caplog):
    section = native(folder)
    with caplog.at_level("INFO"):
        model = attach.attach(load_model(section, NF4), AdapterConfig(rank=4), seed=0)
    assert "are not adapted" in caplog.text and "adapter: on layers with" in caplog.text
    ids = torch.randint(3, 90, (2, 12), generator=torch.Generator().manual_seed(0))
    model.train()
    model(input_ids=ids, labels=ids).loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert any(bool(parameter.grad.abs().sum()) for parameter in trained)
    for parameter in trained:
        parameter.data += 0.02
    record = provenance.trained_on(section, NF4, "bfloat16")
    attach.save(model, tmp_path / "adapter", trained_on=record)
    before = dequantize_state_dict(load_model(section, NF4))
    merge(section, tmp_path / "adapter", MergeConfig(), NF4, tmp_path / "merged", ["w3 w5 w8 w13", "w7 w11"])
    merged = experts_of(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    assert merged and all(torch.equal(before[name].bfloat16(), weight) for name, weight in merged.items())


def test_quantized_experts_are_not_saved_in_a_form_that_nothing_reads(folder, tmp_path, caplog):
    model = load_model(native(folder), NF4)
    with pytest.raises(ValueError, match="quantized with bitsandbytes and is not serializable"):
        model.save_pretrained(tmp_path / "saved")
    assert "experts in nf4 can't be saved (save the adapter, or merge it)" in caplog.text
    assert not (tmp_path / "saved").exists()


def test_int8_leaves_experts_and_says_so(folder, caplog):
    with caplog.at_level("INFO"):
        model = load_model(native(folder), QuantizationConfig(method=QuantizationMethod.int8))
    assert "unquantized (int8 has no layers for them" in caplog.text
    assert experts_of(model)


def test_skipped_experts_stay_unquantized(folder):
    skipping = QuantizationConfig(method=QuantizationMethod.nf4, skip_modules=["experts"])
    assert experts_of(load_model(native(folder), skipping))


def test_an_adapter_on_quantized_experts_is_refused_by_name(folder):
    name = next(iter(experts_of(outline(native(folder)))))
    target = ".".join(name.split(".")[-3:])
    adapter = AdapterConfig(rank=4, target_modules=["o_proj"], options={"target_parameters": [target]})
    empty = outline(native(folder))
    attach.check_attachable(empty, adapter)
    with pytest.raises(ConfigError, match="are experts in nf4, on which an adapter can't be trained"):
        check_saved(empty, adapter, NF4)
    with pytest.raises(ConfigError, match="are experts in nf4, on which an adapter can't be trained"):
        attach.attach(load_model(native(folder), NF4), adapter, seed=0)


def test_a_target_without_a_match_is_an_error(folder):
    with pytest.raises(ConfigError, match="adapter.target_modules: 'w9' matches no layer"):
        attach.attach(load_model(native(folder), PLAIN), AdapterConfig(target_modules=["w9"]), seed=0)


def test_the_plan_counts_the_experts_of_the_model_and_of_one_layer(folder):
    model = outline(native(folder))
    sizes = {name: weight.numel() for name, weight in experts_of(model).items()}
    shape = Shape.of(model)
    assert shape.experts == sum(sizes.values())
    last = max(int(name.split(".")[2]) for name in sizes)
    assert shape.layer_experts == sum(size for name, size in sizes.items() if f".{last}." in name)
