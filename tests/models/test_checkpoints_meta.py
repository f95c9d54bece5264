"""Folders as Meta released LLaMA come in exactly."""

import json

import pytest
import torch
import torch.nn.functional as F
from tiny_checkpoints import IDS, LLAMA3, PLAIN, VOCABULARY, at, llama, logits

from workbench.errors import CheckpointError
from workbench.models.loading import load_model

DIM, HEADS, GROUPS, LAYERS, EPS = 64, 4, 2, 2, 1e-5
ROWS, COLUMNS = ("wq", "wk", "wv", "w1", "w3", "output"), ("wo", "w2", "tok_embeddings")


def weights(vocabulary=VOCABULARY):
    """Random weights under Meta's names."""
    torch.manual_seed(0)
    group = DIM * GROUPS // HEADS
    layer = {
        "attention.wq": (DIM, DIM),
        "attention.wk": (group, DIM),
        "attention.wv": (group, DIM),
        "attention.wo": (DIM, DIM),
        "feed_forward.w1": (96, DIM),
        "feed_forward.w3": (96, DIM),
        "feed_forward.w2": (DIM, 96),
        "attention_norm": (DIM,),
        "ffn_norm": (DIM,),
    }
    shapes = {f"layers.{i}.{name}": shape for i in range(LAYERS) for name, shape in layer.items()}
    shapes |= {"tok_embeddings": (vocabulary, DIM), "norm": (DIM,), "output": (vocabulary, DIM)}
    return {f"{name}.weight": torch.randn(shape) * 0.15 + (len(shape) == 1) for name, shape in shapes.items()}


def write(folder, tensors, shards=1, by_vocabulary=False, **params):
    """The folder, its tensors split over `shards` files as Meta's model parallelism does."""
    base = dict(dim=DIM, n_heads=HEADS, n_kv_heads=GROUPS, n_layers=LAYERS, norm_eps=EPS, vocab_size=-1)
    (folder / "params.json").write_text(json.dumps(base | params))
    for shard in range(shards):
        part = {"rope.freqs": torch.zeros(8)}
        for name, tensor in tensors.items():
            kind = name.split(".")[-2]
            by_rows = kind in ROWS or (kind == "tok_embeddings" and by_vocabulary)
            dim = 0 if by_rows else 1 if kind in COLUMNS else None
            part[name] = tensor if dim is None else tensor.chunk(shards, dim)[shard].clone()
        torch.save(part, folder / f"consolidated.{shard:02}.pth")
    return folder


def flat(file):
    """The file's tensors with an embedding of one dimension."""
    return torch.load(file) | {"tok_embeddings.weight": torch.ones(3)}


def forward(tensors, ids):
    """LLaMA in Meta's own formulas: neighbouring pairs are one complex number, rotated by a product."""

    def norm(hidden, name):
        return hidden * (hidden.pow(2).mean(-1, keepdim=True) + EPS).rsqrt() * tensors[f"{name}.weight"]

    def linear(hidden, name):
        return hidden @ tensors[f"{name}.weight"].T

    def rotated(hidden):
        pairs = torch.view_as_complex(hidden.reshape(*hidden.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turns[:, None]).flatten(-2)

    width, length = DIM // HEADS, ids.shape[1]
    frequencies = 10000.0 ** -(torch.arange(0, width, 2) / width)
    turns = torch.polar(torch.ones(length, width // 2), torch.outer(torch.arange(length), frequencies))
    hidden = tensors["tok_embeddings.weight"][ids]
    for i in range(LAYERS):
        normed, attention = norm(hidden, f"layers.{i}.attention_norm"), f"layers.{i}.attention"
        query = linear(normed, f"{attention}.wq").view(*ids.shape, HEADS, width)
        projected = (linear(normed, f"{attention}.{name}") for name in ("wk", "wv"))
        key, value = (states.view(*ids.shape, GROUPS, width) for states in projected)
        key, value = (grouped.repeat_interleave(HEADS // GROUPS, 2) for grouped in (rotated(key), value))
        states = [state.transpose(1, 2) for state in (rotated(query), key, value)]
        mixed = F.scaled_dot_product_attention(*states, is_causal=True)
        hidden = hidden + linear(mixed.transpose(1, 2).flatten(-2), f"{attention}.wo")
        normed, mlp = norm(hidden, f"layers.{i}.ffn_norm"), f"layers.{i}.feed_forward"
        gated = F.silu(linear(normed, f"{mlp}.w1")) * linear(normed, f"{mlp}.w3")
        hidden = hidden + linear(gated, f"{mlp}.w2")
    return linear(norm(hidden, "norm"), "output")


@pytest.mark.parametrize("shards", [1, 2])
def test_metas_files_give_the_logits_of_metas_formulas(tmp_path, shards):
    tensors = weights()
    model = load_model(at(write(tmp_path, tensors, shards)), PLAIN)
    torch.testing.assert_close(logits(model), forward(tensors, IDS), rtol=0, atol=1e-5)


def test_llama_3_splits_the_vocabulary_and_scales_its_frequencies(tmp_path):
    tensors = weights()
    write(tmp_path, tensors, 2, by_vocabulary=True, rope_theta=LLAMA3["rope_theta"], use_scaled_rope=True)
    model = load_model(at(tmp_path), PLAIN)
    assert torch.equal(model.model.embed_tokens.weight, tensors["tok_embeddings.weight"])
    assert {name: model.config.rope_parameters[name] for name in LLAMA3} == LLAMA3


def test_an_extended_vocabulary_comes_in_whole(tmp_path):
    tensors = weights(VOCABULARY + 32)
    model = load_model(at(write(tmp_path, tensors, 2)), PLAIN)
    assert model.config.vocab_size == VOCABULARY + 32
    assert torch.equal(model.lm_head.weight, tensors["output.weight"])


def test_a_folder_that_llama_was_converted_to_is_not_mistaken_for_metas(tmp_path):
    llama().save_pretrained(tmp_path)
    (tmp_path / "params.json").write_text("{}")
    torch.testing.assert_close(logits(load_model(at(tmp_path), PLAIN)), logits(llama()), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda folder: (folder / "params.json").write_text("{}"),
            "dim, n_heads, n_layers, norm_eps missing",
        ),
        (lambda folder: (folder / "params.json").write_text("["), "params.json: not a JSON object"),
        (lambda folder: (folder / "params.json").write_text("[1]"), "params.json: not a JSON object"),
        (lambda folder: (folder / "consolidated.01.pth").write_bytes(b"PK"), "01.pth: truncated"),
        (
            lambda folder: torch.save({}, folder / "consolidated.01.pth"),
            "consolidated.01.pth: the tensor names differ",
        ),
        (lambda folder: [file.unlink() for file in folder.glob("*.pth")], "no weights"),
        (lambda folder: write(folder, weights() | {"layers.0.b.bias": torch.ones(1)}, 2), "layers.0.b.bias"),
        (lambda folder: write(folder, weights(), moe={"num_experts": 8}), "doesn't support moe"),
        (lambda folder: write(folder, {"norm.weight": torch.ones(DIM)}, 2), "no model.embed_tokens"),
        (lambda folder: write(folder, weights(), n_layers=1), "9 tensors unexpected: model.layers.1."),
        (lambda folder: write(folder, weights(), n_heads=0), "params.json: num_attention_heads"),
        (lambda folder: write(folder, weights(), rope_theta=None), "params.json: "),
        (lambda folder: write(folder, weights(), rope_theta="large"), "params.json: "),
        (lambda folder: write(folder, weights(), dim="wide"), "params.json: "),
        (lambda folder: [torch.save(flat(file), file) for file in folder.glob("*.pth")], "params.json: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_folder_is_one_line(tmp_path, change, said):
    write(tmp_path, weights(), 2)
    change(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        load_model(at(tmp_path), PLAIN)
    assert said in str(caught.value) and "\n" not in str(caught.value)
