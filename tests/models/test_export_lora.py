"""LoRAs as GGUF files: llama.cpp's own log-probabilities with them, read back, and refusals."""

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from peft import LoraConfig, get_peft_model
from test_export_gguf import byte_level, compare_with_llama_cpp, gguf, write
from tiny_checkpoints import at

from workbench.config.model import Task
from workbench.config.publishing.export import ExportConfig, ExportFormat, GgufType
from workbench.config.quantization import QuantizationConfig
from workbench.errors import CheckpointError, ConfigError
from workbench.models.adapters import attach
from workbench.models.export import export
from workbench.models.export_lora import export_lora
from workbench.models.loading import load_model

pytestmark = pytest.mark.filterwarnings("ignore")  # peft warns of much that is done on purpose here
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KINDS = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "unequal ranks": {"rank_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 7}},
    "unequal ranks of rslora": {"rank_pattern": {"k_proj": 3}, "use_rslora": True},
    "two alphas": {"alpha_pattern": {"v_proj": 3}},
}


def lora(**fields):
    return ExportConfig(format=ExportFormat["gguf-lora"], **fields)


def written(tmp_path, name="adapter", **fields):
    """A base model folder, and an adapter of peft's own on it."""
    base = tmp_path / "base"
    tokenizer = byte_level()
    if not base.exists():
        write(base, tokenizer)
    model = load_model(at(base), QuantizationConfig())
    config = LoraConfig(**({"r": 4, "lora_alpha": 6, "target_modules": LAYERS} | fields))
    torch.manual_seed(2)
    peft_model = get_peft_model(model, config)
    for key, weight in peft_model.named_parameters():
        if "lora_" in key:
            weight.data = 0.1 * torch.randn(weight.shape)
    peft_model.save_pretrained(tmp_path / name)
    return base, tmp_path / name, tokenizer


def update(tensors, alpha, name):
    """The update that llama.cpp adds: alpha / rank, or 1, times B A."""
    down, up = tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"]
    return (alpha / down.shape[0] if alpha else 1.0) * up @ down


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_holds_the_updates_of_the_adapter(kind, tmp_path):
    base, adapter, _ = written(tmp_path, **KINDS[kind])
    report = export_lora(at(base), adapter, lora(), tmp_path / "lora.gguf")
    reader = GGUFReader(tmp_path / "lora.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert (fields["general.type"], fields["adapter.type"]) == ("adapter", "lora")
    assert fields["general.architecture"] == "llama"
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    model = attach.load(load_model(at(base), QuantizationConfig()), adapter)
    layers = model.get_base_model().model.layers
    assert len(tensors) == report.num_tensors == 2 * len(LAYERS) * len(layers)
    for number, layer in enumerate(layers):
        for theirs, ours in (("ffn_down", layer.mlp.down_proj), ("attn_v", layer.self_attn.v_proj)):
            found = update(tensors, fields["adapter.lora.alpha"], f"blk.{number}.{theirs}.weight")
            assert np.allclose(found, ours.get_delta_weight("default").detach(), atol=1e-6)
        found = update(tensors, fields["adapter.lora.alpha"], f"blk.{number}.attn_q.weight")
        expected = layer.self_attn.q_proj.get_delta_weight("default").detach()
        heads = model.config.num_attention_heads
        pairs = expected.view(heads, 2, -1, expected.shape[1]).transpose(1, 2).reshape(expected.shape)
        assert np.allclose(found, pairs, atol=1e-6)  # rows of a head: 0, n/2, 1, n/2 + 1, ...


@pytest.mark.peer
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_llama_cpp_computes_what_the_adapter_model_does(kind, tmp_path):
    """`pip install xllamacpp` (llama.cpp b11549)."""
    base, adapter, tokenizer = written(tmp_path, **KINDS[kind])
    export(at(base), gguf(), tmp_path / "base.gguf")
    export_lora(at(base), adapter, lora(), tmp_path / "lora.gguf")
    model = attach.load(load_model(at(base), QuantizationConfig()), adapter).eval()
    with model.disable_adapter():
        plain = model(torch.tensor([[5, 9, 7]])).logits
    assert (model(torch.tensor([[5, 9, 7]])).logits - plain).abs().max() > 0.1
    compare_with_llama_cpp(model, tokenizer, tmp_path / "base.gguf", tmp_path / "lora.gguf")


def test_sixteen_bits_are_written_as_asked_and_blocks_are_not(tmp_path):
    base, adapter, _ = written(tmp_path)
    types, values = {}, {}
    for name in GgufType:
        export_lora(at(base), adapter, lora(gguf_type=name), tmp_path / "lora.gguf")
        tensors = GGUFReader(tmp_path / "lora.gguf").tensors
        types[name.value] = {tensor.tensor_type.name for tensor in tensors}
        values[name.value] = {t.name: torch.from_numpy(dequantize(t.data, t.tensor_type)) for t in tensors}
    for name, tensor in values["f32"].items():
        assert torch.equal(values["f16"][name], tensor.half().float()), name
        assert torch.equal(values["bf16"][name], tensor.bfloat16().float()), name
    assert types.pop("f16") == {"F16"} and types.pop("bf16") == {"BF16"}
    assert all(found == {"F32"} for found in types.values())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"use_dora": True}, "can't be written as gguf-lora: DoRA's magnitudes"),
        ({"modules_to_save": ["lm_head"]}, "can't be written as gguf-lora: it trains whole modules"),
        ({"init_lora_weights": "pissa"}, "can't be written as gguf-lora: init_lora_weights='pissa'"),
        ({"target_modules": ["embed_tokens"]}, "model.embed_tokens is an embedding .merge it"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_adapter_that_is_more_than_a_lora_of_linear_layers_is_refused(fields, said, tmp_path):
    base, adapter, _ = written(tmp_path, **fields)
    with pytest.raises(CheckpointError, match=said) as caught:
        export_lora(at(base), adapter, lora(), tmp_path / "lora.gguf")
    assert "\n" not in str(caught.value) and not (tmp_path / "lora.gguf").exists()


def test_other_bases_files_and_tasks_are_refused(tmp_path):
    base, adapter, tokenizer = written(tmp_path)
    write(tmp_path / "wide", tokenizer, intermediate_size=160)
    with pytest.raises(CheckpointError, match=r"down_proj is \[64, 96\], and the base has \[64, 160\]"):
        export_lora(at(tmp_path / "wide"), adapter, lora(), tmp_path / "lora.gguf")
    (tmp_path / "mine.gguf").write_text("my thesis")
    with pytest.raises(ConfigError, match="is not an earlier export"):
        file = tmp_path / "mine.gguf"
        export_lora(at(base), adapter, lora(path=str(file)), file)
    with pytest.raises(ConfigError, match="gguf-lora doesn't support classifiers"):
        export_lora(at(base, task=Task.sequence_classification), adapter, lora(), tmp_path / "lora.gguf")
    with pytest.raises(ConfigError, match="not a file name ending in .gguf"):
        export_lora(at(base), adapter, lora(), tmp_path / "lora")
