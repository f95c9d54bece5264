"""Merges of real adapters on tiny bases, plain and quantized, and proofs that must fail."""

import math
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from merge_ways import only_whole
from safetensors.torch import load_file, save_file
from scipy.stats import poisson
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from workbench.config.adapter import AdapterConfig, AdapterMethod
from workbench.config.merge import MergeConfig, MergeDtype
from workbench.config.model import Dtype, ModelConfig, Task
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import CheckpointError, ConfigError, DataError
from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM, logit_comparison
from workbench.models.adapters import attach
from workbench.models.loading import load_model, load_tokenizer
from workbench.models.merging import merge as merging
from workbench.models.merging import whole_model
from workbench.models.merging.layered_probe import ROW_TOKENS
from workbench.models.merging.merge import merge
from workbench.weights import merge_tensors

WORDS = [*"我你他看见狗猫红蓝家跑", *("the", "a", "cat", "dog", "sees", "runs", "to", "home", "red", "blue")]
TEXTS = [
    "the red dog sees a cat",
    "",
    "我 看 见 蓝 狗",
    "one two three ",
    "他 跑 to the 家 the blue dog runs",
    " ",
]


@pytest.fixture(scope="module")
def base_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    vocabulary = {word: index for index, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = OpenLlamaConfig(
        vocab_size=len(vocabulary), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    OpenLlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def quantization(name):
    return QuantizationConfig(method=QuantizationMethod[name])


def trained_adapter(model, how, folder, **changes):
    """An adapter as training leaves it: every tensor moved."""
    labels = 3 if model.task is Task.sequence_classification else None
    base = load_model(model, how, labels)
    if labels:
        base.config.id2label = {0: "体育", 1: "财经", 2: "science"}
    peft_model = attach.attach(base, AdapterConfig(**({"rank": 4, "alpha": 8.0} | changes)), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in peft_model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    attach.save(peft_model, folder)
    return peft_model.eval()


@pytest.fixture(params=["tensor by tensor", "the whole model"])
def way(request, monkeypatch):
    """Both ways to merge."""
    if request.param == "the whole model":
        only_whole(monkeypatch)
    return request.param


def probe_logits(model, section, *, is_packed=False):
    batches = logit_comparison.encode(load_tokenizer(section), TEXTS, 128, 4)
    if is_packed:
        batches = logit_comparison.packed(batches, ROW_TOKENS)
    return list(logit_comparison.logits(model, batches))


@pytest.mark.parametrize("adapter", ["lora", "dora"])
@pytest.mark.parametrize("method", ["none", "nf4", "fp4", "int8"])
def test_a_float32_merge_gives_the_adapter_model_on_every_kind_of_base(
    adapter, method, way, base_path, tmp_path
):
    section, dora = ModelConfig(path=base_path), AdapterMethod[adapter]
    live = trained_adapter(section, quantization(method), tmp_path / "adapter", method=dora)
    is_packed = way == "tensor by tensor"  # its proof reads the texts in one row, and rounds otherwise
    expected = probe_logits(live, section, is_packed=is_packed)
    section_merge = MergeConfig(dtype=MergeDtype.float32)
    report = merge(
        section, tmp_path / "adapter", section_merge, quantization(method), tmp_path / "merged", TEXTS
    )
    merged = load_model(ModelConfig(path=str(tmp_path / "merged")), QuantizationConfig())
    assert type(merged) is OpenLlamaForCausalLM and merged.dtype == torch.float32
    found = logit_comparison.compare(expected, probe_logits(merged, section, is_packed=is_packed))
    assert found.largest < 1e-4 and found.argmax_flips == 0
    assert report.merged.largest == pytest.approx(found.largest, abs=1e-6)
    assert report.merged.largest <= report.merged.bound < 1e-3


def test_the_merge_report_says_what_was_proven(base_path, tmp_path):
    section, how = ModelConfig(path=base_path), quantization("nf4")
    trained_adapter(section, how, tmp_path / "adapter")
    report = asdict(merge(section, tmp_path / "adapter", MergeConfig(), how, tmp_path / "merged", TEXTS))
    assert report["schema_version"] == 2
    assert report["dtype"] == "float32" and report["quantization"] == "nf4"
    assert report["merged"]["num_positions"] == sum(len(text.split()) for text in TEXTS)
    assert {len(value) for value in report["fingerprints"].values()} == {64}
    names = {path.name for path in (tmp_path / "merged").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "merged").iterdir()} == {0o644}
    jsons = [path for path in (tmp_path / "merged").glob("*.json") if path.name != "merged_from.json"]
    assert not any("quantization" in path.read_text() for path in jsons)
    assert not any(str(tmp_path) in path.read_text() for path in (tmp_path / "merged").glob("*.json"))


@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize("bits", ["none", "nf4"])
def test_a_classifier_is_merged_with_its_head_and_its_label_names(method, bits, way, base_path, tmp_path):
    section = ModelConfig(path=base_path, task=Task.sequence_classification)
    live = trained_adapter(section, quantization(bits), tmp_path / "adapter", method=AdapterMethod[method])
    expected = probe_logits(live, section)
    merge(section, tmp_path / "adapter", MergeConfig(), quantization(bits), tmp_path / "merged", TEXTS)
    merged = load_model(ModelConfig(path=str(tmp_path / "merged"), task=section.task), QuantizationConfig())
    assert logit_comparison.compare(expected, probe_logits(merged, section)).largest < 1e-4
    assert merged.config.id2label == {0: "体育", 1: "财经", 2: "science"}


def test_a_merge_rounded_to_bfloat16_stays_within_the_measured_rounding_and_counts_flips(
    way, base_path, tmp_path
):
    section, how = ModelConfig(path=base_path), quantization("nf4")
    live = trained_adapter(section, how, tmp_path / "adapter")
    expected = probe_logits(live, section)
    section_merge = MergeConfig(dtype=MergeDtype.bfloat16)
    report = merge(section, tmp_path / "adapter", section_merge, how, tmp_path / "merged", TEXTS)
    merged = load_model(ModelConfig(path=str(tmp_path / "merged")), QuantizationConfig())
    found = logit_comparison.compare(expected, probe_logits(merged, section))
    assert merged.dtype == torch.bfloat16
    assert 1e-3 < found.largest <= report.merged.bound
    assert report.merged.argmax_flips == found.argmax_flips
    assert "for rounding to bfloat16" in report.merged.bound_reason
    stored = load_file(tmp_path / "merged" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_an_adapter_trained_on_a_bfloat16_base_is_merged_too(dtype, way, base_path, tmp_path):
    section, how = ModelConfig(path=base_path, dtype=Dtype.bfloat16), quantization("nf4")
    trained_adapter(section, how, tmp_path / "adapter")
    report = merge(
        section, tmp_path / "adapter", MergeConfig(dtype=MergeDtype[dtype]), how, tmp_path / "merged", TEXTS
    )
    assert report.dtype == ("bfloat16" if dtype == "auto" else "float32")
    assert report.merged.largest > report.float32_sum.bound
    assert re.search(r" 4 x \S+ for rounding to bfloat16", report.merged.bound_reason)
    assert report.merged.mean < report.merged.mean_bound < report.merged.bound / 4


def test_the_merged_weights_are_the_dequantized_base_plus_the_adapter_rounded_once(way, base_path, tmp_path):
    section, how = ModelConfig(path=base_path), quantization("nf4")
    live = trained_adapter(section, how, tmp_path / "adapter")
    layer = live.base_model.model.model.layers[1].mlp.down_proj
    delta = (layer.lora_B["default"].weight @ layer.lora_A["default"].weight) * 2.0
    from bitsandbytes.functional import dequantize_4bit

    weight = dequantize_4bit(layer.base_layer.weight.data, layer.base_layer.weight.quant_state)
    section_merge = MergeConfig(dtype=MergeDtype.bfloat16)
    merge(section, tmp_path / "adapter", section_merge, how, tmp_path / "merged", TEXTS)
    stored = load_file(tmp_path / "merged" / "model.safetensors")["model.layers.1.mlp.down_proj.weight"]
    assert torch.equal(stored, (weight + delta).to(torch.bfloat16))


def test_a_large_model_is_written_in_shards(way, base_path, tmp_path, monkeypatch):
    section, how = ModelConfig(path=base_path), quantization("none")
    trained_adapter(section, how, tmp_path / "adapter")
    monkeypatch.setattr(merging, "MAX_SHARD_BYTES", 100_000)
    merge(section, tmp_path / "adapter", MergeConfig(), how, tmp_path / "merged", TEXTS)
    assert len(list((tmp_path / "merged").glob("model-*-of-*.safetensors"))) > 1
    load_model(ModelConfig(path=str(tmp_path / "merged")), QuantizationConfig())


def test_the_same_merge_writes_the_same_bytes(way, base_path, tmp_path):
    section, how = ModelConfig(path=base_path, task=Task.sequence_classification), quantization("nf4")
    trained_adapter(section, how, tmp_path / "adapter")
    reports = []
    for name in ("one", "two"):
        torch.manual_seed(len(reports))
        reports.append(
            merge(section, tmp_path / "adapter", MergeConfig(), how, tmp_path / name / "merged", TEXTS)
        )
    assert reports[0] == reports[1]
    files = [sorted((tmp_path / name / "merged").iterdir()) for name in ("one", "two")]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_an_adapter_of_another_quantization_is_still_merged_onto_the_base_it_is_given(base_path, tmp_path):
    section = ModelConfig(path=base_path)
    trained_adapter(section, quantization("nf4"), tmp_path / "adapter")
    report = merge(
        section, tmp_path / "adapter", MergeConfig(), quantization("none"), tmp_path / "merged", TEXTS
    )
    assert report.quantization == "none"


@pytest.mark.parametrize(
    ("is_whole", "said"),
    [
        (True, r"differs from the adapter model by up to \d.* \(at most 0\.\d+: "),
        (False, r"the folder read back differs from the sum .* in model\.\S+, so nothing is published"),
    ],
    ids=["the whole model", "tensor by tensor"],
)
def test_a_merge_that_fails_its_proof_publishes_nothing(is_whole, said, base_path, tmp_path, monkeypatch):
    section, how = ModelConfig(path=base_path), quantization("nf4")
    trained_adapter(section, how, tmp_path / "adapter")
    (tmp_path / "run" / "merged").mkdir(parents=True)
    (tmp_path / "run" / "merged" / "earlier").write_text("kept")

    def wrong_base(model):
        weights = real(model)
        weights["model.layers.0.mlp.up_proj.weight"] *= 1.1
        return weights

    def wrong_rows(tensor, plan):
        return ((first, rows * 1.1) for first, rows in real_rows(tensor, plan))

    real, real_rows = whole_model.dequantize_state_dict, merge_tensors.held_rows
    monkeypatch.setattr(whole_model, "dequantize_state_dict", wrong_base)
    monkeypatch.setattr(merge_tensors, "held_rows", wrong_rows)
    if is_whole:
        only_whole(monkeypatch)
    with pytest.raises(CheckpointError, match=said):
        merge(section, tmp_path / "adapter", MergeConfig(), how, tmp_path / "run" / "merged", TEXTS)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["merged"]
    assert (tmp_path / "run" / "merged" / "earlier").read_text() == "kept"


def test_a_folder_that_reads_back_as_something_else_is_not_published(base_path, tmp_path, monkeypatch):
    section, how = ModelConfig(path=base_path), quantization("none")
    trained_adapter(section, how, tmp_path / "adapter")
    real = OpenLlamaForCausalLM.save_pretrained

    def torn(self, folder, **options):
        real(self, folder, **options)
        file = Path(folder) / "model.safetensors"
        tensors = load_file(file)
        tensors["model.norm.weight"] += 0.1
        save_file(tensors, file, metadata={"format": "pt"})

    only_whole(monkeypatch)
    monkeypatch.setattr(OpenLlamaForCausalLM, "save_pretrained", torn)
    with pytest.raises(CheckpointError, match="the folder read back differs from what was saved by up to"):
        merge(section, tmp_path / "adapter", MergeConfig(), how, tmp_path / "run" / "merged", TEXTS)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_weights_too_large_for_float16_are_refused(way, base_path, tmp_path):
    model = OpenLlamaForCausalLM.from_pretrained(base_path)
    with torch.no_grad():
        model.model.norm.weight *= 1e6
    model.save_pretrained(tmp_path / "large")
    load_tokenizer(ModelConfig(path=base_path)).save_pretrained(tmp_path / "large")
    section, how = ModelConfig(path=str(tmp_path / "large")), quantization("none")
    trained_adapter(section, how, tmp_path / "adapter")
    section_merge = MergeConfig(dtype=MergeDtype.float16)
    with pytest.raises(ConfigError, match="merge.dtype: 'float16' has too small a range"):
        merge(section, tmp_path / "adapter", section_merge, how, tmp_path / "merged", TEXTS)


def test_a_merge_without_probe_texts_is_refused(base_path, tmp_path):
    section, how = ModelConfig(path=base_path), quantization("none")
    trained_adapter(section, how, tmp_path / "adapter")
    with pytest.raises(DataError, match="all probe texts are blank"):
        merge(section, tmp_path / "adapter", MergeConfig(), how, tmp_path / "m", ["", " "])


def test_the_comparison_counts_flips_and_sees_values_that_are_not_finite():
    one = [torch.tensor([[1.0, 2.0], [3.0, 1.0]])]
    two = [torch.tensor([[1.5, 1.0], [3.0, 1.0]])]
    found = logit_comparison.compare(one, two)
    assert (found.largest, found.mean, found.argmax_flips, found.num_positions) == (1.0, 0.375, 1, 2)
    p, q = (torch.tensor(x, dtype=torch.float64).softmax(-1) for x in ([1.0, 2.0], [1.5, 1.0]))
    assert found.kl == pytest.approx((p * (p / q).log()).sum().item() / 2)
    assert math.isinf(logit_comparison.compare(one, [torch.tensor([[1.0, math.nan], [3.0, 1.0]])]).largest)
    with pytest.raises(CheckpointError, match="by up to inf"):
        logit_comparison.check(
            "it differs", one, [torch.full((2, 2), math.nan)], logit_comparison.Bound(1.0, 1.0, 0, "a reason")
        )


def test_a_difference_must_hold_the_largest_the_mean_and_the_flips():
    one = [torch.tensor([[1.0, 2.0]] * 8)]
    flipped = [torch.tensor([[2.0, 1.0]] * 8)]
    shifted = [torch.tensor([[1.5, 2.5]] * 8)]
    with pytest.raises(CheckpointError, match=r"by up to 1 per logit \(at most 0.9: a reason\)"):
        logit_comparison.check("it differs", one, flipped, logit_comparison.Bound(0.9, 2.0, 9, "a reason"))
    with pytest.raises(CheckpointError, match=r"by 0.5 per logit on average \(at most 0.4,"):
        logit_comparison.check("it differs", one, shifted, logit_comparison.Bound(1.0, 0.4, 9, "a reason"))
    with pytest.raises(CheckpointError, match=r"in the most likely token of 8 of 8 positions \(at most 5\)"):
        logit_comparison.check("it differs", one, flipped, logit_comparison.Bound(1.0, 1.0, 0.3, "a reason"))
    assert (
        logit_comparison.check(
            "it differs", one, flipped, logit_comparison.Bound(1.0, 1.0, 1.0, "a reason")
        ).flips_bound
        == 9
    )


@pytest.mark.parametrize(("deviation", "at_most"), [(0.005, 1.0), (0.02, 1.1), (0.2, 1.5)])
def test_changed_next_tokens_are_about_as_many_as_errors_of_this_size_make(deviation, at_most):
    """Where errors are large, several rivals overtake at once, and counting each expects too many."""
    generator = torch.Generator().manual_seed(0)
    exact = [torch.randn(2000, 50, generator=generator) for _ in range(4)]
    noises = [[deviation * torch.randn(2000, 50, generator=generator) for _ in exact] for _ in range(2)]
    first, second = ([e + n for e, n in zip(exact, noise, strict=True)] for noise in noises)
    changed = logit_comparison.compare(first, second).argmax_flips
    expected = logit_comparison.expected_flips(exact, noises)
    assert changed - 3 * changed**0.5 <= expected <= at_most * (changed + 3 * changed**0.5)


def test_the_bound_on_next_tokens_is_broken_by_one_sound_merge_in_a_million():
    for expected in (0.001, 0.5, 3.0, 40.0):
        most = logit_comparison.Bound(1.0, 1.0, expected, "").most_flips
        assert poisson.sf(most, expected) <= 1e-6 < poisson.sf(most - 1, expected)
    assert logit_comparison.Bound(1.0, 1.0, 0, "").most_flips == 0


def test_only_close_calls_may_flip_between_two_float32_ways():
    exact = [torch.tensor([[1.0, 1.001, 0.0], [3.0, 1.0, 0.0]]), torch.tensor([[1.0, 1.0]])]
    assert logit_comparison.close_calls(exact, 0.001) == 2
    assert logit_comparison.close_calls(exact, 1e-5) == 1


def test_padding_does_not_change_the_compared_logits(base_path):
    section = ModelConfig(path=base_path)
    model, tokenizer = load_model(section, QuantizationConfig()), load_tokenizer(section)
    together = torch.cat(
        list(logit_comparison.logits(model, logit_comparison.encode(tokenizer, TEXTS, 128, 4)))
    )
    alone = torch.cat(list(logit_comparison.logits(model, logit_comparison.encode(tokenizer, TEXTS, 128, 1))))
    assert together.shape == alone.shape
    assert torch.allclose(together, alone, atol=1e-5)
