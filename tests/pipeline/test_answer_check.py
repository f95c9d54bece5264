"""After training: how many answers end by themselves and how many repeat themselves."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import workbench.models  # noqa: F401  registers Open-Llama
from workbench import cli
from workbench.config import Config, DataConfig, ModelConfig, TrainConfig
from workbench.config.model import Task
from workbench.data.rows import Row
from workbench.pipeline.run_state import Run
from workbench.pipeline.stop_rate import count_endings, draw_prompts, num_prompts, repeats
from workbench.run_dir import RunDir, read_json

BASE = cli.PACKAGE / "toy" / "base"
CONFIG = Config(
    model=ModelConfig(path=str(BASE)),
    data=DataConfig(path="a.jsonl", max_length=64),
    train=TrainConfig(max_steps=100),
)
NOWHERE = RunDir(Path("nowhere"))
RUN = Run(CONFIG, NOWHERE)


def row(question: str, answer: str) -> Row:
    return Row({"prompt": question, "completion": answer}, f"a.jsonl:{question}")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BASE)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([1, 2, 3], False),
        (list(range(50)), False),
        ([7] * 12, True),
        ([1, 2, 3] * 10, True),
        ([*range(40), *range(40)], False),
    ],
)
def test_an_answer_repeats_itself_where_most_runs_of_four_tokens_came_before(tokens, expected):
    assert repeats(tokens) is expected


def test_an_answer_may_be_twice_as_long_as_the_longest_of_the_rows_own(tokenizer):
    rows = [row(f"q{number}", " word" * number) for number in range(1, 40)]
    found = draw_prompts(RUN, rows, [], tokenizer)
    assert found.max_new_tokens == 2 * max(one.num_answer_tokens for one in found.rows)
    assert len(found.rows) == 16 and found.origin == "held-out"
    assert draw_prompts(RUN, [], rows[:3], tokenizer).origin == "training"
    assert draw_prompts(RUN, [], rows[:3], tokenizer).max_new_tokens == 32


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (TrainConfig(), 16),
        (TrainConfig(max_steps=5), 5),
        (TrainConfig(per_device_batch_size=10, gradient_accumulation_steps=3, num_epochs=2), 14),
        (TrainConfig(max_steps=5, sample_answers=40), 40),
    ],
)
def test_unless_told_a_model_answers_one_prompt_a_step_and_at_most_16(train, expected):
    assert num_prompts(train, 200) == expected


def test_rows_without_answers_and_zero_prompts_are_not_asked(tokenizer):
    texts = [Row({"text": "a story"}, "a.jsonl:1")]
    assert draw_prompts(RUN, [], texts, tokenizer) is None
    none = Config(model=CONFIG.model, train=TrainConfig(sample_answers=0))
    assert draw_prompts(Run(none, NOWHERE), [], [row("q", " a")], tokenizer) is None
    labelled = Config(model=ModelConfig(path=str(BASE), task=Task.sequence_classification))
    assert (
        draw_prompts(Run(labelled, NOWHERE), [], [Row({"text": "x", "label": "a"}, "a:1")], tokenizer) is None
    )


def test_the_counts_are_those_of_greedy_answers_by_the_model_itself(tokenizer):
    model = AutoModelForCausalLM.from_pretrained(BASE).eval()
    questions = [f"Question: Which is the largest, {a} or {a + 5}?\nAnswer:" for a in range(3, 40, 5)]
    questions += [f"The {word}" for word in ("hill", "soup", "king", "bread")]
    asked = draw_prompts(RUN, [row(question, " 8") for question in questions], [], tokenizer)
    before = torch.random.get_rng_state()
    found = count_endings(model, tokenizer, asked, CONFIG.evaluate, "base")
    assert torch.equal(before, torch.random.get_rng_state())
    stopped = repeating = 0
    for one in asked.rows:
        prompt = torch.tensor([one.input_ids[: one.spans[-1][0]]])
        mask, most = torch.ones_like(prompt), asked.max_new_tokens
        whole = model.generate(prompt, attention_mask=mask, do_sample=False, max_new_tokens=most)
        made = whole[0, prompt.shape[1] :].tolist()
        stopped += made[-1] == tokenizer.eos_token_id
        repeating += repeats(made)
    assert found == {"stopped": stopped, "repeating": repeating} and stopped


def test_training_writes_both_models_counts_and_the_weights_are_those_of_one_without(run, tmp_path):
    lines = [
        json.dumps({"prompt": f"Question: Which is the largest, {n} or 1?\nAnswer:", "completion": f" {n}"})
        for n in range(2, 40)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    short = ("data.path=rows.jsonl", "model.path=${toy:base}", "data.max_length=64", "train.max_steps=2")
    digests = []
    for number, more in enumerate(("train.sample_answers=5", "train.sample_answers=0")):
        folder = run("sft", *short, "steps=[train]", f"run_dir=run{number}", more)
        digests.append((folder.adapter / "adapter_model.safetensors").read_bytes())
        found = read_json(folder.train_json)["answers"]
        if number == 0:
            assert found["prompts"] == 5 and found["of"] == "training" and found["max_new_tokens"] == 32
            assert {name: set(counts) for name, counts in found["models"].items()} == {
                name: {"stopped", "repeating"} for name in ("base", "adapter")
            }
        else:
            assert found is None
    assert digests[0] == digests[1]
