"""EVA's start, which peft would seek for ever where the rows can't give it."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from workbench.config.adapter import AdapterConfig, AdapterInit
from workbench.errors import ConfigError
from workbench.models.adapters import init_from_rows

pytestmark = pytest.mark.filterwarnings("ignore")


def started(folder, **fields):
    """A start from a batch of 12 tokens, of which 8 are to be learned."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 64}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1))
    ids = torch.randint(3, 64, (2, 6))
    labels = ids.clone()
    labels[:, :2] = -100
    batches = [{"input_ids": ids, "labels": labels}]
    adapter = AdapterConfig(init=AdapterInit.eva, target_modules=["q_proj"], **fields)
    return init_from_rows.attach_from_rows(
        model, adapter, 0, (), batches=batches, folder=folder / "start", made_from="x"
    )


def test_more_directions_than_the_tokens_of_a_batch_are_refused(tmp_path):
    said = "takes 10 directions .* and the largest batch has 8 .lower adapter.rank"
    with pytest.raises(ConfigError, match=said):
        started(tmp_path, rank=5)
    assert started(tmp_path, rank=4).peft_config["default"].r == 4


def test_a_layer_with_a_higher_rank_of_its_own_counts(tmp_path):
    with pytest.raises(ConfigError, match="takes 12 directions"):
        started(tmp_path, rank=2, rank_pattern={"q_proj": 6})


def test_directions_that_do_not_settle_end_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(init_from_rows, "MOST_BATCHES", 1)
    with pytest.raises(ConfigError, match="haven't settled after 1 batches"):
        started(tmp_path, rank=2)
