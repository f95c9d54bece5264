"""GGUF files come in as transformers reads them, and with what transformers overlooks."""

import shutil

import numpy as np
import pytest
import torch
from tiny_checkpoints import IDS, LLAMA3, PLAIN, at, llama, logits, write_gguf
from transformers import AutoTokenizer, GgufConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from workbench.config.model import Architecture, Dtype, Task
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import CheckpointError
from workbench.models.loading import load_model, load_tokenizer
from workbench.models.quantization import Linear4bit

FORMS = [{}, {"num_key_value_heads": 2}, {"tie_word_embeddings": True}]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_gguf(llama(num_key_value_heads=2), tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def by_transformers(file):
    options = dict(dtype=torch.float32, quantization_config=GgufConfig(dequantize=True))
    return LlamaForCausalLM.from_pretrained(file.parent, gguf_file=file.name, **options)


def refusal(file):
    with pytest.raises(CheckpointError) as caught:
        load_model(at(file), PLAIN)
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("fields", FORMS, ids=str)
def test_a_gguf_file_gives_what_transformers_reads_from_it(tmp_path, fields):
    file = write_gguf(llama(**fields), tmp_path / "tiny.gguf")
    reference, model = by_transformers(file), load_model(at(file, dtype=Dtype.float32), PLAIN)
    weights = model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in reference.state_dict().items())
    torch.testing.assert_close(logits(model), logits(reference), rtol=0, atol=1e-5)
    assert model.config.rms_norm_eps == reference.config.rms_norm_eps
    assert model.config.ties_embeddings == fields.get("tie_word_embeddings", False)


def test_a_gguf_file_is_close_to_the_model_it_was_made_from(file):
    made, model = llama(num_key_value_heads=2), load_model(at(file, dtype=Dtype.float32), PLAIN)
    assert (logits(model) - logits(made)).abs().max() < 0.05 * logits(made).abs().max()


def test_dtype_auto_is_bfloat16_for_a_gguf_file(file):
    assert load_model(at(file), PLAIN).dtype == torch.bfloat16


def test_a_gguf_file_is_quantized_anew_without_an_intermediate_folder(file):
    model = load_model(at(file, dtype=Dtype.float32), QuantizationConfig(method=QuantizationMethod.nf4))
    assert isinstance(model.model.layers[0].mlp.up_proj, Linear4bit)
    assert sorted(path.name for path in file.parent.iterdir()) == ["tiny.gguf"]


def test_a_gguf_file_becomes_a_classifier(file):
    model = load_model(at(file, task=Task.sequence_classification), PLAIN, num_labels=3)
    assert model(IDS, attention_mask=torch.ones_like(IDS)).logits.shape == (2, 3)


@pytest.mark.parametrize("method", ["none", "nf4"])
def test_a_gguf_file_comes_in_natively(file, method):
    quantization = QuantizationConfig(method=QuantizationMethod[method])
    model = load_model(at(file, architecture=Architecture.native, dtype=Dtype.float32), quantization)
    assert isinstance(model, LlamaForCausalLM)
    own = load_model(at(file, dtype=Dtype.float32), quantization)
    torch.testing.assert_close(logits(model), logits(own), rtol=0, atol=1e-4)


def test_the_rope_of_llama_3_is_recovered_from_its_factors(tmp_path):
    made = llama(rope_parameters=LLAMA3)
    plain = llama(rope_parameters={"rope_type": "default", "rope_theta": LLAMA3["rope_theta"]})
    factors = LlamaRotaryEmbedding(plain.config).inv_freq / LlamaRotaryEmbedding(made.config).inv_freq
    file = write_gguf(made, tmp_path / "tiny.gguf", {"rope_freqs.weight": factors.numpy()})
    model = load_model(at(file, dtype=Dtype.float32), PLAIN)
    rope = model.config.rope_parameters
    assert {name: rope[name] for name in LLAMA3} == LLAMA3
    found, wanted = model.model.rotary_emb.inv_freq, LlamaRotaryEmbedding(made.config).inv_freq
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    factors[3] *= 1.01
    write_gguf(made, file, {"rope_freqs.weight": factors.numpy()})
    assert "rope_freqs.weight" in refusal(file)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        (
            {"type": "yarn", "factor": 4.0, "original_context_length": 9},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 9},
        ),
        ({"type": "none"}, {"rope_type": "default"}),
    ],
    ids=str,
)
def test_rope_scaling_in_the_metadata_is_kept(tmp_path, keys, expected):
    scaling = {f"rope.scaling.{key}": value for key, value in keys.items()}
    file = write_gguf(llama(), tmp_path / "tiny.gguf", scaling)
    rope = load_model(at(file), PLAIN).config.rope_parameters
    assert {name: rope[name] for name in expected} == expected


@pytest.mark.parametrize(
    "extra",
    [
        {"blk.0.ffn_gate_inp.weight": np.ones((8, 64), np.float32)},
        {"expert_count": 8},
        {"attention.sliding_window": 16},
        {"attention.key_length": 32, "rope.dimension_count": 32, "attention.value_length": 16},
        {"logit_scale": 2.0},
        {"attention.scale": 0.1},
        {"attn_logit_softcapping": 50.0},
        {"final_logit_softcapping": 30.0},
        {"attention.clamp_kqv": 8.0},
        {"attention.value_length": 8},
        {"rope.dimension_count": 8},
        {"rope.scaling.attn_factor": 2.0},
        {"rope.scaling.type": "longrope"},
    ],
    ids=lambda extra: " ".join(extra),
)
def test_what_open_llama_cannot_express_is_refused_by_name(tmp_path, extra):
    message = refusal(write_gguf(llama(), tmp_path / "tiny.gguf", extra))
    assert list(extra)[-1] in message


@pytest.mark.parametrize("keep", [0, 3, 30, 0.1, 0.5, 0.9])
def test_a_truncated_gguf_file_is_named(file, tmp_path, keep):
    content = file.read_bytes()
    short = tmp_path / "short.gguf"
    short.write_bytes(content[: keep if keep > 1 or keep == 0 else int(keep * len(content))])
    assert "truncated, damaged or not a GGUF file" in refusal(short)


def test_another_architecture_is_refused_by_name(file, tmp_path):
    other = tmp_path / "other.gguf"
    other.write_bytes(file.read_bytes().replace(b"llama", b"gemma"))
    assert "'gemma'" in refusal(other)


def test_the_tokenizer_of_a_gguf_file_is_that_of_transformers_without_its_additions(file):
    reference = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer = load_tokenizer(at(file))
    text = "the <s> thin !!"
    assert tokenizer.encode(text) == reference.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer) == 96
    assert "<|endoftext|>" in reference.get_vocab()  # the day it isn't, gguf.read_tokenizer gets shorter
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)


def test_a_folder_with_a_gguf_file_says_to_name_it(file, tmp_path):
    shutil.copy(file, tmp_path)
    assert "name the file: tiny.gguf" in refusal(tmp_path)
