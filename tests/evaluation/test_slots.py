"""Prompts are decoded in slots: rows that end leave, waiting ones come in, and answers stay as alone."""

import copy
import random
from collections.abc import Sequence

import pytest
import torch
from transformers import LlamaForCausalLM

from workbench.config.benchmark import GenerationConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.config.model import Dtype, ModelConfig
from workbench.config.quantization import QuantizationConfig
from workbench.errors import CheckpointError
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.inference.decoding.next_tokens import argmax
from workbench.evaluation.inference.decoding.preallocated_cache import GrowingCache
from workbench.evaluation.inference.decoding.prefix_store import PrefixStore
from workbench.evaluation.inference.decoding.prompt_groups import groups
from workbench.evaluation.inference.decoding.row import Row
from workbench.evaluation.inference.decoding.settings import DecodingSettings
from workbench.evaluation.inference.decoding.slot_cache import SlotCache, compacted
from workbench.evaluation.inference.decoding.slot_decoding import SlotDecoding
from workbench.evaluation.inference.stop_rules import Endings
from workbench.models.loading import load_model

MOST_NEW = 24


@pytest.fixture(scope="module")
def ending_llama(llama) -> LlamaForCausalLM:
    """A model that ends its answers after very different numbers of tokens: a tenth of all tokens end one."""
    ending = copy.deepcopy(llama)
    ending.generation_config.eos_token_id = list(range(0, 400, 10))
    return ending


@pytest.fixture(params=["llama", "open-llama"])
def model(request, ending_llama, tmp_path):
    if request.param == "llama":
        return copy.deepcopy(ending_llama)
    ending_llama.save_pretrained(tmp_path / "llama")
    return load_model(ModelConfig(path=str(tmp_path / "llama"), dtype=Dtype.float32), QuantizationConfig())


def prompts_of_subjects() -> list[list[int]]:
    """Prompts of two subjects with few-shot examples, some alone, one of them twice, in mixed order."""
    rng = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [rng.randrange(400) for _ in range(count)]

    subjects = [tokens(150), tokens(170)]
    prompts = [subject + tokens(rng.randint(1, 30)) for subject in subjects for _ in range(12)]
    prompts += [tokens(rng.randint(1, 50)) for _ in range(10)]
    prompts.append(prompts[3])
    rng.shuffle(prompts)
    return prompts


@pytest.fixture(scope="module")
def expected(ending_llama) -> list[list[int]]:
    """Answers to all prompts, each generated alone by transformers."""
    return [alone(ending_llama, prompt) for prompt in prompts_of_subjects()]


def alone(model: LlamaForCausalLM, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=MOST_NEW, do_sample=False)
    return made[0, len(prompt) :].tolist()


def slot_decoding(model, tokenizer, **changes) -> SlotDecoding:
    lm = TransformersLM(model, tokenizer, EvaluateConfig(**changes))
    limits = GenerationConfig(max_new_tokens=MOST_NEW, stop=[])
    endings = Endings(model, tokenizer, limits.stop)
    settings = DecodingSettings(lm, limits, endings, on_token=None, most_cached=None)
    return SlotDecoding(settings, PrefixStore(lm))


def rows_of(prompts: Sequence[list[int]]) -> list[Row]:
    return [Row(index, prompt, torch.Generator()) for index, prompt in enumerate(prompts)]


def input_shapes(model) -> list[tuple[int, int]]:
    """Return a list that gets the shape of the input of each forward pass, (rows, tokens)."""
    shapes: list[tuple[int, int]] = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return shapes


@pytest.mark.parametrize(("num_slots", "rounds_rows"), [(1, False), (5, True), (64, False)])
def test_answers_in_slots_are_those_of_generate_alone(ending_llama, model, tokenizer, num_slots, rounds_rows):
    prompts = prompts_of_subjects()
    expected = [alone(ending_llama, prompt) for prompt in prompts]
    assert len({len(answer) for answer in expected}) > 8
    decoding, shapes = slot_decoding(model, tokenizer, batch_tokens=100), input_shapes(model)
    decoding.num_slots, decoding.rounds_rows = num_slots, rounds_rows
    answers = {row.index: row.generated for row in decoding.run(rows_of(prompts))}
    assert [answers[index] for index in range(len(prompts))] == expected
    steps = [rows for rows, tokens in shapes if rows > 1]
    assert all(rows <= num_slots for rows in steps)
    assert not rounds_rows or set(steps) <= {2, 4, 5, 8, 16, 32, 64, len(prompts)}


def test_waiting_prompts_take_the_slots_of_answers_that_have_ended(model, tokenizer):
    prompts = prompts_of_subjects()
    decoding, shapes = slot_decoding(model, tokenizer), input_shapes(model)
    decoding.num_slots = 8
    lengths = [len(row.generated) for row in decoding.run(rows_of(prompts))]
    steps = [rows for rows, tokens in shapes if tokens == 1 and rows > 1]
    longest_of_fixed_batches = sum(max(lengths[start : start + 8]) for start in range(0, len(lengths), 8))
    assert len(steps) < 0.8 * longest_of_fixed_batches
    assert sum(rows == 8 for rows in steps) > len(steps) / 4


def test_an_answer_is_yielded_before_longer_ones_are_finished(model, tokenizer):
    decoding, shapes = slot_decoding(model, tokenizer), input_shapes(model)
    first = next(decoding.run(rows_of(prompts_of_subjects())))
    assert len(first.generated) < MOST_NEW
    assert len(shapes) < MOST_NEW


def test_shared_examples_are_computed_once_and_each_question_once(model, tokenizer):
    prompts = prompts_of_subjects()
    decoding = slot_decoding(model, tokenizer)
    list(decoding.run(rows_of(prompts)))
    distinct = {tuple(prompt) for prompt in prompts}
    own = sum(len(prompt) - 150 * (len(prompt) > 150) - 20 * (len(prompt) > 200) for prompt in distinct)
    assert 320 < decoding.lm.computed_tokens <= own + 320 + 64


def test_slots_hold_at_most_the_given_number_of_tokens(model, tokenizer):
    prompts = prompts_of_subjects()
    lm = TransformersLM(model, tokenizer, EvaluateConfig())
    decoder = Decoder(lm, GenerationConfig(max_new_tokens=MOST_NEW, stop=[]))
    decoder.most_cached, held = 700, []

    def measure(_, args, kwargs):
        cache = kwargs["past_key_values"]
        if isinstance(cache, SlotCache):
            held.append(len(kwargs["input_ids"]) * cache.num_columns)

    model.register_forward_pre_hook(measure, with_kwargs=True)
    assert len(dict(decoder.tokens(prompts, [""] * len(prompts)))) == len(prompts)
    assert 200 < max(held) <= 700


@pytest.mark.parametrize("seed", range(20))
def test_rows_that_stay_keep_their_groups_together_and_most_of_their_slots(seed):
    rng = random.Random(seed)
    owners = sorted(rng.choices(range(4), k=rng.randint(1, 20)))
    leaving = {slot for slot in range(len(owners)) if rng.random() < 0.3}
    order = compacted(owners, leaving)
    assert sorted(order) == [slot for slot in range(len(owners)) if slot not in leaving]
    assert [owners[old] for old in order] == sorted(owners[old] for old in order)
    assert sum(slot != old for slot, old in enumerate(order)) <= len(leaving) * len(set(owners))


@pytest.mark.parametrize("seed", range(5))
def test_slots_hold_the_keys_and_values_of_their_rows_through_any_course_of_decoding(seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    slots, expected, owners = SlotCache(6, torch.device("cpu")), [], []
    for step in range(80):
        if len(expected) < 6 and rng.random() < 0.3:
            source, length = GrowingCache(), rng.randint(1, 50)
            for layer in range(2):
                source.update(torch.randn(1, 2, length, 4), torch.randn(1, 2, length, 3), layer)
            columns = sorted(rng.sample(range(length), rng.randint(1, length)))
            slots.add(source, [columns])
            expected.append(
                [[states[0, :, columns] for states in (layer.keys, layer.values)] for layer in source.layers]
            )
            owners.append(step)
        if not expected:
            continue
        mask = slots.begin_step(len(expected))[:, 0, 0]
        for layer in range(2):
            new = torch.randn(len(expected), 2, 1, 4), torch.randn(len(expected), 2, 1, 3)
            held = slots.update(*new, layer)
            for row, states in enumerate(expected):
                for kind in range(2):
                    states[layer][kind] = torch.cat([states[layer][kind], new[kind][row]], 1)
                    assert torch.equal(held[kind][row][:, mask[row]], states[layer][kind])
        leaving = {slot for slot in range(len(expected)) if rng.random() < 0.1}
        order = slots.drop(owners, leaving)
        expected, owners = [expected[old] for old in order], [owners[old] for old in order]


def test_each_subject_is_a_group_with_its_examples_and_prompts_alone_share_none():
    prompts = prompts_of_subjects()
    found = groups(rows_of(prompts), share=True)
    assert sorted(len(group.prefix) for group in found) == [0, 150, 170]
    assert sum(len(group.rows) for group in found) == len(prompts)
    for group in found:
        assert all(row.prompt[: len(group.prefix)] == group.prefix for row in group.rows)
        assert all(len(row.prompt) > len(group.prefix) for row in group.rows)
    assert [group.prefix for group in groups(rows_of(prompts), share=False)] == [[]]


def test_two_similar_questions_stay_in_the_group_of_their_template():
    template, question = list(range(40)), list(range(100, 140))
    prompts = [template + [200 + n] * 30 for n in range(20)]
    prompts += [template + question + [300], template + question + [301]]
    (group,) = groups(rows_of(prompts), share=True)
    assert group.prefix == template


@pytest.mark.parametrize("prompts", [[], [[5]], [[5], [6]]], ids=len)
def test_few_prompts_are_at_most_one_group(prompts):
    assert [len(group.rows) for group in groups(rows_of(prompts), share=True)] == [len(prompts)][
        : len(prompts)
    ]


def test_answers_to_the_same_prompt_share_all_of_it_but_a_token():
    prompts = [[*range(300)]] * 8 + [[400 + n] * 40 for n in range(8)]
    found = groups(rows_of(prompts), share=True)
    assert [(len(group.prefix), len(group.rows)) for group in found] == [(299, 8), (0, 8)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [7, 400, 1024, 1030])
def test_the_argmax_is_that_of_torch_and_nan_is_told(vocabulary, dtype):
    torch.manual_seed(0)
    logits = torch.randn(50, vocabulary).mul(4).round().to(dtype)  # many equal maxima
    maxima, tokens = argmax(logits)
    assert torch.equal(tokens, logits.argmax(-1))
    assert torch.equal(maxima.to(dtype), logits.amax(-1))
    logits[3, vocabulary // 2] = float("nan")
    assert argmax(logits)[0].isnan().nonzero().flatten().tolist() == [3]


def test_nan_logits_of_a_later_token_are_refused(model, tokenizer):
    decoding = slot_decoding(model, tokenizer)
    count = 0

    def damage(module, args, output):
        nonlocal count
        count += output.logits.shape[1] == 1 and len(output.logits) > 1
        if count > 2:
            output.logits[-1] = float("nan")
        return output

    model.register_forward_hook(damage)
    with pytest.raises(CheckpointError, match="the model's logits are NaN"):
        list(decoding.run(rows_of(prompts_of_subjects())))
