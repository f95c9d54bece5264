"""A bad checkpoint ends in one line that names what is wrong, and nothing half-written is left."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.errors import CheckpointError

TOY = Path(__file__).parents[2] / "workbench" / "toy" / "base"
WEIGHTS = "model.safetensors"


class Code:
    """Would make a file if it were unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def tensors(change):
    def spoil(folder):
        found = load_file(folder / WEIGHTS)
        change(found)
        save_file(found, folder / WEIGHTS, {"format": "pt"})

    return spoil


def truncated(folder):
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])


def truncated_shard(folder):
    (folder / WEIGHTS).rename(folder / "model-00001-of-00001.safetensors")
    shard = folder / "model-00001-of-00001.safetensors"
    names = dict.fromkeys(load_file(shard), shard.name)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": names}))
    shard.write_bytes(shard.read_bytes()[:-100])


def code(folder):
    (folder / WEIGHTS).unlink()
    torch.save({"model.norm.weight": Code()}, folder / "pytorch_model.bin")


def larger_tokenizer(folder):
    state = json.loads((folder / "tokenizer.json").read_text())
    state["added_tokens"].append({**state["added_tokens"][0], "id": 686, "content": "<extra>"})
    (folder / "tokenizer.json").write_text(json.dumps(state))


def unknown_rope(folder):
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"]["rope_type"] = "spiral"
    (folder / "config.json").write_text(json.dumps(config))


def two_norms(folder):
    found = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    save_file(found, folder / "a.safetensors", {"format": "pt"})
    save_file({"model.norm.weight": torch.zeros(128)}, folder / "b.safetensors", {"format": "pt"})
    names = {**dict.fromkeys(found, "a.safetensors"), "model.norm.weight": "b.safetensors"}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": names}))


def numbered(folder):
    (folder / WEIGHTS).unlink()
    torch.save({1: torch.ones(2)}, folder / "pytorch_model.bin")


BAD = {
    "missing": (
        tensors(lambda t: t.pop("model.layers.1.mlp.up_proj.weight")),
        r"missing: model\.layers\.1\.mlp\.up",
    ),
    "extra": (tensors(lambda t: t.update(more=torch.ones(2))), r"unexpected: more"),
    "misshapen": (
        tensors(lambda t: t.update({"model.norm.weight": torch.ones(7)})),
        r"model\.norm\.weight: \(7,\)",
    ),
    "truncated": (truncated, r"model\.safetensors: truncated"),
    "truncated shard": (truncated_shard, r"model-00001-of-00001\.safetensors: truncated"),
    "pickle with code": (code, r"pytorch_model\.bin: the pickle contains code"),
    "two norms": (two_norms, r"b\.safetensors: model\.norm\.weight differs"),
    "numbered tensors": (numbered, r"pytorch_model\.bin: not a state dict"),
    "whole numbers": (
        tensors(lambda t: t.update({"model.norm.weight": torch.ones(128, dtype=torch.int32)})),
        r"with an unsupported dtype: model\.norm\.weight: torch\.int32",
    ),
    "larger tokenizer": (
        larger_tokenizer,
        r"has 687 tokens, but the model's embedding has 686 rows, none for '<extra>'",
    ),
    "unknown rope": (unknown_rope, r"config\.json: .*unknown type 'spiral'"),
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("recipe", ["export", "sft", "evaluate", "extend"])
def test_it_is_named_in_one_line_before_anything_is_written(run, tmp_path, recipe, fault):
    spoil, said = BAD[fault]
    shutil.copytree(TOY, tmp_path / "bad")
    spoil(tmp_path / "bad")
    text = "data.path=${toy:data/instruct.jsonl}"
    with pytest.raises(CheckpointError, match=said) as error:
        run(recipe, f"model.path={tmp_path}/bad", text, "benchmark=[toy_choice_en]", "run_dir=runs/bad")
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad"]
