"""Merges of whole tiny models of one base, read back from the folder that was written."""

import json

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from workbench.config.merge import MergeConfig, MergeDtype, WeightedPart
from workbench.config.merge_method import MergeMethod
from workbench.config.model import ModelConfig
from workbench.errors import CheckpointError, ConfigError
from workbench.models import OpenLlamaForCausalLM
from workbench.models.combining import combine_models as combining
from workbench.models.combining.combine_models import combine_models


def saved(folder, *, moved=0.0, seed=0, dtype=torch.float32, **fields):
    """A base, or with `moved` a model tuned from it."""
    model = tiny.model(**fields)
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.data += moved * torch.randn(weight.shape, generator=generator)
    model.to(dtype).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def three(tmp_path):
    base = saved(tmp_path / "base")
    return base, [saved(tmp_path / str(seed), moved=0.05, seed=seed) for seed in (1, 2)]


def section(paths, weights=None, method=None, **fields):
    weights = weights or [1.0] * len(paths)
    models = [WeightedPart(path=path, weight=weight) for path, weight in zip(paths, weights, strict=True)]
    return MergeConfig(models=models, method=method and MergeMethod[method], **fields)


def tensors(folder):
    return {
        name: tensor.double()
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def test_task_arithmetic_of_models_is_the_base_and_the_weighted_differences(tmp_path, three):
    base, models = three
    report = combine_models(ModelConfig(path=base), section(models, [0.5, -0.25]), tmp_path / "merged")
    before, first, second = (tensors(tmp_path / name) for name in ("base", "1", "2"))
    merged = tensors(tmp_path / "merged")
    assert merged.keys() == before.keys()
    for name, tensor in before.items():
        expected = tensor + 0.5 * (first[name] - tensor) - 0.25 * (second[name] - tensor)
        assert torch.allclose(merged[name], expected, rtol=0, atol=1e-6), name
    assert report.kept == pytest.approx(1.0, abs=1e-4)


def test_the_merged_folder_loads_and_its_logits_lie_between(tmp_path, three):
    base, models = three
    combine_models(ModelConfig(path=base), section(models, method="linear"), tmp_path / "merged")
    merged = OpenLlamaForCausalLM.from_pretrained(tmp_path / "merged").eval()
    expected = tiny.model()
    states = [tensors(tmp_path / name) for name in ("1", "2")]
    expected.load_state_dict({name: ((states[0][name] + states[1][name]) / 2).float() for name in states[0]})
    with torch.no_grad():
        logits = [model(tiny.tokens()).logits for model in (merged, expected)]
    assert torch.allclose(*logits, rtol=0, atol=1e-4)


def test_one_model_with_weight_one_is_that_model(tmp_path, three):
    base, models = three
    combine_models(ModelConfig(path=base), section(models[:1]), tmp_path / "merged")
    alone, merged = tensors(tmp_path / "1"), tensors(tmp_path / "merged")
    assert all(torch.allclose(merged[name], alone[name], rtol=0, atol=1e-6) for name in alone)


def test_slerp_starts_at_the_first_model(tmp_path, three):
    base, models = three
    combine_models(ModelConfig(path=base), section(models, method="slerp", t=0.0), tmp_path / "merged")
    first, merged = tensors(tmp_path / "1"), tensors(tmp_path / "merged")
    assert all(torch.allclose(merged[name], first[name], rtol=0, atol=1e-6) for name in first)


def test_several_files_hold_what_one_file_holds(tmp_path, three, monkeypatch):
    base, models = three
    merge = section(models, method="ties", density=0.4)
    combine_models(ModelConfig(path=base), merge, tmp_path / "one")
    monkeypatch.setattr(combining, "MAX_SHARD_BYTES", 20_000)
    combine_models(ModelConfig(path=base), merge, tmp_path / "many")
    one, many = tensors(tmp_path / "one"), tensors(tmp_path / "many")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    assert one.keys() == many.keys() and all(torch.equal(one[name], many[name]) for name in one)


def test_the_dtype_is_the_bases_or_the_named_one(tmp_path):
    base = saved(tmp_path / "base", dtype=torch.bfloat16)
    models = [saved(tmp_path / "1", moved=0.05, seed=1, dtype=torch.bfloat16)]
    for name in ("auto", "float32"):
        merge = section(models, [0.5], dtype=MergeDtype[name])
        combine_models(ModelConfig(path=base), merge, tmp_path / name)
    dtypes = [
        {tensor.dtype for tensor in load_file(tmp_path / name / "model.safetensors").values()}
        for name in ("auto", "float32")
    ]
    assert dtypes == [{torch.bfloat16}, {torch.float32}]
    assert json.loads((tmp_path / "float32" / "config.json").read_text())["dtype"] == "float32"


def test_a_change_that_rounding_erases_is_refused_and_nothing_is_written(tmp_path):
    base = saved(tmp_path / "base", dtype=torch.bfloat16)
    models = [saved(tmp_path / "1", moved=0.05, seed=1, dtype=torch.bfloat16)]
    with pytest.raises(
        ConfigError,
        match="merge.dtype: rounding to the dtype of the base leaves .* of what the merge changes",
    ):
        combine_models(ModelConfig(path=base), section(models, [0.001]), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_models_equal_to_the_base_are_refused(tmp_path, three):
    base, _ = three
    with pytest.raises(ConfigError, match="merge.models: their merge equals the base"):
        combine_models(ModelConfig(path=base), section([saved(tmp_path / "same")]), tmp_path / "merged")


def without_a_tensor(folder):
    file = folder / "model.safetensors"
    held = load_file(file)
    held.pop("model.norm.weight")
    save_file(held, file, metadata={"format": "pt"})


FAULTS = {
    "width": ({"hidden_size": 64}, "hidden_size=64 instead of 32"),
    "layers": ({"num_hidden_layers": 3}, "num_hidden_layers=3 instead of 2"),
    "vocabulary": ({"vocab_size": 120}, r"is \[120, 32\] in '.*other' and \[101, 32\] in the base"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_of_another_base_is_refused_by_name(tmp_path, three, fault):
    base, models = three
    fields, said = FAULTS[fault]
    merge = section([*models, saved(tmp_path / "other", **fields)])
    with pytest.raises(CheckpointError, match=said):
        combine_models(ModelConfig(path=base), merge, tmp_path / "merged")


def test_a_missing_tensor_is_named(tmp_path, three):
    base, models = three
    without_a_tensor(tmp_path / "2")
    with pytest.raises(CheckpointError, match="model.norm.weight is in the base and not in '.*2'"):
        combine_models(ModelConfig(path=base), section(models), tmp_path / "merged")


def with_a_head(folder, head, *, tied):
    """The folder with a stored output head, as config.json says tied to the embedding or not."""
    file, config = folder / "model.safetensors", folder / "config.json"
    save_file(load_file(file) | {"lm_head.weight": head}, file, metadata={"format": "pt"})
    fields = {"tie_word_embeddings": tied, "shared_input_output_embedding": tied}
    config.write_text(json.dumps(json.loads(config.read_text()) | fields))


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        ("2", r"'.*2' has an lm_head.weight of its own, and in the base it is tied .*leave '.*2' out, or"),
        (
            "base",
            r"the base has an lm_head.weight of its own, and in '.*1' it is tied .*leave '.*1' out, or",
        ),
    ],
)
def test_a_head_of_its_own_among_tied_ones_is_refused_with_the_way_out(tmp_path, three, owner, message):
    base, models = three
    with_a_head(tmp_path / owner, torch.randn(101, 32), tied=False)
    with pytest.raises(CheckpointError, match=f"merge.models: {message}") as caught:
        combine_models(ModelConfig(path=base), section(models), tmp_path / "merged")
    assert "\n" not in str(caught.value) and not (tmp_path / "merged").exists()


def test_a_tied_head_that_some_files_store_twice_is_merged_once(tmp_path, three):
    base, models = three
    combine_models(ModelConfig(path=base), section(models), tmp_path / "once")
    embedding = load_file(tmp_path / "2" / "model.safetensors")["model.embed_tokens.weight"]
    with_a_head(tmp_path / "2", embedding.clone(), tied=True)
    combine_models(ModelConfig(path=base), section(models), tmp_path / "twice")
    once, twice = tensors(tmp_path / "once"), tensors(tmp_path / "twice")
    assert once.keys() == twice.keys() and all(torch.equal(once[name], twice[name]) for name in once)
    with_a_head(tmp_path / "2", 2 * embedding, tied=True)
    with pytest.raises(CheckpointError, match="lm_head.weight differs from .*, but config.json ties them"):
        combine_models(ModelConfig(path=base), section(models), tmp_path / "other")


def test_a_folder_without_weights_is_refused_with_the_way_out(tmp_path, three):
    base, models = three
    (tmp_path / "2" / "model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"'.*2' has no weights of transformers.*recipe=export writes such"
    ):
        combine_models(ModelConfig(path=base), section(models), tmp_path / "merged")


def test_what_rounding_leaves_is_what_numpy_computes(tmp_path):
    base = saved(tmp_path / "base", dtype=torch.bfloat16)
    models = [saved(tmp_path / "1", moved=0.05, seed=1, dtype=torch.float32)]
    report = combine_models(ModelConfig(path=base), section(models, [0.03]), tmp_path / "merged")
    before, tuned, merged = (tensors(tmp_path / name) for name in ("base", "1", "merged"))
    exact = {name: before[name] + 0.03 * (tuned[name] - before[name]) for name in before}
    change, left = (
        torch.cat([(after[name] - before[name]).flatten() for name in before]) for after in (exact, merged)
    )
    assert report.kept == pytest.approx(float(left @ change / (change @ change)), rel=1e-3)
    assert report.error == pytest.approx(float((left - change).norm() / change.norm()), rel=1e-3)
    assert report.kept > 0.5 and 0.3 < report.error < 0.9  # a change that rounding blurs
