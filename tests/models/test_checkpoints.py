"""Folders of the family come in exactly, and what doesn't fit is named."""

import json
import logging
import os
import pickle

import parity
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import IDS, PLAIN, ROPES, VOCABULARY, at, llama, logits, words_tokenizer
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, MistralConfig, MistralForCausalLM

from workbench.config.model import Dtype, Task
from workbench.errors import CheckpointError
from workbench.models.loading import check_model, load_model

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
FORMATS = ["safetensors", "pickle", "legacy pickle", "sharded safetensors", "sharded pickle"]


def write_folder(folder, config, tensors, layout="safetensors"):
    """A checkpoint folder in one of the layouts that transformers 4.31 wrote."""
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    name = "pytorch_model.bin" if "pickle" in layout else "model.safetensors"
    save = torch.save if "pickle" in layout else save_file
    if "sharded" not in layout:
        kwargs = {"_use_new_zipfile_serialization": False} if layout == "legacy pickle" else {}
        save(tensors, folder / name, **kwargs)
        return folder
    stem, suffix = name.split(".")
    halves = [dict(list(tensors.items())[::2]), dict(list(tensors.items())[1::2])]
    files = [f"{stem}-0000{i + 1}-of-00002.{suffix}" for i in range(2)]
    for file, half in zip(files, halves, strict=True):
        save(half, folder / file)
    weight_map = {tensor: file for file, half in zip(files, halves, strict=True) for tensor in half}
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def write_llama(folder, changes=None, **fields):
    """A LLaMA folder as transformers writes it, with `changes` made to its config.json."""
    model = llama(**fields)
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text()) | (changes or {})
    (folder / "config.json").write_text(json.dumps(config))
    return model


def refusal(folder, **fields):
    with pytest.raises(CheckpointError) as caught:
        load_model(at(folder, **fields), PLAIN)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.parametrize("layout", FORMATS)
def test_a_folder_of_4_31_gives_its_recorded_logits_in_every_file_format(tmp_path, layout):
    case = parity.case("01_causal_stable1_shared1")
    assert any(name.endswith("inv_freq") for name in case.weights)
    model = load_model(at(write_folder(tmp_path, case.config, case.weights, layout)), PLAIN)
    run = case.run_named("plain")
    found = parity.replay(case, run, model)["logits"]
    torch.testing.assert_close(found, case.expected[f"{run['name']}.logits"], rtol=0, atol=1e-4)


def test_the_misspelled_flag_is_read_and_written_in_the_right_spelling(tmp_path):
    case = parity.case("01_causal_stable1_shared1")
    config = {k: v for k, v in case.config.items() if k != "use_memory_efficient_attention"}
    write_folder(tmp_path, config | {"use_memorry_efficient_attention": False}, case.weights)
    model = load_model(at(tmp_path), PLAIN)
    assert model.config.use_memory_efficient_attention is False
    assert "use_memorry_efficient_attention" not in model.config.to_dict()


def test_an_unshared_head_comes_in_as_it_is(tmp_path):
    case = parity.case("02_causal_stable1_shared0")
    model = load_model(at(write_folder(tmp_path, case.config, case.weights)), PLAIN)
    assert torch.equal(model.lm_head.weight, case.weights[HEAD])


def test_a_base_model_without_prefix_becomes_a_shared_causal_model(tmp_path):
    case = parity.case("01_causal_stable1_shared1")
    bare = {name.removeprefix("model."): tensor for name, tensor in case.weights.items()}
    model = load_model(at(write_folder(tmp_path, case.config, bare)), PLAIN)
    assert torch.equal(model.lm_head.weight, case.weights[EMBEDDING])


@pytest.mark.parametrize("fields", [{}, {"num_key_value_heads": 2}, {"tie_word_embeddings": True}], ids=str)
def test_a_llama_folder_gives_the_logits_of_llama(tmp_path, fields, caplog):
    caplog.set_level(logging.INFO, "workbench")
    reference = write_llama(tmp_path, **fields)
    model = load_model(at(tmp_path), PLAIN)
    torch.testing.assert_close(logits(model), logits(reference), rtol=0, atol=1e-5)
    config = model.config
    assert not config.use_stable_embedding and not config.shared_input_output_embedding
    assert config.hidden_dropout_prob == config.attention_dropout_prob == 0
    assert config.num_key_value_heads == fields.get("num_key_value_heads", 4)
    assert config.ties_embeddings == fields.get("tie_word_embeddings", False)
    said = [record.getMessage() for record in caplog.records if record.name == "workbench"]
    assert len(said) == 1 and "stable and shared embedding off, dropouts 0" in said[0]


@pytest.mark.parametrize("kind", ROPES)
def test_every_rope_type_of_llama_gives_the_same_logits(tmp_path, kind):
    reference = write_llama(tmp_path, rope_parameters=ROPES[kind])
    model = load_model(at(tmp_path), PLAIN)
    assert model.config.rope_parameters["rope_type"] == kind
    ids = torch.arange(24)[None] % VOCABULARY  # beyond the 16 that yarn and longrope start from
    torch.testing.assert_close(logits(model, ids), logits(reference, ids), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["longrope", "yarn", "llama3"])
def test_the_length_trained_first_may_be_beside_the_rope_fields(tmp_path, kind):
    write_llama(tmp_path, {"original_max_position_embeddings": 8}, rope_parameters=ROPES[kind])
    reference = LlamaForCausalLM.from_pretrained(tmp_path)
    ids = torch.arange(12)[None]  # between 8 and the 16 of the rope fields
    torch.testing.assert_close(
        logits(load_model(at(tmp_path), PLAIN), ids), logits(reference, ids), rtol=0, atol=1e-5
    )


def test_old_rope_scaling_and_theta_are_kept(tmp_path):
    scaling = {"type": "linear", "factor": 2.0}
    write_llama(tmp_path, {"rope_scaling": scaling, "rope_theta": 777.0, "rope_parameters": None})
    rope = load_model(at(tmp_path), PLAIN).config.rope_parameters
    assert (rope["rope_type"], rope["factor"], rope["rope_theta"]) == ("linear", 2.0, 777.0)


def test_a_mistral_without_a_window_is_a_llama(tmp_path):
    torch.manual_seed(0)
    fields = dict(vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=2)
    heads = dict(num_attention_heads=4, num_key_value_heads=2, sliding_window=None)
    reference = MistralForCausalLM(MistralConfig(**fields, **heads)).eval()
    reference.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(load_model(at(tmp_path), PLAIN)), logits(reference), rtol=0, atol=1e-5)


def test_a_field_of_another_architecture_that_changes_nothing_is_no_hindrance(tmp_path):
    reference = llama()
    reference.save_pretrained(tmp_path)
    neutral = {"logit_scale": 1.0, "attention_multiplier": 0.25, "final_logit_softcapping": None}
    neutral |= {"query_pre_attn_scalar": 16, "head_dim": 16, "layer_types": ["full_attention"] * 2}
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | neutral))
    torch.testing.assert_close(logits(load_model(at(tmp_path), PLAIN)), logits(reference), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "mistral", "attention_bias": True},
        {"model_type": "qwen3", "mlp_bias": True},
        {"sliding_window": 16},
        {"model_type": "internlm3", "sliding_window": 16},
        {"model_type": "mistral", "sliding_window": 16, "layer_types": ["full_attention"] * 2},
        {"model_type": "qwen2", "use_sliding_window": False, "layer_types": ["sliding_attention"] * 2},
        {"attn_logit_softcapping": 50.0},
        {"final_logit_softcapping": 30.0},
        {"logit_scale": 0.0625},
        {"embedding_multiplier": 12},
        {"residual_multiplier": 0.22},
        {"attention_multiplier": 0.015},
        {"logits_scaling": 8},
        {"query_pre_attn_scalar": 256},
        {"qk_norm": True},
        {"layer_types": ["sliding_attention", "full_attention"]},
        {"partial_rotary_factor": 0.5},
        {"model_type": "open-llama", "final_logit_softcapping": 30.0},
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"model_type": "open-llama", "quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"rope_parameters": {"rope_type": "spiral", "factor": 2.0, "rope_theta": 10000.0}},
        {"rope_parameters": {"rope_type": "llama3", "factor": 2.0, "rope_theta": 10000.0}},
        {"hidden_size": "wide"},
        {"num_hidden_layers": 10**12},
        {"rope_parameters": {"rope_type": "proportional", "partial_rotary_factor": 3.0, "rope_theta": 1e4}},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_what_open_llama_cannot_express_is_refused_by_name(tmp_path, changes):
    write_llama(tmp_path, changes)
    message = refusal(tmp_path)
    if "rope_parameters" in changes:
        assert changes["rope_parameters"]["rope_type"] in message
    else:
        assert list(changes)[-1] in message


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "silly"},
        {"num_attention_heads": 0},
        {"num_attention_heads": "four"},
        {"pad_token_id": VOCABULARY},
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0}},
        {"rope_parameters": {"rope_type": "llama3", "factor": 2.0, "rope_theta": 10000.0}},
        {"rope_parameters": {"rope_type": "longrope", "factor": 2.0, "rope_theta": 10000.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": "large"}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": None}},
        {"rope_parameters": {"rope_type": "default"}, "rope_theta": None},
        {"dtype": "int8"},
        {"dtype": "float7"},
        {"dtype": 7},
        {"hidden_dropout_prob": 2},
        {"hidden_size": "128"},
        {"hidden_size": 128.5},
        {"use_cache": None},
        {"rms_norm_eps": 0},
        {"rms_norm_eps": "small"},
        {"vocab_size": None},
        {"id2label": 3},
        {"tie_word_embeddings": "no"},
    ],
    ids=str,
)
@pytest.mark.parametrize("model_type", ["open-llama", "llama"])
def test_a_damaged_configuration_is_one_line_or_none(tmp_path, changes, model_type):
    off = {"use_stable_embedding": False, "shared_input_output_embedding": False}
    write_llama(tmp_path, {"model_type": model_type} | (off if "-" in model_type else {}) | changes)
    words_tokenizer().save_pretrained(tmp_path)
    try:
        check_model(at(tmp_path), PLAIN)
        load_model(at(tmp_path), PLAIN)
    except CheckpointError as error:
        assert "config.json" in str(error) and "\n" not in str(error)


def test_a_missing_tensor_is_named_and_never_made_up(tmp_path):
    case = parity.case("01_causal_stable1_shared1")
    lost = ("model.norm.weight", "model.embed_layer_norm.weight")
    write_folder(tmp_path, case.config, {k: v for k, v in case.weights.items() if k not in lost})
    message = refusal(tmp_path)
    assert "2 tensors missing" in message
    assert all(name in message for name in lost)
    assert "use_stable_embedding" in message


def test_long_lists_of_tensors_are_cut_after_three(tmp_path):
    case = parity.case("01_causal_stable1_shared1")
    kept = {k: v for k, v in case.weights.items() if "mlp" not in k}
    count = sum("mlp" in name for name in case.weights)
    write_folder(tmp_path, case.config, kept)
    assert f"{count} tensors missing" in (message := refusal(tmp_path))
    assert f"and {count - 3} more" in message


def test_an_extra_tensor_is_named(tmp_path):
    case = parity.case("01_causal_stable1_shared1")
    write_folder(tmp_path, case.config, case.weights | {"model.layers.0.mlp.gate_proj.bias": torch.ones(3)})
    assert "1 tensor unexpected: model.layers.0.mlp.gate_proj.bias" in refusal(tmp_path)


def test_a_misshapen_tensor_is_named_with_both_shapes(tmp_path):
    case = parity.case("01_causal_stable1_shared1")
    rows = case.weights[EMBEDDING].shape[0]
    write_folder(tmp_path, case.config | {"vocab_size": rows + 1}, case.weights)
    message = refusal(tmp_path)
    assert EMBEDDING in message and f"({rows}, " in message and f"({rows + 1}, " in message


def test_a_trained_head_that_the_configuration_would_drop_is_refused(tmp_path):
    case = parity.case("02_causal_stable1_shared0")
    write_folder(tmp_path, case.config | {"shared_input_output_embedding": True}, case.weights)
    message = refusal(tmp_path)
    assert HEAD in message and "shared_input_output_embedding" in message


def test_a_head_equal_to_the_embedding_is_the_tied_one(tmp_path):
    case = parity.case("01_causal_stable1_shared1")
    write_folder(tmp_path, case.config, case.weights | {HEAD: case.weights[EMBEDDING]})
    assert load_model(at(tmp_path), PLAIN).lm_head.weight is not None


def test_a_shared_file_read_as_unshared_misses_its_head(tmp_path):
    case = parity.case("01_causal_stable1_shared1")
    write_folder(tmp_path, case.config | {"shared_input_output_embedding": False}, case.weights)
    assert f"1 tensor missing: {HEAD}" in refusal(tmp_path)


def test_a_classifier_keeps_its_head_and_its_recorded_scores(tmp_path):
    case = parity.case("06_seqcls_stable1_shared1_single3")
    write_folder(tmp_path, case.config, case.weights)
    words_tokenizer(20).save_pretrained(tmp_path)
    model = load_model(at(tmp_path, task=Task.sequence_classification), PLAIN)
    assert torch.equal(model.score.weight, case.weights["score.weight"])
    with pytest.raises(CheckpointError, match=r"score.weight: \(3, 32\) in the file, \(5, 32\) by config"):
        load_model(at(tmp_path, task=Task.sequence_classification), PLAIN, num_labels=5)


def test_a_classifier_is_no_causal_model(tmp_path):
    case = parity.case("06_seqcls_stable1_shared1_single3")
    assert "sequence_classification" in refusal(write_folder(tmp_path, case.config, case.weights))


def test_the_new_head_of_a_classifier_is_said_and_follows_the_seed(tmp_path, caplog):
    caplog.set_level(logging.INFO, "workbench")
    write_llama(tmp_path)
    words_tokenizer().save_pretrained(tmp_path)
    scores = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model = load_model(at(tmp_path, task=Task.sequence_classification), PLAIN, num_labels=5)
        scores.append(model.score.weight)
    assert scores[0].shape == (5, 64)
    assert torch.equal(scores[0], scores[1]) and not torch.equal(scores[0], scores[2])
    assert "the score head is new" in caplog.text


def test_a_llama_classifier_gives_the_logits_of_llama(tmp_path):
    torch.manual_seed(0)
    config = llama().config
    config.num_labels, config.pad_token_id = 3, 0
    reference = LlamaForSequenceClassification(config).eval()
    reference.save_pretrained(tmp_path)
    words_tokenizer().save_pretrained(tmp_path)
    model = load_model(at(tmp_path, task=Task.sequence_classification), PLAIN)
    torch.testing.assert_close(logits(model), logits(reference), rtol=0, atol=1e-5)


def test_weights_as_deepspeed_wraps_them_are_unwrapped(tmp_path):
    case = parity.case("01_causal_stable1_shared1")
    write_folder(tmp_path, case.config, case.weights, "pickle")
    torch.save({"module": case.weights, "step": 7}, tmp_path / "pytorch_model.bin")
    assert torch.equal(load_model(at(tmp_path), PLAIN).model.norm.weight, case.weights["model.norm.weight"])
    torch.save({"step": 7}, tmp_path / "pytorch_model.bin")
    assert "not a state dict" in refusal(tmp_path)


class Code:
    def __reduce__(self):
        return os.system, ("echo this must never run > /dev/null",)


def test_a_pickle_with_code_is_refused_and_never_run(tmp_path):
    case = parity.case("01_causal_stable1_shared1")
    write_folder(tmp_path, case.config, case.weights, "pickle")
    torch.save(case.weights | {"extra": Code()}, tmp_path / "pytorch_model.bin")
    message = refusal(tmp_path)
    assert "pytorch_model.bin" in message and "system" in message
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"extra": Code()}, protocol=2))
    assert "pytorch_model.bin" in refusal(tmp_path)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_a_truncated_file_is_named(tmp_path, layout, keep):
    case = parity.case("01_causal_stable1_shared1")
    write_folder(tmp_path, case.config, case.weights, layout)
    file = max(f for f in tmp_path.iterdir() if f.suffix in (".bin", ".safetensors"))
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    assert file.name in refusal(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    case = parity.case("01_causal_stable1_shared1")
    write_folder(tmp_path, case.config, case.weights, "sharded safetensors")
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors" in refusal(tmp_path)


def test_an_index_cannot_name_a_file_outside_its_folder(tmp_path):
    case = parity.case("01_causal_stable1_shared1")
    folder = tmp_path / "model"
    folder.mkdir()
    write_folder(folder, case.config, case.weights, "sharded safetensors")
    (folder / "model-00001-of-00002.safetensors").rename(tmp_path / "outside.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00001-of-00002", "../outside"))
    assert "outside the folder" in refusal(folder)


def test_a_folder_that_is_no_model_says_what_it_is(tmp_path):
    assert "no config.json" in refusal(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "is an adapter, not a model" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{no json")
    assert "config.json" in refusal(tmp_path)
    write_llama(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert "no weights" in refusal(tmp_path)


def test_a_path_that_is_nothing_says_so(tmp_path):
    assert "no file or folder" in refusal(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("no model")
    assert refusal(tmp_path / "notes.txt").endswith("neither a folder nor a .gguf file")


def test_a_file_of_a_model_names_the_folder_as_the_way_out(tmp_path):
    write_llama(tmp_path)
    assert f"its folder is the model: '{tmp_path}'" in refusal(tmp_path / "config.json")


@pytest.mark.parametrize("own", [torch.float32, torch.bfloat16])
def test_dtype_auto_is_the_checkpoints_own(tmp_path, own):
    llama().to(own).save_pretrained(tmp_path)
    assert load_model(at(tmp_path), PLAIN).dtype == own
    assert load_model(at(tmp_path, dtype=Dtype.bfloat16), PLAIN).dtype == torch.bfloat16
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("dtype")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_model(at(tmp_path), PLAIN).dtype == own


def test_generation_settings_beside_the_weights_are_kept(tmp_path):
    write_llama(tmp_path)
    settings = {"eos_token_id": [2, 7], "max_new_tokens": 5}
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    generation = load_model(at(tmp_path), PLAIN).generation_config
    assert generation.eos_token_id == [2, 7] and generation.max_new_tokens == 5


@pytest.mark.parametrize("written", ["[]", "{", '"text"', "3"])
def test_damaged_generation_settings_are_one_line(tmp_path, written):
    write_llama(tmp_path)
    (tmp_path / "generation_config.json").write_text(written)
    assert "generation_config.json" in refusal(tmp_path)


def test_open_llama_out_and_in_again_keeps_every_byte(tmp_path):
    case = parity.case("01_causal_stable1_shared1")
    model = load_model(at(write_folder(tmp_path, case.config, case.weights, "pickle")), PLAIN)
    model.save_pretrained(tmp_path / "again")
    kept = {name: tensor for name, tensor in case.weights.items() if not name.endswith("inv_freq")}
    written = load_file(tmp_path / "again" / "model.safetensors")
    assert written.keys() == kept.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in kept.items())
    assert torch.equal(logits(load_model(at(tmp_path / "again"), PLAIN), IDS % 50), logits(model, IDS % 50))


def test_loading_prints_nothing(tmp_path, capfd):
    write_llama(tmp_path)
    capfd.readouterr()
    load_model(at(tmp_path), PLAIN)
    assert capfd.readouterr() == ("", "")
    assert isinstance(LlamaForCausalLM.from_pretrained(tmp_path), LlamaForCausalLM)
    assert capfd.readouterr().err  # transformers' own progress bar, untouched outside our loading
