"""Merging tensor by tensor: what it imports, what it writes, and what it refuses."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.errors import CheckpointError, ConfigError
from workbench.weights.file_tensors import file_tensors
from workbench.weights.merge_plan import LoraTensors, MergePlan, PlannedTensor, ReplacedTensor
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


def test_merged_weights_are_rounded_once_and_the_others_copied(plan, tmp_path):
    (tmp_path / "merged").mkdir()
    signals = merge_tensors(plan, tmp_path / "merged", 60_000)
    assert signals.keys() == {"a.weight", "table"}
    base, adapter = load_file(tmp_path / "base.safetensors"), load_file(tmp_path / "adapter.safetensors")
    files = sorted((tmp_path / "merged").glob("*.safetensors"))
    merged = {name: values for file in files for name, values in load_file(file).items()}
    expected = base["a.weight"].float() + 2 * (adapter["B"] @ adapter["A"])
    assert merged["a.weight"].equal(expected.to(torch.bfloat16))
    assert merged["norm"].equal(base["norm"])
    assert merged["table"][[3, 49]].float().equal(adapter["rows"])
    assert merged["table"][:3].equal(base["table"][:3])


def test_a_sum_that_is_not_a_number_is_refused(plan, tmp_path):
    values = load_file(tmp_path / "adapter.safetensors")
    values["A"], values["B"] = values["A"] * 1e5, values["B"] * 1e37
    save_file(values, tmp_path / "adapter.safetensors")
    (tmp_path / "merged").mkdir()
    with pytest.raises(CheckpointError, match="can't be merged, NaN or infinite values in a.weight"):
        merge_tensors(planned(tmp_path), tmp_path / "merged", 10**9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_weight_that_is_two_units_off_is_refused(dtype, plan, tmp_path, monkeypatch):
    real = torch.Tensor.to

    def two_more(self, *given, **options):
        rounded = real(self, *given, **options)
        if given != (dtype,) or self.shape != (300, 200):
            return rounded
        bits = rounded.clone().view(torch.int32 if dtype == torch.float32 else torch.int16)
        bits[150, 70] += 2
        return bits.view(dtype)

    (tmp_path / "merged").mkdir()
    merge_tensors(planned(tmp_path, dtype), tmp_path / "merged", 10**9)
    monkeypatch.setattr(torch.Tensor, "to", two_more)
    with pytest.raises(CheckpointError, match="a.weight: rounded by more than its dtype allows"):
        merge_tensors(planned(tmp_path, dtype), tmp_path / "merged", 10**9)


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
