"""Folders and GGUF files of LLaMA's relatives: read as Open-Llama, and written as what they came as."""

import json

import pytest
import torch
from gguf import GGUFReader
from merge_ways import only_whole
from relatives import CLASSES, RELATIVES, relative
from safetensors.torch import save_file
from test_export import assert_same_bytes, tensors
from test_export_gguf import byte_level, compare_with_llama_cpp, gguf
from test_merge_origins import foreign, merged, trained
from tiny_checkpoints import PLAIN, at, logits, words_tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from workbench.config.merge import MergeDtype
from workbench.config.model import Architecture, Dtype, Task
from workbench.config.publishing.export import ExportConfig, ExportFormat
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import CheckpointError
from workbench.models import OpenLlamaForCausalLM
from workbench.models.adapters import attach
from workbench.models.export import export
from workbench.models.gguf.reader import read_fields
from workbench.models.loading import has_trained_head, load_model, load_tokenizer

OPEN_LLAMA = ExportConfig(format=ExportFormat["open-llama"])
CLOSE = dict(rtol=0, atol=1e-5)


def saved(folder, name, tokenizer=None, **fields):
    """The folder of a relative, with a tokenizer."""
    relative(name, **fields).save_pretrained(folder)
    (tokenizer or words_tokenizer()).save_pretrained(folder)
    return at(folder)


@pytest.fixture(params=["tensor by tensor", "the whole model"])
def way(request, monkeypatch):
    """Both ways to merge."""
    if request.param == "the whole model":
        only_whole(monkeypatch)


def config_of(folder):
    config = json.loads((folder / "config.json").read_text())
    return {key: value for key, value in config.items() if key != "transformers_version"}


@pytest.mark.parametrize("name", RELATIVES)
def test_auto_takes_a_relative_as_open_llama(name, tmp_path, caplog):
    section = saved(tmp_path, name)
    with caplog.at_level("INFO"):
        ours = load_model(section, PLAIN)
    assert type(ours) is OpenLlamaForCausalLM
    assert f"({relative(name).config.model_type};" in caplog.text.casefold()
    torch.testing.assert_close(logits(ours), logits(relative(name)), **CLOSE)


@pytest.mark.parametrize("name", RELATIVES)
@pytest.mark.parametrize("method", ["int8", "nf4"])
def test_quantized_it_computes_what_transformers_class_does(name, method, tmp_path):
    section, how = saved(tmp_path, name), QuantizationConfig(method=QuantizationMethod[method])
    native = at(tmp_path, architecture=Architecture.native)
    found, wanted = logits(load_model(section, how)), logits(load_model(native, how))
    torch.testing.assert_close(found, wanted, **CLOSE)
    assert (found - logits(relative(name))).abs().max() > 1e-3


@pytest.mark.parametrize("method", ["none", "int8", "nf4"])
@pytest.mark.parametrize(
    "name", ["llama, biases", "mistral, window", "qwen2", "qwen2, tied", "qwen3, biases"]
)
def test_it_is_merged_into_what_it_came_as(name, method, way, tmp_path):
    section, how = saved(tmp_path / "base", name), QuantizationConfig(method=QuantizationMethod[method])
    adapter = trained(section, tmp_path / "adapter", how)
    report = merged(section, adapter, tmp_path / "merged", how, dtype=MergeDtype.float32)
    assert report.effect.kept == pytest.approx(1, abs=1e-3)
    assert config_of(tmp_path / "merged") == config_of(tmp_path / "base")
    before, after = (tensors(tmp_path / folder) for folder in ("base", "merged"))
    assert {key: tensor.shape for key, tensor in after.items()} == {
        k: tensor.shape for k, tensor in before.items()
    }
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert type(plain) is CLASSES[RELATIVES[name][0]][1]
    expected = logits(attach.load(load_model(section, how), adapter))
    torch.testing.assert_close(logits(plain), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["llama, biases", "qwen2", "qwen3"])
def test_an_adapter_of_transformers_class_is_one_of_open_llama(name, tmp_path):
    section = saved(tmp_path / "base", name)
    target_modules = ["q_proj", "k_proj", "o_proj", "down_proj"]
    native = relative(name)
    foreign(tmp_path / "adapter", native, "x", target_modules=target_modules)
    ours = attach.load(load_model(section, PLAIN), tmp_path / "adapter")
    assert (logits(native) - logits(relative(name))).abs().max() > 1e-3
    torch.testing.assert_close(logits(ours), logits(native), **CLOSE)


@pytest.mark.parametrize("name", RELATIVES)
def test_an_export_is_what_it_came_as_also_through_open_llama(name, tmp_path):
    section = saved(tmp_path / "in", name)
    export(section, ExportConfig(), tmp_path / "same")
    export(section, OPEN_LLAMA, tmp_path / "open")
    export(at(tmp_path / "open"), ExportConfig(), tmp_path / "out")
    assert config_of(tmp_path / "same") == config_of(tmp_path / "in")
    assert config_of(tmp_path / "open")["model_type"] == "open-llama"
    for folder in ("same", "open", "out"):
        assert_same_bytes(tensors(tmp_path / folder), tensors(tmp_path / "in"))
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    kind = RELATIVES[name][0]
    keeps_kind = kind in ("qwen2", "qwen3", "granite") or name == "mistral, window"
    assert again.config.model_type == (kind if keeps_kind else "llama")
    torch.testing.assert_close(logits(again), logits(relative(name)), **CLOSE)


def test_biases_that_no_class_of_transformers_has_are_refused(tmp_path):
    saved(tmp_path / "in", "qwen3, biases")
    export(at(tmp_path / "in"), OPEN_LLAMA, tmp_path / "open")
    config = config_of(tmp_path / "open")
    (tmp_path / "open" / "config.json").write_text(json.dumps(config | {"qkv_bias": False}))
    weights = {
        k: v
        for k, v in tensors(tmp_path / "open").items()
        if not k.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias"))
    }
    save_file(weights, tmp_path / "open" / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="no qwen3 of transformers has qkv_bias=False"):
        export(at(tmp_path / "open"), ExportConfig(), tmp_path / "out")


@pytest.mark.parametrize("name", ["llama, biases", "qwen2", "qwen3, tied"])
def test_a_classifier_is_trained_and_merged_as_what_it_came_as(name, tmp_path):
    saved(tmp_path / "base", name)
    section = at(tmp_path / "base", task=Task.sequence_classification)
    torch.manual_seed(0)
    assert not has_trained_head(section)
    adapter = trained(section, tmp_path / "adapter")
    merged(section, adapter, tmp_path / "merged")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert type(plain) is CLASSES[RELATIVES[name][0]][2]
    expected = attach.load(load_model(section, PLAIN), adapter)
    torch.testing.assert_close(logits(plain), logits(expected), rtol=0, atol=1e-4)


def test_internlm3_is_read_by_its_own_names_and_without_its_code(tmp_path):
    section = saved(tmp_path / "base", "internlm3")
    own = {"qkv_bias": True, "bias": True, "auto_map": {"AutoConfig": "code.InternLM3Config"}}
    config = config_of(tmp_path / "base")
    del config["attention_bias"], config["mlp_bias"]
    (tmp_path / "base" / "config.json").write_text(json.dumps(config | own))
    torch.testing.assert_close(logits(load_model(section, PLAIN)), logits(relative("internlm3")), **CLOSE)
    export(section, ExportConfig(), tmp_path / "out")
    del own["auto_map"]  # names a file that isn't exported
    assert config_of(tmp_path / "out") == config | own


def test_a_classifier_that_transformers_has_no_class_for_stays_an_open_llama(tmp_path):
    saved(tmp_path / "base", "granite")
    section = at(tmp_path / "base", task=Task.sequence_classification)
    adapter = trained(section, tmp_path / "adapter")
    merged(section, adapter, tmp_path / "merged")
    assert config_of(tmp_path / "merged")["model_type"] == "open-llama"
    expected = logits(attach.load(load_model(section, PLAIN), adapter))
    again = at(tmp_path / "merged", task=Task.sequence_classification)
    torch.testing.assert_close(logits(load_model(again, PLAIN)), expected, rtol=0, atol=1e-4)
    with pytest.raises(CheckpointError, match="no classifier of Granite"):
        export(again, ExportConfig(), tmp_path / "out")


def test_minicpm_is_read_by_its_own_scales_and_leaves_as_a_granite(tmp_path):
    """The formulas of its paper, arXiv:2404.06395, appendix A: they are those of Granite with other names."""
    scales = {"embedding_multiplier": 12, "residual_multiplier": 1.4 / 2**0.5, "logits_scaling": 64 / 16}
    fields = {**scales, "attention_multiplier": 16**-0.5, "tie_word_embeddings": True}
    reference = relative("granite", **fields)
    reference.save_pretrained(tmp_path / "base")
    words_tokenizer().save_pretrained(tmp_path / "base")
    config = {key: value for key, value in config_of(tmp_path / "base").items() if key not in fields}
    own = {"model_type": "minicpm", "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 16}
    (tmp_path / "base" / "config.json").write_text(json.dumps(config | own))
    section = at(tmp_path / "base")
    torch.testing.assert_close(logits(load_model(section, PLAIN)), logits(reference), **CLOSE)
    adapter = trained(section, tmp_path / "adapter")
    merged(section, adapter, tmp_path / "merged")
    export(section, ExportConfig(), tmp_path / "out")
    plain, exported = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("merged", "out"))
    assert exported.config.model_type == "granite"
    torch.testing.assert_close(logits(exported), logits(reference), **CLOSE)
    expected = logits(attach.load(load_model(section, PLAIN), adapter))
    torch.testing.assert_close(logits(plain), expected, rtol=0, atol=1e-4)
    with pytest.raises(CheckpointError, match="gguf doesn't support scales"):
        export(section, gguf(), tmp_path / "out.gguf")


def written_as_gguf(folder, name):
    """A relative's GGUF file of float32 numbers, the model and its tokenizer."""
    spoken = byte_level()
    section = saved(folder / "in", name, spoken, vocab_size=len(spoken) + 1)
    export(section, gguf(), folder / "out.gguf")
    return folder / "out.gguf", relative(name, vocab_size=len(spoken) + 1), load_tokenizer(section)


IN_GGUF = [name for name in RELATIVES if name not in ("qwen3, biases", "granite") and "window" not in name]


@pytest.mark.parametrize("name", IN_GGUF)
def test_a_gguf_file_of_a_relative_is_read_back_whole(name, tmp_path):
    file, reference, _ = written_as_gguf(tmp_path, name)
    kind = RELATIVES[name][0]
    architecture = kind if kind in ("qwen2", "qwen3") else "llama"
    assert read_fields(file)["general.architecture"] == architecture
    ours = load_model(at(file, dtype=Dtype.float32), PLAIN)
    torch.testing.assert_close(logits(ours), logits(reference), **CLOSE)
    export(at(file), ExportConfig(dtype=Dtype.float32), tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert again.config.model_type == architecture
    torch.testing.assert_close(logits(again), logits(reference), **CLOSE)


@pytest.mark.parametrize("name", ["mistral, window", "qwen2, window in one layer"])
def test_a_gguf_file_has_no_window_which_is_said(name, tmp_path, caplog):
    file, reference, _ = written_as_gguf(tmp_path, name)
    assert "no sliding window: in llama.cpp, texts of more than 8 tokens get other answers" in caplog.text
    ours = load_model(at(file, dtype=Dtype.float32), PLAIN)
    within, beyond = torch.arange(3, 11)[None], torch.arange(3, 12)[None]
    torch.testing.assert_close(logits(ours, within), logits(reference, within), **CLOSE)
    assert (logits(ours, beyond) - logits(reference, beyond)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["llama, biases", "qwen2, tied", "qwen3"])
def test_a_gguf_file_of_a_relative_is_trained_and_merged(name, tmp_path, way):
    file, _, _ = written_as_gguf(tmp_path, name)
    section = at(file, dtype=Dtype.float32)
    adapter = trained(section, tmp_path / "adapter")
    merged(section, adapter, tmp_path / "merged", dtype=MergeDtype.float32)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert plain.config.model_type == RELATIVES[name][0]
    expected = logits(attach.load(load_model(section, PLAIN), adapter))
    torch.testing.assert_close(logits(plain), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["llama, biases", "qwen2", "qwen3"])
def test_only_llamas_queries_and_keys_are_permuted_in_a_gguf_file(name, tmp_path):
    file, reference, _ = written_as_gguf(tmp_path, name)
    stored = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in GGUFReader(file).tensors}
    heads = {"q": reference.config.num_attention_heads, "k": reference.config.num_key_value_heads, "v": 0}
    for letter, count in heads.items():
        for kind, weight in reference.get_submodule(
            f"model.layers.1.self_attn.{letter}_proj"
        ).named_parameters():
            expected = weight.detach()
            if count and name.startswith("llama"):  # llama.cpp's convert_hf_to_gguf.py, LlamaModel.permute
                halves = expected.reshape(count, 2, len(weight) // count // 2, *weight.shape[1:])
                expected = halves.swapaxes(1, 2).reshape(weight.shape)
            assert torch.equal(stored[f"blk.1.attn_{letter}.{kind}"], expected)


def test_biases_that_llama_cpp_would_not_read_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="gguf doesn't support Qwen3 with attention_bias"):
        written_as_gguf(tmp_path, "qwen3, biases")


@pytest.mark.peer
@pytest.mark.parametrize("name", IN_GGUF)
def test_llama_cpp_computes_what_the_relative_does(name, tmp_path):
    """`pip install xllamacpp` (llama.cpp b11549)."""
    file, reference, tokenizer = written_as_gguf(tmp_path, name)
    compare_with_llama_cpp(reference, tokenizer, file)
