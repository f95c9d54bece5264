"""A run on a folder that another tool quantized says so wherever it names the model."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from workbench import cli
from workbench.run_dir import read_json

BASE = Path(cli.PACKAGE) / "toy" / "base"
SHORT = ("train.max_steps=3", "benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=8")


def fp8_folder(folder: Path) -> None:
    """The toy model with its layers in FP8, a scale for each tensor."""
    shutil.copytree(BASE, folder)
    tensors = {}
    for name, tensor in load_file(BASE / "model.safetensors").items():
        if not name.endswith("_proj.weight"):
            tensors[name] = tensor
            continue
        scale = tensor.float().abs().max().view(1) / 448
        tensors |= {name: (tensor.float() / scale).to(torch.float8_e4m3fn), f"{name}_scale": scale}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    settings = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))


def test_log_record_results_board_and_card_say_that_the_base_was_unpacked(run, caplog, tmp_path):
    fp8_folder(tmp_path / "fp8")
    folder = run("quickstart", f"model.path={tmp_path / 'fp8'}", *SHORT)
    log = "\n".join(record.getMessage() for record in caplog.records)
    assert "fp8, unpacked to" in log
    assert "the whole model is in memory" not in log
    assert read_json(folder.run_json)["train"]["unpacked"] == "fp8"
    models = read_json(folder.results_json)["models"]
    assert [models[name].get("unpacked") for name in ("base", "adapter", "merged")] == ["fp8", "fp8", None]
    assert models["base"]["quantization"] == "nf4"
    assert read_json(folder.merged / "merged_from.json")["base"]["unpacked"] == "fp8"
    board = next((tmp_path / "runs").rglob("leaderboard.json"))
    facts = [model["facts"] for model in read_json(board)["models"]]
    assert sorted(str(fact["quantization"]) for fact in facts) == ["fp8, unpacked, nf4"] * 2 + ["none"]
    card = (folder.adapter / "README.md").read_text(encoding="utf-8")
    assert "quantization fp8, unpacked, nf4" in card and 'quantization="nf4"' in card
