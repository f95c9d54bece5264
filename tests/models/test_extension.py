"""A model with more tokens: the old rows as they were, the new ones the mean of what spelled them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import TINY
from transformers import LlamaForCausalLM

from workbench.config.adapter import AdapterConfig
from workbench.config.merge import MergeConfig
from workbench.config.model import ModelConfig
from workbench.config.publishing.export import ExportConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.config.tokenizer import TokenizerConfig
from workbench.errors import ConfigError
from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM
from workbench.models.adapters import attach
from workbench.models.export import export
from workbench.models.loading import load_model, load_tokenizer
from workbench.models.merging.merge import merge
from workbench.models.tokenizers import learn_vocabulary
from workbench.models.tokenizers.load_tokenizer import read_tokenizer
from workbench.models.vocabulary_resize import extend_model

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

TOY = Path(__file__).parents[2] / "workbench" / "toy" / "base"
CHINESE = ["人工智能正在改变我们的生活，人工智能也在改变世界。", "今天天气很好，我们去公园散步。"] * 8
WAYS = {
    "shared": {},
    "tied": {"shared_input_output_embedding": False, "tie_word_embeddings": True},
    "untied": {"shared_input_output_embedding": False},
    "plain": {"shared_input_output_embedding": False, "use_stable_embedding": False},
}
NEW = 20


def extended(folder, spare=0, dtype=torch.float32, **fields):
    """A small model whose embedding has `spare` rows too many, and its extension by NEW tokens."""
    old = read_tokenizer(TOY)
    torch.manual_seed(3)
    switches = {"hidden_dropout_prob": 0.0, "attention_dropout_prob": 0.0, **fields}
    config = OpenLlamaConfig(**{**TINY, "vocab_size": len(old) + spare, **switches})
    made = OpenLlamaForCausalLM(config).to(dtype)
    for name, weight in made.named_parameters():
        weight.data.normal_(0, 0.3).add_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    made.save_pretrained(folder / "old")
    old.save_pretrained(folder / "old")
    section = ModelConfig(path=str(folder / "old"))
    new = learn_vocabulary.extend(old, CHINESE, None, TokenizerConfig(num_new_tokens=NEW), folder / "new")
    assert extend_model(section, old, new, folder / "new", "4GB") == NEW
    return made, old, new, ModelConfig(path=str(folder / "new"))


def adapted(section, quantization=None, **fields):
    """The extended model with an adapter whose every part is random."""
    base = load_model(section, quantization or QuantizationConfig())
    made = attach.attach(base, AdapterConfig(rank=4, **fields), seed=0)
    torch.manual_seed(5)
    for name, weight in made.named_parameters():
        if weight.requires_grad:
            weight.data.add_(torch.randn_like(weight), alpha=0.3 if "token" in name else 0.05)
    return made


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spare", [0, 9])
def test_old_rows_stay_and_new_ones_are_the_mean_of_what_spelled_them(way, spare, tmp_path):
    made, old, new, section = extended(tmp_path, spare, **WAYS[way])
    loaded = load_model(section, QuantizationConfig())
    parts = learn_vocabulary.subpieces(old, new)
    for before, after in (
        (made.model.embed_tokens.weight, loaded.model.embed_tokens.weight),
        (made.lm_head.weight, loaded.lm_head.weight),
    ):
        assert torch.equal(after[: len(old)], before[: len(old)])
        assert len(after) == len(old) + max(spare, NEW)
        for index, ids in parts.items():
            torch.testing.assert_close(after[index], before[ids].mean(0))
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == (way in ("shared", "tied"))
    ids = torch.tensor([old("old text").input_ids])
    logits = made(ids).logits
    torch.testing.assert_close(loaded(ids).logits[..., : len(old)], logits[..., : len(old)])
    assert len(load_tokenizer(section)) == len(new)


def test_files_that_were_not_extended_are_the_same_bytes(tmp_path):
    extended(tmp_path, dtype=torch.bfloat16)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("old", "new"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before if "embed_tokens" not in name)
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("quantized", [False, True])
def test_training_moves_the_new_rows_and_no_old_one(way, quantized, tmp_path):
    _, old, new, section = extended(tmp_path, **WAYS[way])
    quantization = QuantizationConfig(method=QuantizationMethod.nf4 if quantized else QuantizationMethod.none)
    made = attach.attach(load_model(section, quantization), AdapterConfig(rank=4), seed=0).train()
    before = {
        name: end.weight.detach().clone()
        for name, end in (("in", made.get_input_embeddings()), ("out", made.get_output_embeddings()))
    }
    ids = torch.tensor([new(CHINESE[0]).input_ids])
    optimizer = torch.optim.SGD([each for each in made.parameters() if each.requires_grad], lr=0.02)
    losses = []
    for _ in range(3):
        loss = made(input_ids=ids, labels=ids).loss
        losses.append(float(loss.detach()))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    for name, end in (("in", made.get_input_embeddings()), ("out", made.get_output_embeddings())):
        after = end.weight.detach()
        assert torch.equal(after[: len(old)], before[name][: len(old)])
        moved = (after[len(old) :] != before[name][len(old) :]).any(1)
        # An input row moves where its token is read, an output row at every prediction.
        used = sorted(set(ids[0].tolist()) & set(range(len(old), len(new))))
        assert used
        wanted = (
            [index - len(old) for index in used]
            if (way, name) in {("untied", "in"), ("plain", "in")}
            else None
        )
        assert moved.nonzero().flatten().tolist() == (wanted if wanted is not None else list(range(NEW)))


@pytest.mark.parametrize("way", WAYS)
def test_saved_and_loaded_it_is_the_same_adapter(way, tmp_path):
    *_, new, section = extended(tmp_path, **WAYS[way])
    made = adapted(section)
    attach.save(made, tmp_path / "adapter")
    again = attach.load(load_model(section, QuantizationConfig()), tmp_path / "adapter")
    ids = torch.tensor([new(CHINESE[0]).input_ids])
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, made(input_ids=ids).logits)
        with again.disable_adapter():
            wanted = load_model(section, QuantizationConfig())(input_ids=ids).logits
            assert torch.equal(again(input_ids=ids).logits, wanted)


@pytest.mark.parametrize("method", ["none", "nf4", "int8"])
@pytest.mark.parametrize("way", WAYS)
def test_a_merge_is_proven_and_exported_as_llama(way, method, tmp_path):
    *_, new, section = extended(tmp_path, **WAYS[way])
    quantization = QuantizationConfig(method=QuantizationMethod[method])
    made = adapted(section, quantization)
    attach.save(made, tmp_path / "adapter")
    merge(section, tmp_path / "adapter", MergeConfig(), quantization, tmp_path / "merged", CHINESE[:2])
    ids = torch.tensor([new(CHINESE[0]).input_ids])
    merged = ModelConfig(path=str(tmp_path / "merged"))
    with torch.no_grad():
        wanted = load_model(merged, QuantizationConfig())(input_ids=ids).logits
        torch.testing.assert_close(made(input_ids=ids).logits, wanted, atol=2e-3, rtol=1e-3)
        export(merged, ExportConfig(), tmp_path / "llama")
        llama = LlamaForCausalLM.from_pretrained(tmp_path / "llama")
        rounding = 1e-5 * float(wanted.abs().max())  # float32 adds up in an order that the processor chooses
        torch.testing.assert_close(llama(input_ids=ids).logits, wanted, atol=rounding, rtol=0)
    assert len(load_tokenizer(merged)) == len(new)


def test_the_loss_in_train_mode_is_the_plain_one(tmp_path):
    *_, new, section = extended(tmp_path)
    made = adapted(section)
    ids = torch.tensor([new(CHINESE[0]).input_ids])
    plain = made.eval()(input_ids=ids, labels=ids).loss
    torch.testing.assert_close(made.train()(input_ids=ids, labels=ids).loss, plain)
    with made.disable_adapter():
        without = made.train()(input_ids=ids, labels=ids).loss
    assert abs(without - plain) > 0.01


def test_rows_can_be_trained_without_an_extension_and_an_extension_without_its_rows(tmp_path):
    _, _, new, section = extended(tmp_path)
    made = adapted(section, trainable_tokens_from=len(new))
    assert not [name for name in attach.state_dict(made) if "token" in name]
    chosen = adapted(ModelConfig(path=str(tmp_path / "old")), trainable_tokens_from=600)
    [rows] = [tensor for name, tensor in attach.state_dict(chosen).items() if "token" in name]
    assert len(rows) == len(new) - NEW - 600
    with pytest.raises(ConfigError, match="adapter.trainable_tokens_from: 9999 is too large"):
        adapted(section, trainable_tokens_from=9999)


def test_the_configuration_says_where_the_extension_begins(tmp_path):
    _, old, new, section = extended(tmp_path)
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert (config["extended_from"], config["vocab_size"]) == (len(old), len(old) + NEW)
    more = learn_vocabulary.extend(
        new, ["龘龘 饕餮"] * 9, None, TokenizerConfig(num_new_tokens=5), tmp_path / "more"
    )
    assert extend_model(section, new, more, tmp_path / "more", "4GB") == 5
    config = json.loads((tmp_path / "more" / "config.json").read_text())
    assert (config["extended_from"], config["vocab_size"]) == (len(old), len(old) + NEW + 5)
