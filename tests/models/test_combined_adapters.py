"""Combinations of real LoRA adapters, against the sum of their updates and peft's own combination."""

import json
import math

import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from workbench.config.merge import MergeConfig, WeightedPart
from workbench.config.merge_method import MergeMethod
from workbench.errors import CheckpointError, ConfigError
from workbench.models import OpenLlamaForCausalLM
from workbench.models.combining.combine_adapters import combine_adapters, layer_seed

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning"),
]


def made(folder, seed, **fields):
    """An adapter that peft saves, with every tensor moved."""
    settings = {"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "up_proj"]}
    model = get_peft_model(tiny.model(), LoraConfig(**(settings | fields)))
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.1
    model.save_pretrained(folder)
    return str(folder)


def section(paths, weights, method=None, **fields):
    adapters = [WeightedPart(path=path, weight=weight) for path, weight in zip(paths, weights, strict=True)]
    return MergeConfig(adapters=adapters, method=method and MergeMethod[method], **fields)


def updates(folder):
    """Layer -> scale * B A in float64, computed from the adapter's files alone."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    result = {}
    for name in tensors:
        if not name.endswith(("lora_A.weight", "lora_embedding_A")):
            continue
        layer = name.removeprefix("base_model.model.").rpartition(".lora_")[0]
        down, up = tensors[name].double(), tensors[name.replace("_A", "_B")].double()
        alphas = [value for key, value in config["alpha_pattern"].items() if layer.endswith(key)]
        rank = down.shape[0]
        scale = (alphas or [config["lora_alpha"]])[0] / (math.sqrt(rank) if config["use_rslora"] else rank)
        result[layer] = scale * up @ down
    return result


def peft_updates(folders):
    """Layer -> update of the first folder's adapter, as peft loads and computes it."""
    model = PeftModel.from_pretrained(tiny.model(), folders)
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }


def weighted_sum(folders, weights):
    total = {}
    for folder, weight in zip(folders, weights, strict=True):
        for layer, update in updates(folder).items():
            total[layer] = total.get(layer, 0) + weight * update
    return total


PAIRS = {
    "plain": ({}, {}),
    "rslora": ({"use_rslora": True}, {"use_rslora": True}),
    "rslora and plain": ({}, {"use_rslora": True}),
    "ranks": ({"r": 2}, {"r": 6}),
    "other layers": ({"target_modules": ["q_proj"]}, {"target_modules": ["down_proj", "q_proj"]}),
    "a pattern and a list": ({"target_modules": r".*\.v_proj"}, {"target_modules": ["o_proj", "v_proj"]}),
    "one decoder layer": ({"layers_to_transform": [1]}, {}),
    "patterns": ({"rank_pattern": {"q_proj": 3}, "alpha_pattern": {"up_proj": 11}}, {"lora_alpha": 1}),
    "an embedding": ({"target_modules": ["embed_tokens", "q_proj"]}, {"target_modules": ["embed_tokens"]}),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("method", ["cat", "svd"])
def test_cat_and_svd_of_full_rank_are_the_weighted_sum_of_the_updates(tmp_path, pair, method):
    folders = [tmp_path / "a", tmp_path / "b"]
    for seed, (folder, fields) in enumerate(zip(folders, PAIRS[pair], strict=True)):
        made(folder, seed, **fields)
    weights = [0.7, -1.3]
    rank = 12 if method == "svd" else None
    merge = section(map(str, folders), weights, method, rank=rank)
    report = combine_adapters(None, merge, tmp_path / "both")
    expected = weighted_sum(folders, weights)
    combined = {name: update.double() for name, update in peft_updates(tmp_path / "both").items()}
    assert combined.keys() == expected.keys()
    for name, update in expected.items():
        got = combined[name].T if "embed" in name else combined[name]
        assert torch.allclose(got, update, rtol=0, atol=1e-6), name
    assert report.difference < 1e-6


APART = ["linear", "ties", "magnitude_prune"]
TOGETHER = ["svd", "ties_svd", "magnitude_prune_svd"]
DARE = ["dare_linear", "dare_linear_svd", "dare_ties", "dare_ties_svd"]


def combined_by_peft(folders, weights, method, rank, density, seed=0):
    model = PeftModel.from_pretrained(tiny.model(), folders[0], adapter_name="0")
    for number, folder in enumerate(folders[1:], 1):
        model.load_adapter(folder, str(number))
    torch.manual_seed(seed)
    names = [str(number) for number in range(len(folders))]
    model.add_weighted_adapter(
        names, weights, "both", combination_type=method, svd_rank=rank, density=density
    )
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("both").detach()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }


@pytest.mark.parametrize("method", APART + TOGETHER)
def test_other_methods_are_pefts_own(tmp_path, method):
    folders = [made(tmp_path / str(seed), seed) for seed in range(3)]
    weights = [0.5, 1.5, -0.4]
    density = 0.4 if "ties" in method or "prune" in method else None
    rank = 5 if "svd" in method else None
    expected = combined_by_peft(folders, weights, method, rank, density)
    combine_adapters(None, section(folders, weights, method, rank=rank, density=density), tmp_path / "all")
    combined = peft_updates(tmp_path / "all")
    assert combined.keys() == expected.keys()
    for name, update in expected.items():
        assert torch.allclose(combined[name], update, rtol=0, atol=1e-5), name


@pytest.mark.parametrize("method", DARE)
def test_dare_is_pefts_own_with_the_layers_seed(tmp_path, method):
    layer = "model.layers.1.self_attn.q_proj"
    folders = [made(tmp_path / str(seed), seed, target_modules=rf"{layer}") for seed in range(2)]
    rank = 8 if "svd" in method else None
    expected = combined_by_peft(folders, [0.5, 1.5], method, rank, 0.5, layer_seed(3, layer))
    merge = section(folders, [0.5, 1.5], method, rank=rank, density=0.5, seed=3)
    combine_adapters(None, merge, tmp_path / "both")
    assert torch.allclose(peft_updates(tmp_path / "both")[layer], expected[layer], rtol=0, atol=1e-5)


def test_the_seed_of_dare_decides_the_bytes_and_leaves_the_random_state_alone(tmp_path):
    folders = [made(tmp_path / str(seed), seed) for seed in range(2)]
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    contents = []
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        merge = section(folders, [1.0, 1.0], "dare_linear", density=0.5, seed=seed)
        combine_adapters(None, merge, tmp_path / name)
        contents.append((tmp_path / name / "adapter_model.safetensors").read_bytes())
    assert contents[0] == contents[1] != contents[2]
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [2.0]])
def test_a_single_weight_scales_its_adapter(tmp_path, weights):
    folders = [tmp_path / str(seed) for seed in range(len(weights))]
    for seed, folder in enumerate(folders):
        made(folder, seed, use_rslora=True)
    combine_adapters(None, section(map(str, folders), weights), tmp_path / "scaled")
    expected = updates(folders[0])
    for name, update in peft_updates(tmp_path / "scaled").items():
        assert torch.allclose(update.double(), weights[0] * expected[name], rtol=0, atol=1e-6), name


def test_a_combination_of_equal_adapters_has_the_logits_of_one(tmp_path):
    folder = made(tmp_path / "a", 0)
    again = made(tmp_path / "b", 0)
    combine_adapters(None, section([folder, again], [0.25, 0.75]), tmp_path / "both")
    with torch.no_grad():
        alone, both = (
            PeftModel.from_pretrained(tiny.model(), path)(tiny.tokens()).logits
            for path in (folder, str(tmp_path / "both"))
        )
    assert torch.allclose(alone, both, rtol=0, atol=1e-4)


def test_the_report_says_how_far_linear_is_from_the_sum(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for seed, folder in enumerate(folders):
        made(folder, seed)
    report = combine_adapters(None, section(map(str, folders), [1.0, 1.0], "linear"), tmp_path / "both")
    expected, combined = weighted_sum(folders, [1.0, 1.0]), updates(tmp_path / "both")
    squares = [((combined[name] - total) ** 2).sum() for name, total in expected.items()]
    whole = sum((total**2).sum() for total in expected.values())
    assert report.difference == pytest.approx(float((sum(squares) / whole) ** 0.5), rel=1e-5)
    assert report.difference > 0.5


def edited(folder, **fields):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


REFUSED = {
    "dora": ({"use_dora": True}, "DoRA's magnitudes belong to its own sum"),
    "pissa": ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa' changes the base's own weights"),
    "biases": ({"bias": "all"}, "bias='all' changes the base's own weights"),
    "a module": ({"modules_to_save": ["lm_head"]}, "it trains whole modules"),
    "tokens": ({"trainable_token_indices": [3, 4]}, "it trains rows of an embedding"),
    "copies": ({"layer_replication": [(0, 2), (0, 2)]}, "it repeats layers of the base"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_a_and_b_do_not_describe_is_refused_by_name(tmp_path, fault):
    fields, reason = REFUSED[fault]
    folders = [made(tmp_path / "good", 0), made(tmp_path / "bad", 1, **fields)]
    with pytest.raises(
        CheckpointError, match=rf"merge.adapters: '.*bad' can't be combined: {reason}"
    ) as caught:
        combine_adapters(None, section(folders, [1.0, 1.0]), tmp_path / "both")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "both").exists()


@pytest.mark.parametrize("method", ["linear", "ties", "dare_linear", "magnitude_prune"])
def test_unequal_ranks_are_refused_with_the_way_out(tmp_path, method):
    folders = [made(tmp_path / "a", 0), made(tmp_path / "b", 1, rank_pattern={"up_proj": 2})]
    merge = section(folders, [1.0, 1.0], method, density=None if method == "linear" else 0.5)
    said = rf"merge.method: '{method}' needs equal ranks, and .*up_proj has rank 4 in '.*a' and 2 in '.*b' \("
    with pytest.raises(ConfigError, match=said + "choose cat"):
        combine_adapters(None, merge, tmp_path / "both")


def test_adapters_of_different_bases_are_refused_by_name(tmp_path):
    folders = [made(tmp_path / "a", 0), made(tmp_path / "b", 1)]
    edited(tmp_path / "a", base_model_name_or_path="org/llama-7b")
    edited(tmp_path / "b", base_model_name_or_path="/models/llama-7b")
    combine_adapters(None, section(folders, [1.0, 1.0]), tmp_path / "same")  # one model by two names
    edited(tmp_path / "b", base_model_name_or_path="org/llama-7b-chat")
    with pytest.raises(
        CheckpointError, match="'.*a' was trained on 'org/llama-7b' and '.*b' on 'org/llama-7b-ch"
    ):
        combine_adapters(None, section(folders, [1.0, 1.0]), tmp_path / "both")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "other"}, "different weights"),
        ({"quantization": {"method": "nf4"}}, r"different quantization \(none, {'method': 'nf4'}\)"),
        ({"dtype": "float32"}, r"different dtype \(bfloat16, float32\)"),
    ],
)
def test_adapters_that_were_trained_on_a_base_held_otherwise_are_refused(tmp_path, change, said):
    folders = [made(tmp_path / "a", 0), made(tmp_path / "b", 1)]
    record = {"fingerprint": "same", "dtype": "bfloat16", "quantization": {}}
    (tmp_path / "b" / "trained_on.json").write_text(json.dumps(record | change))
    parts = section(folders, [1.0, 1.0])
    combine_adapters(None, parts, tmp_path / "one-record")
    (tmp_path / "a" / "trained_on.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=said):
        combine_adapters(None, parts, tmp_path / "both")
    combine_adapters(None, parts, tmp_path / "both", accepts_base=True)
    assert json.loads((tmp_path / "both" / "trained_on.json").read_text()) == record


def test_another_width_is_refused_with_both_shapes(tmp_path):
    folders = [made(tmp_path / "a", 0), made(tmp_path / "b", 1)]
    file = tmp_path / "b" / "adapter_model.safetensors"
    wide = {
        name: torch.cat([tensor, tensor], 1 if "lora_A" in name else 0)
        for name, tensor in load_file(file).items()
        if "q_proj" in name
    }
    save_file(wide, file)
    with pytest.raises(CheckpointError, match=r"q_proj is 32 x 32 in '.*a' and 64 x 64 in '.*b'"):
        combine_adapters(None, section(folders, [1.0, 1.0]), tmp_path / "both")


@pytest.mark.parametrize("method", ["cat", "svd"])
def test_opposite_weights_of_one_adapter_are_refused_because_nothing_is_left(tmp_path, method):
    folders = [made(tmp_path / "a", 0), made(tmp_path / "b", 0)]
    with pytest.raises(ConfigError, match=f"their combination by {method} is zero, so it would do nothing"):
        combine_adapters(None, section(folders, [1.0, -1.0], method), tmp_path / "both")


MISTAKES = [
    ({"method": "ties"}, r"merge.density: not given, and merge.method=ties needs the share"),
    ({"density": 0.5}, r"merge.density: 0.5, but merge.method=cat keeps all values"),
    ({"rank": 8}, r"merge.rank: 8, but with merge.method=cat the adapters' ranks decide"),
    ({"method": "ties", "density": 0.0}, r"merge.density: 0.0 \(more than 0, at most 1, or null\)"),
]


@pytest.mark.parametrize("fields, said", MISTAKES)
def test_keys_that_contradict_each_other_are_refused(fields, said):
    with pytest.raises(ConfigError, match=said):
        section(["a", "b"], [1.0, 1.0], **fields)


def test_a_method_without_adapters_is_refused():
    with pytest.raises(ConfigError, match="merge.method: 'ties' needs merge.adapters or merge.models"):
        MergeConfig(method=MergeMethod.ties)


def test_an_adapter_listed_twice_is_refused():
    with pytest.raises(ConfigError, match="merge.adapters: 'a' is listed twice"):
        section(["a", "a"], [1.0, 1.0])


def test_a_combination_fits_the_open_llama_it_was_made_for(tmp_path):
    folders = [made(tmp_path / "a", 0), made(tmp_path / "b", 1)]
    combine_adapters(None, section(folders, [0.5, 0.5]), tmp_path / "both")
    assert isinstance(tiny.model(), OpenLlamaForCausalLM)
    config = json.loads((tmp_path / "both" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (8, 8, False)
