"""Sound merges of many dtypes, ranks, methods and tools raise no alarm."""

import json
import re

import pytest
import torch
from merged_folders import (
    LINEAR,
    TOOLS,
    VOCABULARY,
    as_pickle,
    load,
    peft_way,
    rewrite,
    tensors_of,
    tokenizer,
    write_adapter,
    write_base,
)
from peft import (
    BOFTConfig,
    HiraConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    MissConfig,
    OFTConfig,
    PeftModel,
    VeraConfig,
)

from workbench.models.checkpoints.model_folder import open_base, open_merged
from workbench.models.diagnosis.diagnose import diagnose
from workbench.models.diagnosis.quantized import ROUND_TRIPS

pytestmark = pytest.mark.filterwarnings("ignore")  # peft warns of much that is done on purpose here

LORA = {"r": 8, "lora_alpha": 16, "target_modules": LINEAR}
SOUND = [
    ("peft", "bfloat16", "auto", LoraConfig(**LORA), None),
    ("peft", "float16", "auto", LoraConfig(**LORA), 3),
    ("peft", "float32", "auto", LoraConfig(**LORA | {"r": 1}), None),
    ("peft", "float32", "bfloat16", LoraConfig(**LORA), None),
    ("peft", "bfloat16", "float32", LoraConfig(**LORA | {"r": 32}), 2),
    ("peft", "bfloat16", "float16", LoraConfig(**LORA, use_rslora=True), None),
    ("llama-factory", "bfloat16", "auto", LoraConfig(**LORA), None),
    ("llama-factory", "float32", "float16", LoraConfig(**LORA | {"r": 4}), None),
    ("llama-factory", "bfloat16", "float16", LoraConfig(**LORA, rank_pattern={"q_proj": 2}), 3),
    ("axolotl", "bfloat16", "auto", LoraConfig(**LORA), None),
    ("axolotl", "float32", "bfloat16", LoraConfig(**LORA, use_rslora=True), None),
    ("axolotl", "bfloat16", "auto", LoraConfig(**LORA), 3),
    ("peft", "bfloat16", "auto", LoraConfig(**LORA, use_dora=True), None),
    ("llama-factory", "float32", "float16", LoraConfig(**LORA, use_dora=True), 3),
    ("peft", "bfloat16", "auto", LoraConfig(**LORA, modules_to_save=["lm_head", "embed_tokens"]), None),
    ("peft", "float32", "auto", LoraConfig(**LORA, trainable_token_indices={"embed_tokens": [5, 9]}), None),
    ("peft", "bfloat16", "auto", OFTConfig(oft_block_size=8, target_modules=LINEAR), None),
    ("peft", "bfloat16", "auto", HiraConfig(r=8, target_modules=LINEAR), None),
    ("peft", "float16", "auto", IA3Config(target_modules=LINEAR, feedforward_modules=["down_proj"]), None),
    ("axolotl", "bfloat16", "auto", LoHaConfig(r=8, alpha=16, target_modules=LINEAR), None),
    ("peft", "float32", "auto", LoKrConfig(r=8, alpha=16, target_modules=LINEAR), 3),
    ("peft", "bfloat16", "auto", VeraConfig(r=16, target_modules=["q_proj", "o_proj"]), None),
    ("peft", "bfloat16", "auto", MissConfig(r=8, target_modules=LINEAR), None),
    ("peft", "bfloat16", "auto", LNTuningConfig(target_modules=["input_layernorm", "norm"]), None),
    ("peft", "float32", "auto", BOFTConfig(boft_block_size=8, target_modules=["q_proj"]), None),
]


def diagnosed(base, folder, adapter, trained_on=""):
    return diagnose(open_base(str(base)), open_merged(str(folder)), adapter, trained_on)


@pytest.mark.parametrize(
    "tool, stored, dtype, config, labels",
    SOUND,
    ids=[f"{tool}-{stored}-{dtype}-{config.peft_type.value}" for tool, stored, dtype, config, _ in SOUND],
)
def test_a_sound_merge_raises_no_alarm(tool, stored, dtype, config, labels, tmp_path):
    base = write_base(tmp_path / "base", stored)
    adapter = write_adapter(tmp_path / "adapter", base, config, labels)
    folder = TOOLS[tool](base, adapter, tmp_path / "merged", labels, dtype)
    diagnosis = diagnosed(base, folder, adapter)
    assert [finding.text for finding in diagnosis.faults] == []
    assert any(fit.times == 1.0 and not fit.is_below_rounding for fit in diagnosis.fits)


def test_peft_and_float32_sums_are_recognised_to_the_bit(tmp_path):
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base, LoraConfig(**LORA))
    for tool in TOOLS:
        diagnosis = diagnosed(base, TOOLS[tool](base, adapter, tmp_path / tool), adapter)
        updated = [fit for fit in diagnosis.fits if fit.is_adapted]
        assert len(updated) == 2 * len(LINEAR)
        assert {fit.equal_share for fit in updated} == {1.0}


@pytest.mark.parametrize("size", [1e-3, 0.3])
def test_small_and_large_updates_are_told_from_no_merge(size, tmp_path):
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base, LoraConfig(**LORA), size=size)
    diagnosis = diagnosed(base, peft_way(base, adapter, tmp_path / "merged"), adapter)
    assert diagnosis.faults == []


def test_an_update_that_rounding_removes_can_not_be_told_from_no_merge(tmp_path):
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base, LoraConfig(**LORA), size=1e-9)
    diagnosis = diagnosed(base, peft_way(base, adapter, tmp_path / "merged"), adapter)
    assert [finding.causes for finding in diagnosis.faults] == [("rounded_away", "not_merged")]


def test_an_update_that_rounding_mostly_removes_is_named_with_the_share_that_is_kept(tmp_path):
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base, LoraConfig(**LORA), size=1e-5)
    [finding] = diagnosed(base, peft_way(base, adapter, tmp_path / "merged"), adapter).faults
    assert finding.causes == ("rounded_away",)
    kept = int(re.search(r"rounding to bfloat16 keeps (\d+)% of the update in 10 tensors", finding.seen)[1])
    model = PeftModel.from_pretrained(load(base), adapter).get_base_model()
    above = below = 0.0
    for name, layer in model.named_modules():
        if hasattr(layer, "get_delta_weight") and hasattr(layer, "base_layer"):
            update = layer.get_delta_weight("default").double()
            before = layer.base_layer.weight.detach()
            after = tensors_of(tmp_path / "merged")[f"{name}.weight"]
            above += float(((after.double() - before.double()) * update).sum())
            below += float(update.square().sum())
    assert kept == round(100 * above / below) < 50


def test_one_pickle_with_the_prefix_of_parallel_training_is_read(tmp_path):
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base)
    folder = as_pickle(peft_way(base, adapter, tmp_path / "merged"))
    assert diagnosed(base, folder, adapter).faults == []


def test_a_tied_model_whose_head_is_saved_too_is_sound(tmp_path):
    base = write_base(tmp_path / "base", tie_word_embeddings=True)
    adapter = write_adapter(tmp_path / "adapter", base)
    folder = peft_way(base, adapter, tmp_path / "merged")
    whole = tensors_of(folder)
    assert "lm_head.weight" not in whole
    as_pickle(folder, prefix="")
    whole["lm_head.weight"] = whole["model.embed_tokens.weight"].clone()
    torch.save(whole, folder / "pytorch_model.bin")
    assert diagnosed(base, folder, adapter).faults == []


def test_padding_rows_are_a_note(tmp_path):
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base)
    model = load(peft_way(base, adapter, tmp_path / "merged"))
    model.resize_token_embeddings(VOCABULARY + 1, pad_to_multiple_of=64)
    model.save_pretrained(tmp_path / "padded")
    tokenizer().save_pretrained(tmp_path / "padded")
    diagnosis = diagnosed(base, tmp_path / "padded", adapter)
    assert diagnosis.faults == []
    assert [finding.causes for finding in diagnosis.findings] == [("padded_rows",)] * 2


def test_bfloat16_values_in_a_float32_file_are_a_note(tmp_path):
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base)
    folder = rewrite(peft_way(base, adapter, tmp_path / "merged"), lambda _, tensor: tensor.float())
    diagnosis = diagnosed(base, folder, adapter)
    assert diagnosis.faults == []
    assert ("rounded_twice",) in [finding.causes for finding in diagnosis.findings]


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_the_quantized_base_of_the_training_is_no_fault_and_the_whole_one_is(method, tmp_path):
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base)
    quantized = write_base(tmp_path / "quantized")
    rewrite(quantized, lambda name, w: ROUND_TRIPS[method](w).to(w.dtype) if "_proj" in name else w)
    folder = peft_way(quantized, adapter, tmp_path / "merged")
    assert diagnosed(base, folder, adapter, method).faults == []
    whole = peft_way(base, adapter, tmp_path / "whole")
    assert [finding.causes for finding in diagnosed(base, whole, adapter, method).faults] == [("whole_base",)]


def test_without_an_adapter_the_rank_of_the_difference_is_told(tmp_path):
    base = write_base(tmp_path / "base", "float32")
    adapter = write_adapter(tmp_path / "adapter", base, LoraConfig(**LORA | {"r": 4}), size=0.3)
    diagnosis = diagnosed(base, peft_way(base, adapter, tmp_path / "merged"), None)
    assert {fit.rank for fit in diagnosis.fits if "v_proj" in fit.name} <= {3, 4}
    assert diagnosed(base, base, None).findings[0].causes == ("not_merged",)


def test_the_report_is_json_with_a_line_a_finding(tmp_path):
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base)
    report = json.loads(json.dumps(diagnosed(base, base, adapter).as_json()))
    [finding] = [finding for finding in report["findings"] if not finding["is_note"]]
    assert finding["causes"] == ["not_merged"] and finding["times"] == 0.0 and not report["is_sound"]
    assert finding["text"].startswith(
        "10 of 10 tensors (o_proj, q_proj, v_proj, down_proj, ...) equal to the base: nothing was merged"
    )
