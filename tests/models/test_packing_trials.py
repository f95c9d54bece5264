"""A trial finds out whether a model keeps the texts of a row apart, at all lengths of a training."""

import pytest
import torch
from causal_kinds import kind
from datasets import Dataset
from relatives import relative
from test_text_lengths import THRESHOLD, saved
from tiny_checkpoints import PLAIN, words_tokenizer
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from workbench.config.train import TrainConfig
from workbench.log_once import log_once
from workbench.models.loading import load_model
from workbench.training.fit import fit
from workbench.training.packing_support import packing_fault

WINDOW = 16


def planted(attend, **fields):
    """A model whose attention to packed texts, which have a mask, is `attend`."""

    def attention(module, query, key, value, mask, **kwargs):
        if mask is None:
            return sdpa_attention_forward(module, query, key, value, mask, **kwargs)
        return attend(module, query, key, value, mask, **kwargs)

    AttentionInterface.register("planted", attention)
    AttentionMaskInterface.register("planted", sdpa_mask)
    model = relative("qwen3", **fields)
    model.set_attn_implementation("planted")
    return model


def probabilities(query, key, mask, scaling, cap=None, num_sinks=0):
    scores = query @ key.repeat_interleave(query.shape[1] // key.shape[1], 1).mT * scaling
    scores = scores if cap is None else (scores / cap).tanh() * cap
    is_visible = mask if mask.dtype == torch.bool else mask == 0
    scores = scores.masked_fill(~is_visible, -torch.inf)
    sinks = scores.new_zeros(*scores.shape[:-1], num_sinks)
    return torch.cat([scores, sinks], -1).softmax(-1)[..., : key.shape[2]]


def exact_or(**options):
    def attend(module, query, key, value, mask, scaling, **_):
        weights = probabilities(query, key, mask, scaling, **options)
        values = value.repeat_interleave(query.shape[1] // key.shape[1], 1)
        return (weights @ values).transpose(1, 2), None

    return attend


@pytest.mark.parametrize(
    ("options", "keeps"),
    [({}, True), ({"cap": 30.0}, False), ({"cap": 50.0}, False), ({"num_sinks": 1}, False)],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_cap_or_a_sink_that_packed_texts_alone_get_is_noticed(options, keeps, dtype):
    assert bool(packing_fault(planted(exact_or(**options)).to(dtype), 0)) is not keeps


@pytest.mark.parametrize("longest_kept", [WINDOW - 2, WINDOW - 1, WINDOW, 2 * WINDOW])
def test_a_leak_of_long_texts_alone_is_noticed_where_the_training_has_such_texts(longest_kept):
    def attend(module, query, key, value, mask, **kwargs):
        longest = int(mask[0, 0].sum(-1).max())
        mask = mask if longest <= longest_kept else torch.ones_like(mask).tril()
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)

    model = planted(attend)
    model.config.sliding_window = WINDOW  # the layers have none: their masks are as long as the texts
    tried = next(n for n in (WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW) if n > longest_kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.training.packing_support.LENGTHS", (5, 8))
        assert not packing_fault(model, tried - 1)
        assert packing_fault(model, tried)


@pytest.mark.parametrize("name", ["longrope, phi3", "dynamic, llama"])
def test_long_texts_of_a_rope_that_depends_on_the_batch_share_no_row(name, tmp_path):
    reference, section = saved(name, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.training.packing_support.LENGTHS", (5, 8))
        assert packing_fault(reference, 2 * THRESHOLD)
        assert not packing_fault(load_model(section, PLAIN), 2 * THRESHOLD)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_trial_itself_notices_the_state_of_falcon_h1(dtype):
    model = kind("falcon_h1").to(dtype)
    assert "state" in packing_fault(model, 0)
    type(model)._is_stateful = False
    try:
        assert "influence on others is left" in packing_fault(model, 0)
    finally:
        type(model)._is_stateful = True


def test_an_error_of_the_trial_is_a_no(monkeypatch):
    model = relative("qwen3")
    monkeypatch.setattr(model, "forward", lambda **_: {}["logits"])
    assert packing_fault(model, 0) == "the trial ended with KeyError: KeyError: 'logits'"


def test_rows_that_are_padded_are_said_once_with_the_reason(tmp_path, caplog):
    log_once.cache_clear()
    tokenizer = words_tokenizer()
    tokenizer.pad_token = "<unk>"
    fields = {"labels": [-100, 7, 9], "length": 3, "row": 0, "where": "a:1"}
    rows = Dataset.from_list([{"input_ids": [start, 7, 9], **fields} for start in (1, 2)])
    train = TrainConfig(max_steps=1, per_device_batch_size=2)
    with caplog.at_level("INFO"):
        for run in ("a", "b"):
            fit(kind("gpt_oss"), tokenizer, rows, None, train, tmp_path / run, 0)
    [line] = [record.message for record in caplog.records if "padded" in record.message]
    assert line.startswith(
        "rows are padded instead of joined, and padding is computed like tokens (at 8 tokens"
    )
