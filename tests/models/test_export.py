"""Exported folders are the same model for other tools, and come back as what they were."""

import itertools
import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import IDS, PLAIN, ROPES, SIZES, at, llama, logits, words_tokenizer, write_gguf
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from workbench.config.model import Architecture, Dtype, Task
from workbench.config.publishing.export import ExportConfig, ExportFormat
from workbench.errors import CheckpointError, ConfigError
from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM, OpenLlamaForSequenceClassification
from workbench.models.export import export
from workbench.models.loading import load_model

LLAMA, OPEN_LLAMA = ExportConfig(), ExportConfig(format=ExportFormat["open-llama"])
FLAGS = list(itertools.product((True, False), repeat=3))


def open_llama(folder, stable=True, shared=True, tied=False, kind=OpenLlamaForCausalLM, **fields):
    """A random Open-Llama on disk whose layer norm is no longer the identity."""
    torch.manual_seed(0)
    switches = dict(
        use_stable_embedding=stable, shared_input_output_embedding=shared, tie_word_embeddings=tied
    )
    model = kind(OpenLlamaConfig(**(SIZES | switches | fields))).eval()
    if stable:
        for parameter in model.model.embed_layer_norm.parameters():
            torch.nn.init.normal_(parameter, 0.5)
    model.save_pretrained(folder)
    words_tokenizer().save_pretrained(folder)
    return model


def tensors(folder):
    files = sorted(folder.glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def assert_same_bytes(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


def switches(config):
    names = ("use_stable_embedding", "shared_input_output_embedding", "tie_word_embeddings")
    return tuple(getattr(config, name) for name in names)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_llama_computes_what_the_open_llama_did(tmp_path, flags):
    model = open_llama(tmp_path / "in", *flags)
    report = export(at(tmp_path / "in"), LLAMA, tmp_path / "out")
    assert report.folded == flags[0]
    exported, info = LlamaForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    torch.testing.assert_close(logits(exported), logits(model), rtol=0, atol=1e-5)
    greedy = dict(attention_mask=torch.ones_like(IDS), max_new_tokens=12, do_sample=False, pad_token_id=0)
    assert torch.equal(exported.generate(IDS, **greedy), model.generate(IDS, **greedy))


def test_in_bfloat16_the_folded_rows_are_those_the_model_computes(tmp_path):
    open_llama(tmp_path / "in")
    export(at(tmp_path / "in"), ExportConfig(dtype=Dtype.bfloat16), tmp_path / "out")
    model = load_model(at(tmp_path / "in", dtype=Dtype.bfloat16), PLAIN)
    exported = LlamaForCausalLM.from_pretrained(tmp_path / "out")
    assert exported.dtype == torch.bfloat16
    with torch.no_grad():
        assert torch.equal(exported.model.embed_tokens(IDS), model.model.embed(IDS))
    torch.testing.assert_close(logits(exported), logits(model), rtol=0, atol=0.1)


@pytest.mark.parametrize("shard", ["4GB", "20KB"])
@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_out_and_in_again_restores_every_byte_that_was_kept(tmp_path, flags, shard):
    open_llama(tmp_path / "in", *flags)
    export(at(tmp_path / "in"), ExportConfig(max_shard_size=shard), tmp_path / "llama")
    assert (len(list((tmp_path / "llama").glob("*.safetensors"))) > 1) == (shard == "20KB")
    export(at(tmp_path / "llama"), OPEN_LLAMA, tmp_path / "again")
    stable, shared, tied = flags
    if stable and not (shared or tied):  # the rows before the norm exist nowhere any more
        again = OpenLlamaForCausalLM.from_pretrained(tmp_path / "again")
        assert switches(again.config) == (False, False, False)
        expected = logits(OpenLlamaForCausalLM.from_pretrained(tmp_path / "in"))
        torch.testing.assert_close(logits(again), expected, rtol=0, atol=1e-5)
        return
    assert_same_bytes(tensors(tmp_path / "again"), tensors(tmp_path / "in"))
    assert switches(OpenLlamaConfig.from_pretrained(tmp_path / "again")) == flags


@pytest.mark.parametrize("fields", [{}, {"num_key_value_heads": 2}, {"tie_word_embeddings": True}], ids=str)
def test_llama_to_open_llama_to_llama_keeps_every_byte_and_field(tmp_path, fields):
    llama(**fields).to(torch.bfloat16).save_pretrained(tmp_path / "in")
    export(at(tmp_path / "in"), OPEN_LLAMA, tmp_path / "open")
    export(at(tmp_path / "open"), LLAMA, tmp_path / "out")
    assert_same_bytes(tensors(tmp_path / "out"), tensors(tmp_path / "in"))
    before, after = (LlamaConfig.from_pretrained(tmp_path / name).to_dict() for name in ("in", "out"))
    assert after == before


def test_dropouts_and_flags_that_llama_cannot_say_come_back(tmp_path):
    values = dict(hidden_dropout_prob=0.2, attention_dropout_prob=0.3, use_memory_efficient_attention=False)
    open_llama(tmp_path / "in", **values)
    export(at(tmp_path / "in"), LLAMA, tmp_path / "out")
    config = load_model(at(tmp_path / "out"), PLAIN).config
    assert {name: getattr(config, name) for name in values} == values


def test_a_trained_export_stays_folded_and_says_so(tmp_path, caplog):
    caplog.set_level(logging.INFO, "workbench")
    open_llama(tmp_path / "in")
    export(at(tmp_path / "in"), LLAMA, tmp_path / "out")
    trained = tensors(tmp_path / "out")
    trained["lm_head.weight"][3] += 0.01
    save_file(trained, tmp_path / "out" / "model.safetensors", {"format": "pt"})
    model = load_model(at(tmp_path / "out"), PLAIN)
    assert "stays folded, because lm_head.weight has changed" in caplog.text
    assert switches(model.config) == (False, False, False)
    reference = LlamaForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(model), logits(reference), rtol=0, atol=1e-5)


def test_a_restored_export_is_said(tmp_path, caplog):
    caplog.set_level(logging.INFO, "workbench")
    model = open_llama(tmp_path / "in")
    export(at(tmp_path / "in"), LLAMA, tmp_path / "out")
    assert torch.equal(logits(load_model(at(tmp_path / "out"), PLAIN)), logits(model))
    assert "stable and shared embedding restored" in caplog.text


def test_a_damaged_record_is_one_line(tmp_path):
    open_llama(tmp_path / "in")
    export(at(tmp_path / "in"), LLAMA, tmp_path / "out")
    file = tmp_path / "out" / "config.json"
    config = json.loads(file.read_text())
    config["open_llama"]["embed_layer_norm"]["weight"]["dtype"] = "nonsense"
    file.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="config.json: the record 'open_llama' is damaged"):
        load_model(at(tmp_path / "out"), PLAIN)


@pytest.mark.parametrize("kind", ROPES)
def test_every_rope_type_goes_out_in_old_and_new_words(tmp_path, kind):
    model = open_llama(tmp_path / "in", rope_parameters=ROPES[kind])
    export(at(tmp_path / "in"), LLAMA, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["rope_theta"] == ROPES[kind]["rope_theta"]
    assert written.get("rope_scaling", {"type": "default"})["type"] == kind
    ids = torch.arange(24)[None]
    exported = LlamaForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(exported, ids), logits(model, ids), rtol=0, atol=1e-5)
    del written["rope_parameters"]  # as a tool of before transformers 5 reads it
    (tmp_path / "out" / "config.json").write_text(json.dumps(written))
    exported = LlamaForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(exported, ids), logits(model, ids), rtol=0, atol=1e-5)


@pytest.mark.parametrize("stable", [True, False])
def test_a_classifier_goes_out_with_its_head_and_labels(tmp_path, stable):
    labels = {0: "差", 1: "中", 2: "好"}
    model = open_llama(tmp_path / "in", stable, kind=OpenLlamaForSequenceClassification, id2label=labels)
    export(at(tmp_path / "in", task=Task.sequence_classification), LLAMA, tmp_path / "out")
    exported = LlamaForSequenceClassification.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(exported), logits(model), rtol=0, atol=1e-5)
    assert exported.config.id2label == labels


def test_a_gguf_file_goes_out_as_a_folder_with_its_tokenizer(tmp_path):
    file = write_gguf(llama(num_key_value_heads=2), tmp_path / "tiny.gguf")
    export(at(file), ExportConfig(dtype=Dtype.float32), tmp_path / "out")
    exported = LlamaForCausalLM.from_pretrained(tmp_path / "out")
    model = load_model(at(file, dtype=Dtype.float32), PLAIN)
    torch.testing.assert_close(logits(exported), logits(model), rtol=0, atol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").encode("the") == [95, 71]


def test_tokenizer_and_generation_settings_travel_byte_for_byte(tmp_path):
    open_llama(tmp_path / "in")
    (tmp_path / "in" / "generation_config.json").write_text(json.dumps({"max_new_tokens": 7}))
    export(at(tmp_path / "in"), LLAMA, tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
    assert LlamaForCausalLM.from_pretrained(tmp_path / "out").generation_config.max_new_tokens == 7


def test_a_checkpoint_that_does_not_fit_leaves_nothing_behind(tmp_path):
    open_llama(tmp_path / "in")
    weights = tmp_path / "in" / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(weights).items() if name != "model.norm.weight"}
    save_file(kept, weights, {"format": "pt"})
    with pytest.raises(CheckpointError, match="model.norm.weight"):
        export(at(tmp_path / "in"), LLAMA, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def change(folder, name, value):
    """Put a value into a stored tensor."""
    weights = folder / "model.safetensors"
    held = load_file(weights)
    held[name].view(-1)[3] = value
    save_file(held, weights, {"format": "pt"})


@pytest.mark.parametrize("format_name", ["llama", "open-llama"])
@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, format_name, value):
    open_llama(tmp_path / "in")
    name = "model.layers.1.mlp.up_proj.weight"
    change(tmp_path / "in", name, value)
    with pytest.raises(CheckpointError, match=rf"in: {name}: has NaN or infinite values in float32"):
        export(at(tmp_path / "in"), ExportConfig(format=ExportFormat[format_name]), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_numbers_too_large_for_the_type_are_refused(tmp_path):
    open_llama(tmp_path / "in")
    name = "model.layers.1.mlp.up_proj.weight"
    change(tmp_path / "in", name, 7e4)
    with pytest.raises(CheckpointError, match=f"{name}: has NaN or infinite values in float16"):
        export(at(tmp_path / "in"), ExportConfig(dtype=Dtype.float16), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_failure_on_the_way_leaves_the_old_export_untouched(tmp_path):
    open_llama(tmp_path / "in")
    export(at(tmp_path / "in"), LLAMA, tmp_path / "out")
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    change(tmp_path / "in", "model.layers.1.mlp.up_proj.weight", float("nan"))
    with pytest.raises(CheckpointError, match="has NaN"):
        export(at(tmp_path / "in"), LLAMA, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize("size", ["much", "-5MB", "4", "0GB", "", "GB", "4 GB"])
def test_a_shard_size_that_is_none_is_refused_with_its_key(size):
    with pytest.raises(ConfigError, match=f"export.max_shard_size: '{size}' .a size from 1KB"):
        ExportConfig(max_shard_size=size)
    for good in ("500MB", "4gb", "0.5GB"):
        ExportConfig(max_shard_size=good)


@pytest.mark.parametrize("name", ["llama", "gguf"])
def test_a_file_where_a_folder_has_to_be_is_refused(tmp_path, name):
    open_llama(tmp_path / "in")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="export.path: '.*file' is a file, not a folder"):
        export(at(tmp_path / "in"), ExportConfig(format=ExportFormat[name]), tmp_path / "file" / "out.gguf")


def test_nothing_but_an_earlier_export_is_replaced(tmp_path):
    open_llama(tmp_path / "in")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(ConfigError, match="is not an earlier export"):
        export(at(tmp_path / "in"), LLAMA, tmp_path / "photos")
    assert (tmp_path / "photos" / "cat.jpg").exists()
    for _ in range(2):
        export(at(tmp_path / "in"), LLAMA, tmp_path / "out")


def test_an_export_does_not_replace_the_model_that_it_is_made_from(tmp_path):
    open_llama(tmp_path / "first")
    export(at(tmp_path / "first"), LLAMA, tmp_path / "in")
    export(at(tmp_path / "first"), LLAMA, tmp_path / "in" / "inner")
    for source in ("in", "in/inner"):
        with pytest.raises(ConfigError, match="in' is the model itself, or contains it"):
            export(at(tmp_path / source), ExportConfig(dtype=Dtype.bfloat16), tmp_path / "in")
    assert {tensor.dtype for tensor in tensors(tmp_path / "in").values()} == {torch.float32}


def test_a_causal_model_is_not_exported_as_a_classifier(tmp_path):
    open_llama(tmp_path / "in")
    with pytest.raises(CheckpointError, match=r"in: has no score.weight, so it is not a trained classifier"):
        export(at(tmp_path / "in", task=Task.sequence_classification), LLAMA, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_sampling_values_without_do_sample_are_exported_as_sampling(tmp_path):
    open_llama(tmp_path / "in")
    for written, found in (
        ({"temperature": 0.9, "top_p": 0.6, "eos_token_id": 2}, (True, 0.9, 2)),
        ({"temperature": 0.9, "do_sample": False, "eos_token_id": 2}, (None, None, 2)),
    ):
        (tmp_path / "in" / "generation_config.json").write_text(json.dumps(written))
        export(at(tmp_path / "in"), LLAMA, tmp_path / "out")
        generation = LlamaForCausalLM.from_pretrained(tmp_path / "out").generation_config
        assert (generation.do_sample, generation.temperature, generation.eos_token_id) == found


def test_a_native_model_is_not_exported(tmp_path):
    with pytest.raises(ConfigError, match="only a checkpoint of Open-Llama or LLaMA"):
        export(at(tmp_path, architecture=Architecture.native), LLAMA, tmp_path / "out")


def test_a_chatglm_is_not_exported_with_a_way_that_works(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "config.json").write_text(json.dumps({"model_type": "chatglm"}))
    with pytest.raises(ConfigError, match="recipe=merge writes a folder that transformers loads"):
        export(at(tmp_path / "in"), LLAMA, tmp_path / "out")


def test_the_same_export_has_the_same_bytes(tmp_path):
    open_llama(tmp_path / "in")
    for name in ("one", "two"):
        export(at(tmp_path / "in"), LLAMA, tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
