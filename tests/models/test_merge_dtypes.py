"""Merges whose folder is saved in another dtype than the base is stored in, by both ways to merge."""

import json

import pytest
import torch
from safetensors.torch import load_file
from test_merging import TEXTS, base_path, quantization, trained_adapter, way  # noqa: F401 (fixtures)

from workbench.config.merge import MergeConfig, MergeDtype
from workbench.config.model import ModelConfig
from workbench.errors import CheckpointError
from workbench.models import OpenLlamaForCausalLM
from workbench.models.loading import load_tokenizer
from workbench.models.merging import streamed
from workbench.models.merging.merge import merge

DTYPES = ["float32", "bfloat16", "float16"]


def stored_base(base, dtype, folder):
    """The base, stored in a dtype."""
    OpenLlamaForCausalLM.from_pretrained(base).to(getattr(torch, dtype)).save_pretrained(folder)
    load_tokenizer(ModelConfig(path=base)).save_pretrained(folder)
    return ModelConfig(path=str(folder))


@pytest.mark.parametrize(
    ("stored", "saved"), [(a, b) for a in DTYPES for b in DTYPES if a != b], ids=lambda name: name
)
def test_every_weight_is_rounded_once_to_the_dtype_that_is_asked_for(
    stored,
    saved,
    way,  # noqa: F811
    base_path,  # noqa: F811
    tmp_path,
):
    section = stored_base(base_path, stored, tmp_path / "base")
    live = trained_adapter(section, quantization("none"), tmp_path / "adapter")
    chosen = MergeConfig(dtype=MergeDtype[saved])
    report = merge(section, tmp_path / "adapter", chosen, quantization("none"), tmp_path / "merged", TEXTS)
    base = load_file(tmp_path / "base" / "model.safetensors")
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    assert merged.keys() == base.keys() and report.dtype == saved
    layers = dict(live.base_model.model.named_modules())
    for name, tensor in merged.items():
        expected, layer = base[name].float(), layers.get(name.removesuffix(".weight"))
        if hasattr(layer, "lora_A"):
            expected += 2.0 * layer.lora_B["default"].weight.data @ layer.lora_A["default"].weight.data
        assert torch.equal(tensor, expected.to(getattr(torch, saved))), name


def test_a_folder_of_the_right_bytes_under_the_name_of_another_dtype_is_not_published(
    base_path,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    section = stored_base(base_path, "float32", tmp_path / "base")
    trained_adapter(section, quantization("none"), tmp_path / "adapter")
    written = streamed.merge_tensors

    def mislabelled(plan, folder, *rest):
        signals = written(plan, folder, *rest)
        file = folder / "model.safetensors"
        content = file.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        header = content[8:end].replace(b'"BF16"', b'"F16"')
        assert {entry["dtype"] for name, entry in json.loads(header).items() if name[0] != "_"} == {"F16"}
        file.write_bytes(content[:8] + header.ljust(end - 8) + content[end:])
        return signals

    monkeypatch.setattr(streamed, "merge_tensors", mislabelled)
    with pytest.raises(CheckpointError, match="the folder read back differs from the sum .* in model"):
        merge(
            section,
            tmp_path / "adapter",
            MergeConfig(dtype=MergeDtype.bfloat16),
            quantization("none"),
            tmp_path / "run" / "merged",
            TEXTS,
        )
    assert list((tmp_path / "run").iterdir()) == []
