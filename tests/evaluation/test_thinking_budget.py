"""A thinking budget closes thoughts: as two calls of transformers' generate, counted, resumed, refused."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from test_engine import run
from test_text_counts import quiz
from tiny_llama import llama_config, make_tokenizer
from transformers import LlamaForCausalLM

from workbench.config.benchmark import Extract, GenerationConfig, ProtocolConfig
from workbench.config.evaluate import EvaluateConfig, TooLong
from workbench.errors import ConfigError, DataError
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.records import read_predictions
from workbench.evaluation.tasks.thinking import (
    EARLY_STOP,
    Prompt,
    ThinkingDecoder,
    most_new_tokens,
    texts,
)
from workbench.evaluation.too_long_items import check_lengths
from workbench.run_dir import RunDir

OPENING = "{% for m in messages %}{{ m.content }}{% endfor %}<think>"
WRITES = "{% for m in messages %}{{ m.content }}{% endfor %}"
PROMPTS = [
    "the cat sat on the mat<think>",
    "一个问题<think>",
    "which of these is right?<think>",
    "a question<think>",
]


def thinking_tokenizer(template: str = OPENING):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return thinking_tokenizer()


@pytest.fixture(scope="module")
def random_model(tokenizer) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(llama_config(vocab_size=len(tokenizer))).eval()


def chain_model(tokenizer, *chains: str) -> LlamaForCausalLM:
    """A Llama whose next token depends on the last one alone: it goes along each text, and then ends.

    Attention and MLP add nothing, embeddings are unit vectors, and the head holds the table of next tokens.
    """
    size = len(tokenizer)
    model = LlamaForCausalLM(
        llama_config(
            vocab_size=size,
            hidden_size=size + size % 2,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            tie_word_embeddings=False,
        )
    ).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size, model.config.hidden_size))
        model.lm_head.weight.zero_()
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.lm_head.weight[tokenizer.eos_token_id] += 0.01  # where no chain says otherwise
        for chain in chains:
            ids = tokenizer(chain, add_special_tokens=False)["input_ids"]
            for token, following in pairwise(ids):
                model.lm_head.weight[following, token] = 1
    return model


def by_hand(model, tokenizer, prompt: list[int], budget: int, limits: GenerationConfig) -> tuple[str, bool]:
    """The text after a prompt that opens a thought, by two calls of transformers' generate, greedily."""
    closing = tokenizer.convert_tokens_to_ids("</think>")

    def written(ids: list[int], most: int, stop: list[int]) -> list[int]:
        tokens = torch.tensor([ids])
        made = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=most,
            do_sample=False,
            eos_token_id=stop,
            pad_token_id=1,
            repetition_penalty=limits.repetition_penalty,
        )
        return made[0, len(ids) :].tolist()

    thought = written(prompt, budget, [closing, tokenizer.eos_token_id])
    if thought[-1] == tokenizer.eos_token_id:
        return tokenizer.decode(thought[:-1]), False
    is_cut = thought[-1] != closing
    added = tokenizer(EARLY_STOP, add_special_tokens=False)["input_ids"] if is_cut else []
    answer = written(prompt + thought + added, limits.max_new_tokens, [tokenizer.eos_token_id])
    shown = tokenizer.decode(thought).rstrip("\ufffd") + (EARLY_STOP if is_cut else "")
    text = tokenizer.decode(answer, skip_special_tokens=True)
    for stop in limits.stop:
        text = text.split(stop)[0]
    return shown + (text.rstrip("\ufffd") if answer[-1] != tokenizer.eos_token_id else text), is_cut


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("shared", [True, False])
def test_texts_are_those_of_two_calls_of_transformers_generate(random_model, tokenizer, shared, penalty):
    lm = TransformersLM(random_model, tokenizer, EvaluateConfig(shared_prefix=shared))
    limits = GenerationConfig(max_new_tokens=7, stop=["t"], repetition_penalty=penalty)
    tokens = lm.encode(PROMPTS)
    prompts = [Prompt(text, ids) for text, ids in zip(PROMPTS, tokens, strict=True)]
    written = dict(ThinkingDecoder(Decoder(lm, limits), 11).texts(prompts, [""] * 4))
    for index, ids in enumerate(tokens):
        text, is_cut = by_hand(random_model, tokenizer, ids, 11, limits)
        assert (written[index].text, written[index].thought_cut) == (text, is_cut)
    assert any(text.thought_cut for text in written.values())


THOUGHT = "<think>cat dog mat</think>B"


@pytest.mark.parametrize(("budget", "is_cut"), [(40, False), (3, True)])
def test_a_planted_thought_ends_by_itself_or_by_its_budget(tokenizer, budget, is_cut):
    model = chain_model(tokenizer, THOUGHT, "\nA")
    lm = TransformersLM(model, tokenizer, EvaluateConfig())
    [ids] = lm.encode(["one<think>"])
    limits = GenerationConfig(max_new_tokens=2, stop=["dog"])
    [(_, text)] = ThinkingDecoder(Decoder(lm, limits), budget).texts([Prompt("one<think>", ids)], [""])
    assert text == by_hand_tuple(model, tokenizer, ids, budget, limits)
    assert text.thought_cut is is_cut
    assert text.text.endswith("</think>B" if not is_cut else "</think>\n\nA")
    assert text.text.startswith("cat dog mat</think>" if not is_cut else "cat")
    [(_, whole)] = texts(Decoder(lm, GenerationConfig(max_new_tokens=40, stop=[])), [ids], [""])
    assert is_cut or whole.text == text.text


def by_hand_tuple(model, tokenizer, ids, budget, limits):
    text, is_cut = by_hand(model, tokenizer, ids, budget, limits)
    return (text, "stop", is_cut)


def score_of(folder: Path, model, tokenizer, settings=None, **changes):
    """Score the quiz of test_text_counts.py; return its score and predictions."""
    generation = GenerationConfig(**{"max_new_tokens": 3, "stop": [], "extract": Extract.letter} | changes)
    folder.mkdir(exist_ok=True)
    run_dir = RunDir(folder / json.dumps([settings, changes], default=str).replace("/", ""))
    cache = folder / "cache"
    evaluation = run(
        model,
        tokenizer,
        quiz(folder, generation=generation),
        settings,
        predictions=run_dir.predictions,
        fingerprint="x",
        cache=cache,
    )
    [file] = run_dir.path.rglob("*.jsonl")
    return evaluation.scores[0], read_predictions(file), evaluation.measured["exam"]["num_asked"]


@pytest.mark.parametrize("template", [OPENING, WRITES])
def test_a_budget_gives_cut_thoughts_an_answer_and_counts_them(tmp_path, template):
    tokenizer = thinking_tokenizer(template)
    long = "<think> cat dog mat table answer four five"
    opened = [f"{end}<think>" for end in (" on", " under", " three", " right")]
    model = chain_model(tokenizer, long, "\nA", *(opened if template is WRITES else ()))
    in_chat = {"chat_template": True}
    score, _, _ = score_of(tmp_path, model, tokenizer, in_chat)
    num_thoughts = 5 if template is OPENING else 4  # nothing follows "a question"
    assert score.value == 0 and "thought_cut" not in score.texts
    assert score.texts["in_thought"] == num_thoughts
    score, predictions, _ = score_of(tmp_path, model, tokenizer, in_chat | {"thinking_budget": 4})
    assert score.value == num_thoughts / 5
    assert score.texts["thought_cut"] == num_thoughts and score.texts["in_thought"] == 0
    for prediction in predictions[:num_thoughts]:
        assert prediction.thought_cut and prediction.prediction == "A"
        assert prediction.generation.endswith(EARLY_STOP + "A")
    own, _, _ = score_of(tmp_path, model, tokenizer, in_chat, thinking_budget=4)
    assert own.texts == score.texts and own.rule == score.rule
    other, _, _ = score_of(tmp_path, model, tokenizer, in_chat | {"thinking_budget": 5})
    assert other.rule != score.rule


def test_texts_without_a_thought_do_not_change(tmp_path, llama):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = WRITES
    for sampling in ({}, {"temperature": 0.9, "top_p": 0.9}):
        settings = {"chat_template": True, **sampling}
        before, expected, _ = score_of(tmp_path, llama, tokenizer, settings)
        score, predictions, _ = score_of(tmp_path, llama, tokenizer, settings | {"thinking_budget": 6})
        assert predictions == expected and score.value == before.value
        assert score.texts == before.texts | {"thought_cut": 0}


def test_sampled_thoughts_are_drawn_by_their_item_and_seed(tmp_path, random_model, tokenizer):
    settings = {"chat_template": True, "temperature": 1.1, "thinking_budget": 6, "top_k": 30}
    _, first, _ = score_of(tmp_path / "a", random_model, tokenizer, settings)
    _, alone, _ = score_of(tmp_path / "b", random_model, tokenizer, settings | {"shared_prefix": False})
    assert [p.generation for p in first] == [p.generation for p in alone]
    _, other, _ = score_of(tmp_path / "a", random_model, tokenizer, settings | {"fewshot_seed": 5})
    assert all(a.generation != b.generation for a, b in zip(first, other, strict=True))


def test_cached_answers_of_a_budget_are_used_again_and_no_others(tmp_path, random_model, tokenizer):
    settings = {"chat_template": True, "thinking_budget": 6}
    first, predictions, num_asked = score_of(tmp_path, random_model, tokenizer, settings)
    [file] = (tmp_path / "cache").glob("*.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    assert num_asked == 5 == len(lines) and all('"thought_cut": true' in line for line in lines)
    file.write_text("".join(lines[:2]) + lines[2][:30])  # as a kill leaves it
    again, repeated, num_asked = score_of(tmp_path, random_model, tokenizer, settings)
    assert num_asked == 3 and repeated == predictions and again == first
    assert score_of(tmp_path, random_model, tokenizer, settings | {"thinking_budget": 7})[2] == 5
    assert score_of(tmp_path, random_model, tokenizer, {"chat_template": True})[2] == 5


def test_prompts_leave_room_for_thought_closing_and_answer(tmp_path, random_model, tokenizer):
    limits = GenerationConfig(max_new_tokens=3, stop=[], thinking_budget=6)
    closing = len(tokenizer(EARLY_STOP, add_special_tokens=False)["input_ids"])
    assert most_new_tokens(tokenizer, limits) == 6 + closing + 3
    after = 6 + closing + 3
    benchmark = quiz(tmp_path, generation=limits)
    longest = len(tokenizer("which of these is right<think>")["input_ids"])
    fits = {"chat_template": True, "max_length": after + longest}
    assert run(random_model, tokenizer, benchmark, fits).scores[0].num_items == 5
    short = fits | {"max_length": after + longest - 1}
    prepared = prepare_benchmarks({"quiz": benchmark}, EvaluateConfig())
    with pytest.raises(DataError, match=r"1 of 5 items are longer without few-shot examples than the"):
        check_lengths(512, tokenizer, prepared, EvaluateConfig(**short))
    with pytest.raises(
        DataError, match=f"the question without examples is longer than the {longest - 1} tok"
    ):
        run(random_model, tokenizer, benchmark, short)
    [score] = run(random_model, tokenizer, benchmark, short | {"too_long": TooLong.skip}).scores
    assert (score.num_items, score.num_skipped) == (4, 1)
    with pytest.raises(ConfigError, match=r"tokens with those of evaluate\.thinking_budget leave no room"):
        run(random_model, tokenizer, benchmark, {"chat_template": True, "max_length": after})


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        (
            {"protocol": "lm-eval", "protocols": {"lm-eval": ProtocolConfig()}},
            {"thinking_budget": 5},
            r"^evaluate\.thinking_budget: 5 has no effect, because",
        ),
        (
            {
                "protocol": "lm-eval",
                "protocols": {"lm-eval": ProtocolConfig()},
                "generation": GenerationConfig(thinking_budget=5),
            },
            {},
            r"^benchmarks\.quiz\.generation\.thinking_budget: 5 has no effect, protocol=lm-eval reads",
        ),
    ],
)
def test_a_budget_without_effect_is_refused(tmp_path, changes, settings, words):
    with pytest.raises(ConfigError, match=words):
        prepare_benchmarks({"quiz": quiz(tmp_path, **changes)}, EvaluateConfig(**settings))
