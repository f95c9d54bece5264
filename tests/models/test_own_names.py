"""Models that transformers doesn't have: read without their code, and written as what computes the same."""

import json

import pytest
import torch
from merge_ways import only_whole
from published import (
    CHATGLMS,
    CONFIGS,
    config_of,
    folder_of,
    published_answer,
    published_logits,
    published_loss,
)
from safetensors.torch import save_file
from test_export import OPEN_LLAMA, assert_same_bytes, tensors
from test_merge_origins import NF4, merged, trained
from tiny_checkpoints import IDS, PLAIN, at, logits
from transformers import AutoModelForCausalLM

from workbench.config.merge import MergeDtype
from workbench.config.model import Architecture
from workbench.config.publishing.export import ExportConfig
from workbench.errors import CheckpointError
from workbench.models.adapters import attach
from workbench.models.checkpoints.model_folder import open_base, open_merged
from workbench.models.diagnosis.described import compare_descriptions
from workbench.models.export import export
from workbench.models.loading import check_model, load_model, load_tokenizer

CLOSE = dict(rtol=0, atol=1e-5)


def changed(folder, stored):
    """The folder with other tensors."""
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    return section_of(folder)


def section_of(folder):
    """The model section of a folder; a ChatGLM needs transformers' own class."""
    is_chatglm = json.loads((folder / "config.json").read_text())["model_type"] in ("chatglm", "glm")
    return at(folder, architecture=Architecture.native if is_chatglm else Architecture.auto)


def reconfigured(folder, **fields):
    """The folder with other fields in config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return section_of(folder)


@pytest.mark.parametrize("name", [*CONFIGS, *CHATGLMS])
def test_logits_loss_and_answers_are_those_of_the_published_formula(name, tmp_path):
    config, stored = config_of(name), folder_of(name, tmp_path)
    model = load_model(section_of(tmp_path), PLAIN)
    wanted = published_logits(config, stored, IDS)
    torch.testing.assert_close(logits(model), wanted, **CLOSE)
    torch.testing.assert_close(model(IDS, labels=IDS).loss, published_loss(wanted, IDS), **CLOSE)
    options = dict(max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)
    answer = model.generate(IDS, attention_mask=torch.ones_like(IDS), **options)
    assert torch.equal(answer, published_answer(config, stored, IDS, 8))


@pytest.mark.parametrize(("trained_length", "factor"), [(8, 2.0), (64, 2.0), (8, 1.0)])
def test_dynamic_rope_of_internlm2_is_as_published_and_kept_by_an_export(trained_length, factor, tmp_path):
    rope = {"type": "dynamic", "factor": factor}
    fields = {"rope_scaling": rope, "max_position_embeddings": trained_length}
    stored = folder_of("internlm2", tmp_path / "in", **fields)
    wanted = published_logits(config_of("internlm2") | fields, stored, IDS)
    torch.testing.assert_close(logits(load_model(at(tmp_path / "in"), PLAIN)), wanted, **CLOSE)
    export(at(tmp_path / "in"), ExportConfig(), tmp_path / "out")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(plain), wanted, **CLOSE)


@pytest.mark.parametrize("name", ["internlm2", "baichuan2", "chatglm3", "qwen"])
def test_pickled_weights_are_read_as_well(name, tmp_path):
    stored = folder_of(name, tmp_path)
    torch.save(stored, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    wanted = published_logits(config_of(name), stored, IDS)
    torch.testing.assert_close(logits(load_model(section_of(tmp_path), PLAIN)), wanted, **CLOSE)


@pytest.mark.parametrize(
    ("name", "quantization", "left_as"),
    [
        ("internlm2", PLAIN, "LlamaForCausalLM"),
        ("internlm2, biases", NF4, "LlamaForCausalLM"),
        ("baichuan2", PLAIN, "LlamaForCausalLM"),
        ("chatglm3", PLAIN, "GlmForCausalLM"),
        ("qwen", NF4, "Qwen2ForCausalLM"),
    ],
)
def test_an_adapter_is_merged_tensor_by_tensor_into_a_class_of_transformers(
    name, quantization, left_as, tmp_path, caplog
):
    folder_of(name, tmp_path / "base")
    section = section_of(tmp_path / "base")
    adapter = trained(section, tmp_path / "adapter", quantization)
    with caplog.at_level("INFO"):
        merged(section, adapter, tmp_path / "merged", quantization, dtype=MergeDtype.float32)
    assert "the whole model is in memory" not in caplog.text
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert type(plain).__name__ == left_as
    expected = logits(attach.load(load_model(section, quantization), adapter))
    torch.testing.assert_close(logits(plain), expected, rtol=0, atol=1e-4)
    base, after = open_base(section.path), open_merged(str(tmp_path / "merged"))
    assert base.tensors.keys() == after.tensors.keys()  # what diagnosis and extraction compare
    assert base.config["model_type"] == after.config["model_type"]
    findings = compare_descriptions(base, after, None)
    assert "architecture" not in [cause for finding in findings for cause in finding.causes]


@pytest.mark.parametrize("name", ["internlm2", "chatglm3"])
def test_a_merge_with_the_whole_model_in_memory_gives_the_same(name, tmp_path, monkeypatch):
    folder_of(name, tmp_path / "base")
    section = section_of(tmp_path / "base")
    adapter = trained(section, tmp_path / "adapter")
    merged(section, adapter, tmp_path / "streamed")
    only_whole(monkeypatch)
    merged(section, adapter, tmp_path / "whole")
    both = [AutoModelForCausalLM.from_pretrained(tmp_path / folder) for folder in ("streamed", "whole")]
    torch.testing.assert_close(logits(both[1]), logits(both[0]), **CLOSE)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_export_computes_the_same_also_through_open_llama(name, tmp_path):
    stored = folder_of(name, tmp_path / "in")
    export(at(tmp_path / "in"), ExportConfig(), tmp_path / "llama")
    export(at(tmp_path / "in"), OPEN_LLAMA, tmp_path / "open")
    export(at(tmp_path / "open"), ExportConfig(), tmp_path / "out")
    assert_same_bytes(tensors(tmp_path / "out"), tensors(tmp_path / "llama"))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "llama")
    assert type(plain).__name__ == ("Qwen2ForCausalLM" if name == "qwen" else "LlamaForCausalLM")
    wanted = published_logits(config_of(name), stored, IDS)
    torch.testing.assert_close(logits(plain), wanted, **CLOSE)
    assert "auto_map" not in json.loads((tmp_path / "llama" / "config.json").read_text())


def test_a_normalized_head_is_exported_in_the_dtype_of_the_file(tmp_path):
    stored = folder_of("baichuan2", tmp_path / "in")
    half = {name: tensor.bfloat16() for name, tensor in stored.items()}
    changed(tmp_path / "in", half)
    section = reconfigured(tmp_path / "in", torch_dtype="bfloat16")
    export(section, ExportConfig(), tmp_path / "out")
    written = tensors(tmp_path / "out")
    assert {tensor.dtype for tensor in written.values()} == {torch.bfloat16}
    norms = written["lm_head.weight"].float().norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=0, atol=4e-3)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_a_head_behind_a_wrappers_prefix_is_normalized_for_a_diagnosis(prefix, tmp_path):
    stored = folder_of("baichuan2", tmp_path)
    changed(tmp_path, {prefix + name: tensor for name, tensor in stored.items()})
    [head] = [t[...] for n, t in open_merged(str(tmp_path)).tensors.items() if n.endswith("lm_head.weight")]
    torch.testing.assert_close(head.norm(dim=1), torch.ones(len(head)))


def test_a_tokenizer_json_is_read_where_settings_name_code_of_its_own(tmp_path):
    folder_of("internlm2", tmp_path)
    code = {"AutoTokenizer": ["code.InternLM2Tokenizer", None]}
    file = tmp_path / "tokenizer_config.json"
    own = {"tokenizer_class": "InternLM2Tokenizer", "auto_map": code}
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    assert load_tokenizer(at(tmp_path)).encode("w3 w90") == [1, 3, 90]


def test_a_fused_tensor_of_another_shape_is_named_with_both_shapes(tmp_path):
    stored = folder_of("internlm2", tmp_path)
    name = "model.layers.1.attention.wqkv.weight"
    with pytest.raises(CheckpointError) as caught:
        check_model(changed(tmp_path, stored | {name: stored[name][:-16].clone()}), PLAIN)
    said = f"{tmp_path}: does not fit, {name}: (112, 64) in the file, (128, 64) by config.json"
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("name", "lie", "said"),
    [
        ("internlm2", {"num_key_value_heads": 4}, r"wqkv.weight: (128, 64) in the file, (192, 64) by config"),
        ("internlm2", {"bias": True}, "8 tensors missing: model.layers.0.self_attn.q_proj.bias"),
        ("baichuan", {"hidden_size": 32}, "W_pack.weight: (48, 16) in the file, (96, 32) by config"),
        ("baichuan", {"max_position_embeddings": 0}, "Baichuan of 13B has ALiBi instead of rotary positions"),
        ("baichuan", {"hidden_size": 5120}, "Baichuan of 13B has ALiBi instead of rotary positions"),
        ("baichuan", {"vocab_size": 64008}, "vocab_size=64008 doesn't say whether the head is normalized"),
        ("baichuan2", {"tie_word_embeddings": True}, "tie_word_embeddings=True, but Baichuan2 normalizes"),
        (
            "chatglm3",
            {"multi_query_group_num": 1},
            "query_key_value.bias: (128,) in the file, (96,) by",
        ),
        ("chatglm3", {"multi_query_attention": False}, "multi_query_attention=False is not supported"),
        ("chatglm3", {"eos_token_id": None}, "eos_token_id missing (2 in ChatGLM2 and ChatGLM3)"),
        ("chatglm3", {"rope_ratio": 50}, "rope_ratio=50 divides positions in ChatGLM2 and multiplies"),
        ("chatglm3", {"add_bias_linear": True}, "add_bias_linear=True is not supported"),
        ("chatglm3", {"ffn_hidden_size": 48}, "4 tensors with another shape: model.layers.0.mlp.down_proj"),
        ("chatglm3", {"num_layers": 3}, "tensors missing: model.layers.2.input_layernorm.weight"),
        ("chatglm3", {"kv_channels": "wide"}, "Field 'head_dim' expected int, got str"),
        ("qwen", {"hidden_size": 32, "kv_channels": 8}, "c_attn.bias: (192,) in the file, (96,) by config"),
        ("qwen", {"seq_length": None}, "seq_length"),
        ("qwen", {"hidden_size": 0}, "hidden_size is missing (the first files of Qwen-7B had other names"),
        ("qwen", {"no_bias": False}, "Qwen 1 with no_bias=False is not supported (True)"),
        ("qwen", {"rotary_pct": 0.25}, "Qwen 1 with rotary_pct=0.25 is not supported (1)"),
        ("qwen", {"kv_channels": 8}, "Qwen 1 with kv_channels=8 is not supported (16)"),
        ("qwen", {"visual": {"width": 1664}}, "Qwen 1 with visual={'width': 1664} is not supported (None)"),
        ("qwen", {"intermediate_size": 96}, "mlp.down_proj"),
    ],
)
def test_a_configuration_that_lies_is_one_line(name, lie, said, tmp_path):
    folder_of(name, tmp_path)
    with pytest.raises(CheckpointError) as caught:
        load_model(reconfigured(tmp_path, **lie), PLAIN)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_chatglm_of_the_first_generation_is_refused_with_the_folder_to_take(tmp_path):
    folder_of("chatglm3", tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    del config["padded_vocab_size"]
    file.write_text(json.dumps(config))
    said = (
        "padded_vocab_size missing: .* not supported .zai-org/glm-4-9b-chat-hf has transformers' own format"
    )
    with pytest.raises(CheckpointError, match=said):
        check_model(section_of(tmp_path), PLAIN)


def test_a_chatglm_without_a_padding_token_has_not_that_of_another(tmp_path):
    folder_of("chatglm3", tmp_path)
    model = load_model(reconfigured(tmp_path, pad_token_id=None), PLAIN)
    assert (model.config.pad_token_id, model.config.eos_token_id) == (None, 2)


def test_auto_names_the_architecture_that_reads_a_chatglm(tmp_path):
    folder_of("chatglm3", tmp_path)
    assert type(load_model(at(tmp_path), PLAIN)).__name__ == "GlmForCausalLM"
    with pytest.raises(CheckpointError, match="model.architecture=auto reads it as transformers' Glm"):
        check_model(at(tmp_path, architecture=Architecture["open-llama"]), PLAIN)


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("model.layers.0.attention.wqkv.weight", "3 tensors missing: model.layers.0.self_attn.q_proj.weight"),
        ("model.layers.1.feed_forward.w2.weight", "1 tensor missing: model.layers.1.mlp.down_proj.weight"),
        ("output.weight", "1 tensor missing: lm_head.weight"),
    ],
)
def test_a_missing_tensor_is_one_line(without, said, tmp_path):
    stored = folder_of("internlm2", tmp_path)
    del stored[without]
    with pytest.raises(CheckpointError) as caught:
        check_model(changed(tmp_path, stored), PLAIN)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_one_tensor_under_two_names_is_refused(tmp_path):
    stored = folder_of("internlm2", tmp_path)
    twice = {"lm_head.weight": stored["output.weight"].clone()}
    with pytest.raises(CheckpointError, match="is also there under another name, lm_head.weight"):
        check_model(changed(tmp_path, stored | twice), PLAIN)
