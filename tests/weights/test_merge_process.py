"""Merging as a process of its own: what it imports, what it writes, and how it ends with its parent."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.errors import CheckpointError, ConfigError
from workbench.weights.file_tensors import file_tensors
from workbench.weights.merge_plan import LoraTensors, MergePlan, PlannedTensor, ReplacedTensor, plan_of
from workbench.weights.merge_tensors import merge_tensors

HEAVY = {"transformers", "peft", "accelerate", "datasets", "bitsandbytes", "huggingface_hub", "scipy"}


@pytest.fixture
def plan(tmp_path):
    torch.manual_seed(0)
    base = {"a.weight": torch.randn(300, 200), "norm": torch.randn(30), "table": torch.randn(50, 20)}
    halves = {name: values.to(torch.bfloat16) for name, values in base.items()}
    save_file(halves, tmp_path / "base.safetensors")
    adapter = {"A": torch.randn(4, 200), "B": 0.01 * torch.randn(300, 4), "rows": torch.ones(2, 20)}
    save_file(adapter, tmp_path / "adapter.safetensors")
    return planned(tmp_path)


def planned(folder, dtype=torch.bfloat16):
    stored = file_tensors([folder / "base.safetensors"])
    updates = {
        "a.weight": LoraTensors(down="A", up="B", scale=2.0),
        "table": ReplacedTensor(values="rows", numbers=(3, 49)),
    }
    tensors = {name: PlannedTensor(source=stored[name], update=updates.get(name)) for name in stored}
    return MergePlan(
        tensors=tensors, adapter=folder / "adapter.safetensors", base_dtype=torch.bfloat16, dtype=dtype
    )


def started(tmp_path, plan):
    """The process, which runs as long as its standard input is open."""
    (tmp_path / "plan.json").write_text(json.dumps(plan.as_json()))
    (tmp_path / "merged").mkdir()
    paths = [str(tmp_path / name) for name in ("plan.json", "merged", "result.json")]
    command = [sys.executable, "-m", "workbench.weights.merge_tensors", *paths, "60000"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_plan_survives_its_way_to_another_process(plan):
    assert plan_of(json.loads(json.dumps(plan.as_json()))) == plan


def test_the_process_writes_what_a_call_writes_and_returns_the_same_figures(plan, tmp_path):
    with started(tmp_path, plan) as process:
        names = process.stdout.read().split()
    assert process.returncode == 0 and sorted(names) == sorted(plan.tensors)
    (tmp_path / "here").mkdir()
    signals = merge_tensors(plan, tmp_path / "here", 60_000)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result == {"signals": {name: vars(signal) for name, signal in signals.items()}}
    files = [sorted((tmp_path / folder).iterdir()) for folder in ("merged", "here")]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]
    base, adapter = load_file(tmp_path / "base.safetensors"), load_file(tmp_path / "adapter.safetensors")
    merged = {name: values for file in files[0][:-1] for name, values in load_file(file).items()}
    expected = base["a.weight"].float() + 2 * (adapter["B"] @ adapter["A"])
    assert merged["a.weight"].equal(expected.to(torch.bfloat16))
    assert merged["norm"].equal(base["norm"])
    assert merged["table"][[3, 49]].float().equal(adapter["rows"])
    assert merged["table"][:3].equal(base["table"][:3])


def test_the_process_deletes_its_folder_when_its_parent_ends(plan, tmp_path):
    (tmp_path / "merged").mkdir()
    code = "from pathlib import Path; from workbench.weights.merge_tensors import end_with_parent; "
    code += f"end_with_parent(Path({str(tmp_path / 'merged')!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    assert process.poll() is None
    process.stdin.close()
    assert process.wait() == 1 and not (tmp_path / "merged").exists()


def test_an_error_of_the_process_is_in_its_result(plan, tmp_path):
    values = load_file(tmp_path / "adapter.safetensors")
    values["A"], values["B"] = values["A"] * 1e5, values["B"] * 1e37
    save_file(values, tmp_path / "adapter.safetensors")
    with started(tmp_path, planned(tmp_path)) as process:
        process.stdout.read()
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["error"] == "CheckpointError"
    assert "can't be merged, NaN or infinite values in a.weight" in result["message"]


def test_weights_beyond_the_range_of_the_dtype_are_refused(plan, tmp_path):
    values = load_file(tmp_path / "base.safetensors")
    values["norm"] = values["norm"] + 1e6
    save_file(values, tmp_path / "base.safetensors")
    (tmp_path / "merged").mkdir()
    with pytest.raises(ConfigError, match="merge.dtype: 'float16' has too small a range"):
        merge_tensors(planned(tmp_path, torch.float16), tmp_path / "merged", 10**9)


def test_a_wrong_sum_is_found_by_a_computation_in_float64(plan, tmp_path, monkeypatch):
    from workbench.weights.lora_update import Changed, LoraUpdate

    real = LoraUpdate.changed

    def wrong(self, rows, first=0):
        total, delta = real(self, rows, first)
        return Changed(total * 1.01, delta) if rows.dtype == torch.float32 else Changed(total, delta)

    monkeypatch.setattr(LoraUpdate, "changed", wrong)
    (tmp_path / "merged").mkdir()
    with pytest.raises(CheckpointError, match="a.weight: the float32 sum differs from the float64 one"):
        merge_tensors(plan, tmp_path / "merged", 10**9)


def test_only_light_packages_are_imported():
    code = "import sys, workbench.weights.merge_tensors; print(*{name.split('.')[0] for name in sys.modules})"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "torch" in listed.split() and not HEAVY & set(listed.split())
