"""What goes into a merge is checked: the right base, held as in training, the adapter once and as trained."""

import json
import shutil
import warnings

import pytest
import torch
from merge_ways import only_whole
from peft import KasaConfig, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_checkpoints import LLAMA3, PLAIN, at, llama, logits, words_tokenizer, write_gguf
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

from workbench.config.adapter import AdapterConfig
from workbench.config.merge import MergeConfig, MergeDtype
from workbench.config.model import Dtype, ModelConfig, Task
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import CheckpointError
from workbench.models.adapters import adapter_config, attach, provenance
from workbench.models.export import export
from workbench.models.loading import load_model
from workbench.models.merging import merge as merging
from workbench.models.merging.merge import merge

TEXTS = ["w3 w5 w8 w13 w21 w34 w55", "w7 w11 w18 w29 w47 w76"]
NF4 = QuantizationConfig(method=QuantizationMethod.nf4)


def saved(folder, **fields):
    """A LLaMA folder with a tokenizer."""
    llama(**fields).save_pretrained(folder)
    words_tokenizer().save_pretrained(folder)
    return at(folder)


def moved(model, seed=1):
    """Every tensor of an adapter moved, as training does."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def trained(section, folder, quantization=PLAIN, seed=1):
    """An adapter of this project on a base, with the record of the base."""
    model = moved(attach.attach(load_model(section, quantization), AdapterConfig(rank=4), seed=0), seed)
    dtype = str(attach.base_model(model).dtype).removeprefix("torch.")
    attach.save(model, folder, trained_on=provenance.trained_on(section, quantization, dtype))
    return folder


def foreign(folder, base, named, **fields):
    """An adapter of peft's own, which names its base."""
    config = LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "target_modules": ["q_proj"]} | fields)
    with warnings.catch_warnings(action="ignore"):
        moved(get_peft_model(base, config)).save_pretrained(folder)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": named}))
    return folder


def merged(section, adapter, folder, quantization=PLAIN, **options):
    dtype = options.pop("dtype", MergeDtype.auto)
    return merge(section, adapter, MergeConfig(dtype=dtype), quantization, folder, TEXTS, **options)


def test_a_llama_is_merged_into_a_llama_that_plain_transformers_loads(tmp_path):
    section = saved(tmp_path / "base", num_key_value_heads=2)
    adapter = trained(section, tmp_path / "adapter")
    merged(section, adapter, tmp_path / "merged")
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    before = json.loads((tmp_path / "base" / "config.json").read_text())
    assert config["model_type"] == "llama" and config["architectures"] == ["LlamaForCausalLM"]
    del before["transformers_version"]
    assert {**before, "dtype": "float32"} == config
    names = load_file(tmp_path / "merged" / "model.safetensors").keys()
    assert names == load_file(tmp_path / "base" / "model.safetensors").keys()
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert type(plain) is LlamaForCausalLM
    expected = attach.load(load_model(section, PLAIN), adapter)
    torch.testing.assert_close(logits(plain), logits(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["gguf", "tied", "sharded", "llama3", "mistral", "exported"])
def test_every_kind_of_llama_leaves_as_a_llama(kind, tmp_path):
    fields = {"tied": {"tie_word_embeddings": True}, "llama3": {"rope_parameters": LLAMA3}}.get(kind, {})
    section = saved(tmp_path / "base", **fields)
    if kind == "gguf":
        write_gguf(llama(), tmp_path / "base.gguf")
        section = ModelConfig(path=str(tmp_path / "base.gguf"), tokenizer=section.path)
    elif kind == "sharded":
        llama().save_pretrained(tmp_path / "base", max_shard_size="30KB")
        (tmp_path / "base" / "model.safetensors").unlink(missing_ok=True)
    elif kind == "mistral":
        file = tmp_path / "base" / "config.json"
        described = json.loads(file.read_text()) | {"model_type": "mistral", "sliding_window": None}
        file.write_text(json.dumps(described | {"architectures": ["MistralForCausalLM"]}))
    adapter = trained(section, tmp_path / "adapter")
    report = merged(section, adapter, tmp_path / "merged", dtype=MergeDtype.float32)
    assert report.effect.kept == pytest.approx(1, abs=1e-3)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert type(plain).__module__.startswith("transformers.models.")
    float32 = ModelConfig(path=section.path, tokenizer=section.tokenizer, dtype=section.dtype)
    expected = attach.load(load_model(float32, PLAIN), adapter)
    atol = 0.2 if kind == "gguf" else 1e-4  # read in bfloat16
    torch.testing.assert_close(logits(plain), logits(expected), rtol=0, atol=atol)


def test_an_adapter_is_not_merged_into_the_model_that_contains_it(tmp_path):
    section = saved(tmp_path / "base")
    adapter = trained(section, tmp_path / "adapter")
    merged(section, adapter, tmp_path / "merged")
    record = json.loads((tmp_path / "merged" / "merged_from.json").read_text())
    assert record["base"]["fingerprint"] and len(record["adapters"]) == 1
    again = at(tmp_path / "merged")
    for attempt in (
        lambda: merged(again, adapter, tmp_path / "twice", accepts_base=True),
        lambda: attach.load(load_model(again, PLAIN), adapter),
    ):
        with pytest.raises(CheckpointError, match="already contains the adapter .* would act twice"):
            attempt()
    edited = json.loads((adapter / "adapter_config.json").read_text()) | {"lora_alpha": 64}
    (adapter / "adapter_config.json").write_text(json.dumps(edited))
    with pytest.raises(CheckpointError, match="already contains"):
        attach.load(load_model(again, PLAIN), adapter)
    second = trained(again, tmp_path / "second", seed=2)
    merged(again, second, tmp_path / "both")
    assert len(json.loads((tmp_path / "both" / "merged_from.json").read_text())["adapters"]) == 2
    with pytest.raises(CheckpointError, match="already contains"):
        attach.load(load_model(at(tmp_path / "both"), PLAIN), adapter)


def test_an_export_of_a_merged_model_still_contains_the_adapter(tmp_path):
    from workbench.config.publishing.export import ExportConfig

    section = saved(tmp_path / "base")
    adapter = trained(section, tmp_path / "adapter")
    merged(section, adapter, tmp_path / "merged")
    export(at(tmp_path / "merged"), ExportConfig(), tmp_path / "exported")
    with pytest.raises(CheckpointError, match="already contains"):
        attach.load(load_model(at(tmp_path / "exported"), PLAIN), adapter)


def test_a_base_with_other_weights_is_refused_by_name(tmp_path):
    section = saved(tmp_path / "base")
    adapter = trained(section, tmp_path / "adapter")
    other = saved(tmp_path / "other")
    tensors = load_file(tmp_path / "other" / "model.safetensors")
    tensors["model.norm.weight"] += 0.25
    save_file(tensors, tmp_path / "other" / "model.safetensors", {"format": "pt"})
    said = r"was trained on 'base', and model.path='.*other' has other weights \(adapter.base=accept"
    with pytest.raises(CheckpointError, match=said):
        merged(other, adapter, tmp_path / "merged")
    report = merged(other, adapter, tmp_path / "merged", accepts_base=True)
    assert report.accepted == [f"was trained on 'base', and model.path={other.path!r} has other weights"]
    renamed = tmp_path / "renamed"
    shutil.copytree(tmp_path / "base", renamed)
    assert merged(at(renamed), adapter, tmp_path / "merged").accepted == []


@pytest.mark.parametrize(
    ("trained_in", "given", "dtypes", "said"),
    [
        (
            NF4,
            PLAIN,
            ("auto", "auto"),
            "quantized to nf4 with double_quant=True, and this one is not quantized",
        ),
        (PLAIN, NF4, ("auto", "auto"), "on a base that is not quantized, and this one is quantized to nf4"),
        (PLAIN, PLAIN, ("bfloat16", "auto"), "a base in bfloat16, and this one is in float32"),
    ],
    ids=["nf4 into whole", "whole into nf4", "another dtype"],
)
def test_a_base_that_is_held_otherwise_is_refused(trained_in, given, dtypes, said, tmp_path):
    section = saved(tmp_path / "base")
    first, second = (ModelConfig(path=section.path, dtype=Dtype[name]) for name in dtypes)
    adapter = trained(first, tmp_path / "adapter", trained_in)
    with pytest.raises(CheckpointError, match=said):
        merged(second, adapter, tmp_path / "merged", given)
    assert merged(first, adapter, tmp_path / "merged", trained_in).accepted == []


@pytest.mark.parametrize(
    ("named", "is_refused"),
    [("org/base", False), ("/else/where/Base/", False), ("", False), (None, False), ("org/other-7b", True)],
)
def test_a_foreign_adapter_is_refused_on_a_base_of_another_name(named, is_refused, tmp_path):
    section = saved(tmp_path / "base")
    adapter = foreign(tmp_path / "adapter", llama(), named)
    if not is_refused:
        assert merged(section, adapter, tmp_path / "merged").accepted == []
        return
    with pytest.raises(CheckpointError, match="names the base 'org/other-7b', and model.path is "):
        merged(section, adapter, tmp_path / "merged")
    assert len(merged(section, adapter, tmp_path / "merged", accepts_base=True).accepted) == 1


@pytest.mark.parametrize(
    ("init", "fields"), [("pissa_niter_4", {}), ("loftq", {"loftq_config": {"loftq_bits": 4}})]
)
def test_start_values_that_no_load_restores_are_refused_wherever_the_adapter_is_loaded(
    tmp_path, init, fields
):
    section = saved(tmp_path / "base")
    adapter = foreign(tmp_path / "adapter", llama(), None)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"init_lora_weights": init} | fields))
    for attempt in (
        lambda: merged(section, adapter, tmp_path / "merged"),
        lambda: attach.load(load_model(section, PLAIN), adapter),
    ):
        with pytest.raises(CheckpointError, match=f"{init!r} changes the base by") as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_a_bias_of_the_adapter_without_a_layer_for_it_is_one_line(tmp_path):
    section = saved(tmp_path / "base")
    adapter = foreign(tmp_path / "adapter", llama(), None, lora_bias=True)
    with pytest.raises(CheckpointError, match="can't be merged, lora_bias=True") as caught:
        merged(section, adapter, tmp_path / "merged")
    assert "\n" not in str(caught.value)


def test_an_adapter_that_repeats_layers_is_refused_before_the_model_is_loaded(tmp_path):
    section = saved(tmp_path / "base")
    adapter = foreign(tmp_path / "adapter", llama(), None, layer_replication=[[0, 2], [0, 2]])
    with pytest.raises(CheckpointError, match="^[^ ]*adapter: can't be merged, layer_replication repeats"):
        merged(section, adapter, tmp_path / "merged")


def test_an_adapter_that_cuts_the_bases_weights_is_known_to_change_them(tmp_path):
    """KaSA: with the adapter disabled, the model isn't the base."""
    adapter = foreign(tmp_path / "adapter", llama(), None, kasa_config=KasaConfig())
    assert adapter_config.changes_base(adapter)


def test_an_adapter_of_the_other_task_is_one_line(tmp_path):
    section = saved(tmp_path / "base")
    texts = foreign(tmp_path / "texts", llama(), None)
    classes = ModelConfig(path=section.path, task=Task.sequence_classification)
    with pytest.raises(CheckpointError, match="trained for text .*, and the model is a classifier"):
        merged(classes, texts, tmp_path / "merged")
    labels = trained_classifier(classes, tmp_path / "labels")
    with pytest.raises(CheckpointError, match="trained for a classifier .*, and the model writes"):
        merged(section, labels, tmp_path / "merged")


def trained_classifier(section, folder):
    model = moved(attach.attach(load_model(section, PLAIN, 3), AdapterConfig(rank=4), seed=0))
    attach.save(model, folder)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_trained_shared_embedding_is_merged_as_peft_uses_it(dtype, tmp_path):
    base = llama(tie_word_embeddings=True).to(dtype)
    base.save_pretrained(tmp_path / "base")
    words_tokenizer().save_pretrained(tmp_path / "base")
    section = at(tmp_path / "base")
    both = {"modules_to_save": ["embed_tokens", "lm_head"], "ensure_weight_tying": True}
    adapter = foreign(tmp_path / "adapter", base, None, **both)
    merged(section, adapter, tmp_path / "merged", dtype=MergeDtype.float32)
    stored = load_file(tmp_path / "merged" / "model.safetensors")
    assert "lm_head.weight" not in stored
    kept = load_file(adapter / "adapter_model.safetensors")
    name = next(name for name in kept if "embed_tokens" in name)
    torch.testing.assert_close(stored["model.embed_tokens.weight"], kept[name].float())


@pytest.mark.parametrize("is_whole", [False, True])
@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_an_adapter_on_one_of_two_tied_layers_unties_them(target, is_whole, tmp_path, monkeypatch):
    if is_whole:
        only_whole(monkeypatch)
    section = saved(tmp_path / "base", tie_word_embeddings=True)
    adapter = foreign(tmp_path / "adapter", llama(tie_word_embeddings=True), None, target_modules=[target])
    report = merged(section, adapter, tmp_path / "merged")
    assert report.merged.largest < 1e-3
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert AutoConfig.from_pretrained(tmp_path / "merged").tie_word_embeddings is False
    changed, same = plain.lm_head.weight, plain.model.embed_tokens.weight
    if target == "embed_tokens":
        changed, same = same, changed
    base = llama(tie_word_embeddings=True).lm_head.weight
    assert same.equal(base) and not changed.equal(base)
    expected = attach.load(load_model(section, PLAIN), adapter)
    torch.testing.assert_close(logits(plain), logits(expected), rtol=0, atol=1e-4)


def test_an_adapter_that_was_edited_in_its_runs_folder_is_refused(tmp_path):
    from workbench.run_record import RunRecord

    section = saved(tmp_path / "base")
    adapter = trained(section, tmp_path / "run" / "adapter")
    RunRecord(tmp_path / "run" / "run.json").finish("train", "inputs", adapter, {})
    merged(section, adapter, tmp_path / "merged")
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lora_alpha": 64}))
    with pytest.raises(CheckpointError, match="was changed since the train step wrote it"):
        merged(section, adapter, tmp_path / "merged")


def test_the_paths_that_need_the_whole_model_say_so(tmp_path, caplog):
    section = saved(tmp_path / "base")
    adapter = foreign(tmp_path / "adapter", llama(), None, bias="all", target_modules=["q_proj"])
    with caplog.at_level("INFO", logger="workbench"):
        merged(section, adapter, tmp_path / "merged")
    assert "the whole model is in memory: " in caplog.text
    assert merging.SCHEMA_VERSION == 2
