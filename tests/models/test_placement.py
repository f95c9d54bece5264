"""Where a model's weights go on a machine with several GPUs, whose memory is made up here."""

import contextlib
from pathlib import Path

import pytest
import torch
from accelerate import dispatch_model
from tiny_checkpoints import PLAIN, at, llama, words_tokenizer

from workbench import contexts
from workbench.config.evaluate import EvaluateConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import DeviceError
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.models.checkpoints.placement import device_map
from workbench.models.loading import load_model

CUDA = torch.device("cuda", 0)
NF4 = QuantizationConfig(method=QuantizationMethod.nf4)


@pytest.fixture
def gpus(monkeypatch):
    """Let the machine have GPUs with these numbers of free bytes."""

    def set_free(*free):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index=0: (free[int(index)], max(free)))

    return set_free


@pytest.fixture
def folder(tmp_path):
    """A model of a million bytes, by its file's size."""
    (tmp_path / "model.safetensors").write_bytes(bytes(1_000_000))
    return tmp_path


def planned(folder, quantization=PLAIN, dtype=torch.bfloat16):
    return device_map(folder, quantization, dtype, torch.bfloat16, CUDA)


def test_a_model_that_fits_on_one_gpu_stays_there(folder, gpus):
    gpus(1_200_000, 1_200_000)
    assert planned(folder) == {"": CUDA}


def test_a_model_that_fits_on_two_only_is_split(folder, gpus, caplog):
    caplog.set_level("INFO", "workbench")
    gpus(800_000, 800_000)
    assert planned(folder) == "auto"
    assert "its layers are split over 2 GPUs" in caplog.text
    assert planned(folder, NF4) == {"": CUDA}  # half a byte a weight


def test_a_model_that_fits_on_none_is_refused_before_it_is_loaded(folder, gpus):
    gpus(400_000, 500_000)
    with pytest.raises(DeviceError, match=r"weights don't fit \(GPU 0: .* GPU 1: .*quantization=nf4"):
        planned(folder)
    gpus(400_000)
    with pytest.raises(DeviceError, match="weights don't fit"):
        planned(folder)
    gpus(1_900_000)
    with pytest.raises(DeviceError, match="weights don't fit"):
        planned(folder, dtype=torch.float32)


def test_a_process_of_several_takes_its_own_gpu(folder, gpus, monkeypatch):
    gpus(800_000, 1_200_000)
    monkeypatch.setenv("WORLD_SIZE", "2")
    own = torch.device("cuda", 1)
    assert device_map(folder, PLAIN, torch.bfloat16, torch.bfloat16, own) == {"": own}
    with pytest.raises(DeviceError, match="GPU 0"):
        planned(folder)


def test_on_a_cpu_nothing_is_planned(folder):
    device = torch.device("cpu")
    assert device_map(folder, PLAIN, torch.float32, torch.float32, device) == {"": device}


def test_a_split_model_scores_as_a_whole_one(tmp_path):
    """Its layers are called through accelerate's hooks, as on several GPUs."""
    llama().save_pretrained(tmp_path)
    requests = [TokenRequest((5, 6, 7, *range(8, 20), choice), 15) for choice in (3, 4, 9)]

    def scores(model):
        engine = TransformersLM(model, words_tokenizer(), EvaluateConfig(max_length=30))
        return [each.loglikelihood for each in engine.loglikelihoods(requests)]

    whole, split = load_model(at(tmp_path), PLAIN), load_model(at(tmp_path), PLAIN)
    places = {name: "cpu" for name, _ in split.model.named_children() if name != "layers"}
    layers = {f"model.layers.{index}": "cpu" for index in range(len(split.model.layers))}
    placed = {**{f"model.{name}": place for name, place in places.items()}, **layers, "lm_head": "cpu"}
    split = dispatch_model(split, placed, main_device="cpu", force_hooks=True)
    assert any(hasattr(module, "_hf_hook") for module in split.modules())
    assert scores(split) == pytest.approx(scores(whole), abs=1e-5)


@pytest.mark.parametrize(("rank", "count", "devices"), [(0, 0, []), (0, 2, [0]), (1, 2, [1])])
def test_the_random_state_of_the_own_gpu_alone_is_forked(monkeypatch, rank, count, devices):
    forked = []

    @contextlib.contextmanager
    def fork_rng(devices=None):
        forked.append(devices)
        yield

    monkeypatch.setenv("LOCAL_RANK", str(rank))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.random, "fork_rng", fork_rng)
    with contexts.forked_random_state():
        pass
    assert forked == [devices]


def test_no_file_forks_the_random_states_of_all_gpus():
    package = Path(contexts.__file__).parent
    assert [path for path in package.rglob("*.py") if "fork_rng()" in path.read_text(encoding="utf-8")] == []
