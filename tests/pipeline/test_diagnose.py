"""The diagnose recipe: findings on the screen, a report, and an exit status."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import workbench.toy
from workbench.errors import CheckpointError, ConfigError, DataError

BASE = str(Path(workbench.toy.__file__).parent / "base")


@pytest.fixture(scope="module")
def merged(run_once):
    return run_once(
        lambda folder: None, "quickstart", "train.max_steps=4", "steps=[train,merge]", "run_dir=run"
    )


def test_a_run_of_ones_own_is_diagnosed_by_its_folder(run, merged, caplog):
    run("diagnose", f"run_dir={merged / 'run'}", f"model.path={BASE}", "quantization=nf4")
    assert "no fault found" in caplog.text
    report = json.loads((merged / "run" / "diagnosis.json").read_text())
    assert report["is_sound"] and {tensor["kind"] for tensor in report["tensors"]} <= {
        "equal",
        "merged",
        "dequantized",
    }


def test_a_fault_ends_with_an_error_after_the_report_is_written(run, merged, tmp_path, caplog):
    folder = tmp_path / "base"
    weights = load_file(f"{BASE}/model.safetensors")
    folder.mkdir()
    for file in Path(BASE).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    save_file({name: tensor.clone() for name, tensor in weights.items()}, folder / "model.safetensors")
    arguments = [f"model.path={BASE}", f"adapter.path={merged / 'run' / 'adapter'}", f"merged.path={folder}"]
    with pytest.raises(DataError, match=r"base: nothing was merged \(see above\)"):
        run("diagnose", *arguments, "run_dir=report")
    report = json.loads(Path("report/diagnosis.json").read_text())
    assert report["findings"][0]["causes"] == ["not_merged"]
    assert [path.name for path in Path("report").iterdir()] == ["diagnosis.json"]


def test_what_is_missing_is_said_before_anything_is_read(run, merged):
    with pytest.raises(ConfigError, match="merged.path: not given"):
        run("diagnose", f"model.path={BASE}")
    with pytest.raises(CheckpointError, match=r"merged.path: .* is not a model folder.*it is an adapter"):
        run("diagnose", f"model.path={BASE}", f"merged.path={merged / 'run' / 'adapter'}")
