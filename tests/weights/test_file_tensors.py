"""Tensors are read from and written to safetensors files one by one, byte for byte as the library does."""

import hashlib
import json
from io import FileIO
from pathlib import Path

import pytest
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from workbench.errors import CheckpointError
from workbench.weights import file_tensors as file_tensors_module
from workbench.weights.file_tensors import DTYPES, file_tensors, tensors_fingerprint
from workbench.weights.shard_writer import ShardWriter, write_checked


def tensors():
    generator = torch.Generator().manual_seed(0)
    drawn = {f"t{number}": torch.randn(7, 5 + number, generator=generator) for number in range(6)}
    drawn["half"], drawn["empty"] = drawn["t0"].to(torch.bfloat16), torch.zeros(0, 3)
    return drawn | {"scalar": torch.tensor(2.5), "ids": torch.arange(9)}


def layout(values):
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in values.items()}


def test_a_tensor_is_read_as_the_library_reads_it(tmp_path):
    values = tensors() | {name: torch.ones(3, 2).to(dtype) for name, dtype in DTYPES.items()}
    save_file(values, tmp_path / "model.safetensors")
    stored = file_tensors([tmp_path / "model.safetensors"])
    assert stored.keys() == values.keys()
    for name, tensor in values.items():
        assert stored[name].dtype == tensor.dtype and stored[name].shape == tuple(tensor.shape)
        assert stored[name][...].view(-1).view(torch.uint8).equal(tensor.view(-1).view(torch.uint8))
    assert stored["t3"].rows(2, 6).equal(values["t3"][2:6])
    assert b"".join(stored["half"].blocks()) == values["half"].view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize(("limit", "count"), [(10**9, 1), (400, 6), (1, 10)])
def test_tensors_written_one_by_one_are_read_back_by_the_library(limit, count, tmp_path):
    values = tensors()
    with ShardWriter(tmp_path, layout(values), limit) as writer:
        for name in writer.names:
            written = writer.write(name, values[name])
            assert written[...].equal(values[name])
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == count
    read = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert read.keys() == values.keys() and all(read[name].equal(values[name]) for name in values)
    assert file_tensors(files).keys() == values.keys()
    index = tmp_path / "model.safetensors.index.json"
    assert index.exists() is (count > 1)
    if index.exists():
        weight_map = json.loads(index.read_text())["weight_map"]
        assert all(name in load_file(tmp_path / file) for name, file in weight_map.items())
        expected = split_torch_state_dict_into_shards(values, max_shard_size=limit).metadata["total_size"]
        assert json.loads(index.read_text())["metadata"]["total_size"] == expected


def test_a_written_folder_is_a_model_for_transformers(tmp_path):
    torch.manual_seed(0)
    sizes = dict(vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2)
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2)).to(torch.bfloat16)
    model.config.save_pretrained(tmp_path)
    state = model.state_dict()
    with ShardWriter(tmp_path, layout(state), 3000) as writer:
        for name in writer.names:
            writer.write_rows(name, state[name].split(5))
    again = LlamaForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert again.dtype == torch.bfloat16
    assert all(again.state_dict()[name].equal(tensor) for name, tensor in state.items())


def test_a_stored_tensor_is_copied_without_change(tmp_path):
    values = tensors()
    save_file(values, tmp_path / "from.safetensors")
    stored = file_tensors([tmp_path / "from.safetensors"])
    (tmp_path / "to").mkdir()
    with ShardWriter(tmp_path / "to", layout(values), 10**9) as writer:
        for name in writer.names:
            writer.copy(name, stored[name])
    copied = load_file(tmp_path / "to" / "model.safetensors")
    assert all(copied[name].equal(values[name]) for name in values)


def test_a_disk_that_returns_other_bytes_is_noticed(tmp_path, monkeypatch):
    values = tensors()
    monkeypatch.setattr(ShardWriter, "path", lambda self, index: Path("/dev/zero"))
    with (
        pytest.raises(CheckpointError, match="/dev/zero: the header reads back as something else"),
        ShardWriter(tmp_path, layout(values), 10**9) as writer,
    ):
        writer.write(writer.names[0], values[writer.names[0]])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_tensor_is_read_into_memory_of_its_own_or_of_another_dtype(dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(file_tensors_module, "CONVERTED", 100)
    values = torch.randn(7, 41).to(torch.bfloat16)
    save_file({"first": torch.ones(3), "a": values}, tmp_path / "a.safetensors")
    found = torch.empty(7, 41, dtype=dtype)
    file_tensors([tmp_path / "a.safetensors"])["a"].read_into(found)
    assert found.equal(values.to(dtype))


class ShortDisk(FileIO):
    """A file that takes and returns at most 1,000 bytes a call, as a system does with some 2 GiB."""

    def write(self, data):
        return super().write(memoryview(data)[:1000])

    def readinto(self, buffer):
        return super().readinto(memoryview(buffer)[:1000])


class LyingDisk(ShortDisk):
    """One whose later bytes come back changed."""

    def readinto(self, buffer):
        start, size = self.tell(), super().readinto(buffer)
        if start >= 2000:
            memoryview(buffer)[:size] = bytes(size)
        return size


def test_a_block_larger_than_what_the_system_moves_in_one_call_is_written_and_checked_whole(tmp_path):
    block = bytes(range(1, 251)) * 12
    with ShortDisk(tmp_path / "whole", "w+") as file:
        assert write_checked(file, block, "whole") == len(block)
    assert (tmp_path / "whole").read_bytes() == block
    with LyingDisk(tmp_path / "changed", "w+") as file, pytest.raises(CheckpointError, match="reads back as"):
        write_checked(file, block, "changed")


def test_tensors_that_are_not_as_announced_are_refused(tmp_path):
    values = {"a": torch.ones(2, 3), "b": torch.ones(4)}
    with pytest.raises(ValueError, match="a: was not written"), ShardWriter(tmp_path, layout(values), 9):
        pass
    for name, tensor, reason in (
        ("b", values["b"], "b: the next tensor is a"),
        ("a", values["a"].half(), "a: torch.float16, and torch.float32 in the layout"),
        ("a", values["a"][:1], "a: 12 bytes, and 24 in the layout"),
    ):
        with pytest.raises(ValueError, match=reason), ShardWriter(tmp_path, layout(values), 9) as writer:
            writer.write(name, tensor)


def test_the_fingerprint_is_of_the_tensors_and_not_of_their_files(tmp_path):
    values = tensors()
    for limit, folder in ((10**9, "whole"), (400, "split")):
        (tmp_path / folder).mkdir()
        with ShardWriter(tmp_path / folder, layout(values), limit) as writer:
            for name in writer.names:
                writer.write(name, values[name])
    prints = [
        tensors_fingerprint(file_tensors(sorted((tmp_path / folder).glob("*.safetensors"))))
        for folder in ("whole", "split")
    ]
    assert prints[0] == prints[1]
    values["t4"][1, 2] += 1
    save_file(values, tmp_path / "changed.safetensors")
    assert tensors_fingerprint(file_tensors([tmp_path / "changed.safetensors"])) != prints[0]


def test_the_fingerprint_is_the_sha256_of_names_dtypes_shapes_and_bytes(tmp_path):
    """Of tensors of several blocks, of one without values and of a scalar."""
    values = {"b": torch.randn(700, 500), "a": torch.empty(0, 3), "c": torch.tensor(2, dtype=torch.int64)}
    save_file(values, tmp_path / "model.safetensors")
    parts = [(b"a F32 [0, 3]\n", "a"), (b"b F32 [700, 500]\n", "b"), (b"c I64 []\n", "c")]
    expected = hashlib.sha256(b"".join(head + values[name].numpy().tobytes() for head, name in parts))
    stored = file_tensors([tmp_path / "model.safetensors"])
    assert tensors_fingerprint(stored) == expected.hexdigest()
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(stored["b"].start + 500_000)
    with pytest.raises(CheckpointError, match="ends within b"):
        tensors_fingerprint({"b": stored["b"]})


def test_damaged_files_are_named(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file(tensors(), file)
    stored = file_tensors([file])
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: truncated or damaged"):
        file_tensors([file])
    last = max(stored.values(), key=lambda tensor: tensor.start)
    with pytest.raises(CheckpointError, match=f"ends within {last.name}"):
        last[...]
    with pytest.raises(CheckpointError, match=f"ends within {last.name}"):
        list(last.blocks())
    save_file(tensors(), file)
    with pytest.raises(CheckpointError, match=r"is also in model\.safetensors"):
        file_tensors([file, file])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_value_that_is_not_finite_is_named_by_tensor_while_it_is_hashed(tmp_path, caplog, dtype, value):
    damaged = torch.full((2, 2**18), torch.finfo(dtype).max, dtype=dtype)
    damaged[1, 70_000] = value
    save_file({"sound": torch.ones(3, dtype=dtype), "damaged": damaged}, tmp_path / "model.safetensors")
    tensors_fingerprint(file_tensors([tmp_path / "model.safetensors"]))
    (record,) = caplog.records
    assert "damaged has NaN or infinite values" in record.getMessage()
    caplog.clear()
    save_file(tensors() | {"largest": damaged[:1].clone()}, tmp_path / "model.safetensors")
    tensors_fingerprint(file_tensors([tmp_path / "model.safetensors"]))
    assert not caplog.records
