"""Where generated answers end: stop texts that are special tokens, end tokens, the end of a chat turn."""

import pytest
import torch
from tiny_llama import llama_config, make_tokenizer
from transformers import GenerationConfig as TransformersGenerationConfig
from transformers import LlamaForCausalLM

from workbench.config.benchmark import GenerationConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.inference.stop_rules import Endings, turn_end_token

PROMPTS = [
    f"{word} {other} question" for word in ("cat", "dog", "mat", "two") for other in ("the", "A.", "题")
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NEW_TOKENS = 24


SPECIAL = 60


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(llama_config(vocab_size=400 + SPECIAL)).eval()


@pytest.fixture(scope="module")
def tokenizer():
    """The tiny tokenizer with many more special tokens, so that the random model writes some."""
    made = make_tokenizer()
    made.add_special_tokens({"additional_special_tokens": [f"<|x{n}|>" for n in range(SPECIAL)]})
    assert len(made) == 400 + SPECIAL
    return made


def made_by(model, tokenizer, prompt: str) -> list[int]:
    """Greedy tokens, without any end."""
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    config = TransformersGenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=1)
    return model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)[
        0, ids.shape[1] :
    ].tolist()


def answers(model, tokenizer, stop: list[str], shared: bool, as_harness: bool = False) -> list[str]:
    lm = TransformersLM(model, tokenizer, EvaluateConfig(shared_prefix=shared))
    assert lm.shares_prefixes == shared
    limits = GenerationConfig(max_new_tokens=NEW_TOKENS, stop=stop)
    found = dict(Decoder(lm, limits, as_harness).stream(lm.encode(PROMPTS), [""] * len(PROMPTS)))
    return [found[index] for index in range(len(PROMPTS))]


def first_special(made: list[int], tokenizer) -> str | None:
    return next((tokenizer.convert_ids_to_tokens(t) for t in made if t >= 400), None)


@pytest.mark.parametrize("shared", [True, False])
def test_a_special_token_that_is_a_stop_text_ends_the_answer(llama, tokenizer, shared):
    every = [made_by(llama, tokenizer, prompt) for prompt in PROMPTS]
    stops = [stop for made in every if (stop := first_special(made, tokenizer))]
    assert len(stops) > 3
    ids = set(tokenizer.convert_tokens_to_ids(stops)) | {1}
    expected = []
    for made in every:
        end = next((place for place, token in enumerate(made) if token in ids), len(made))
        expected.append(tokenizer.decode(made[:end], skip_special_tokens=True))
    assert any(len(made) > 3 for made in expected)
    assert answers(llama, tokenizer, stops, shared) == expected


@pytest.mark.parametrize("shared", [True, False])
def test_a_stop_text_may_begin_with_a_special_token_and_go_on_as_text(llama, tokenizer, shared):
    for prompt, whole in zip(PROMPTS, answers(llama, tokenizer, [], shared), strict=True):
        made = made_by(llama, tokenizer, prompt)
        place = next((n for n, t in enumerate(made[:-1]) if t >= 400), None)
        if place is not None and made[place + 1] < 400 and 1 not in made[: place + 2]:
            stop = tokenizer.decode(made[place : place + 2])
            if "\ufffd" in stop:
                continue
            cut = answers(llama, tokenizer, [stop], shared)[PROMPTS.index(prompt)]
            assert (
                cut == tokenizer.decode(made[: place + 2], skip_special_tokens=True).split(stop)[0] != whole
            )
            return
    pytest.fail("no prompt is answered with a special token and text after it")


@pytest.mark.parametrize("shared", [True, False])
def test_an_answer_ends_at_each_end_token_of_the_generation_config(llama, tokenizer, shared):
    every = [made_by(llama, tokenizer, prompt) for prompt in PROMPTS]
    ends = [made[4] for made in every]
    own = llama.generation_config
    llama.generation_config = TransformersGenerationConfig(eos_token_id=ends)
    try:
        found = answers(llama, tokenizer, [], shared)
    finally:
        llama.generation_config = own
    for text, made in zip(found, every, strict=True):
        end = next(place for place, token in enumerate(made) if token in {*ends, 1})
        assert text == tokenizer.decode(made[: end + 1], skip_special_tokens=True)


def test_half_a_character_at_the_token_limit_is_left_out_but_not_for_the_harness(llama, tokenizer):
    made = tokenizer("the 直接", add_special_tokens=False)["input_ids"]
    cut = next(
        made[:end] for end in range(len(made), 0, -1) if tokenizer.decode(made[:end]).endswith("\ufffd")
    )
    text = tokenizer.decode(cut)
    assert Endings(llama, tokenizer, []).text(cut) == text.rstrip("\ufffd") != text
    assert Endings(llama, tokenizer, [], as_harness=True).text(cut) == text
    ended = [*cut, tokenizer.eos_token_id]  # what the model itself ended is as it wrote it
    assert Endings(llama, tokenizer, []).text(ended) == text


@pytest.mark.parametrize("shared", [True, False])
def test_an_answer_ends_at_the_end_of_a_turn_in_the_chat_template(llama, tokenizer, shared, monkeypatch):
    every = [made_by(llama, tokenizer, prompt) for prompt in PROMPTS]
    stop = next(stop for made in every if (stop := first_special(made, tokenizer)))
    monkeypatch.setattr(tokenizer, "chat_template", CHATML.replace("<|im_end|>", stop))
    assert turn_end_token(tokenizer) == tokenizer.convert_tokens_to_ids(stop)
    ended = answers(llama, tokenizer, [], shared)
    going_on = answers(llama, tokenizer, [], shared, as_harness=True)
    monkeypatch.undo()
    assert ended == answers(llama, tokenizer, [stop], shared) != going_on
    # The harness keeps half a character at the token limit.
    whole = [text.rstrip("\ufffd") for text in going_on]
    assert whole == [text.rstrip("\ufffd") for text in answers(llama, tokenizer, [], shared)]


@pytest.mark.parametrize(
    ("template", "token"),
    [
        (None, None),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", None),
        ("{% for m in messages %}{{ m.content }}{{ ' ' ~ eos_token }}{% endfor %}", "</s>"),
        (
            "{% for m in messages %}{{ m.content }}{{ eos_token if m.role == 'assistant' }}\n{% endfor %}",
            "</s>",
        ),
        ("{{ raise_exception('no') }}", None),
        ("{{ messages[0].tools.name }}", None),
    ],
)
def test_the_end_of_a_turn_is_the_special_token_after_the_answer(template, token, monkeypatch):
    tokenizer = make_tokenizer()
    monkeypatch.setattr(tokenizer, "chat_template", template)
    expected = tokenizer.convert_tokens_to_ids(token) if token else None
    assert turn_end_token(tokenizer) == expected


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shared", [True, False])
def test_answers_end_where_those_of_the_harness_end(llama, tokenizer, shared):
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    every = [made_by(llama, tokenizer, prompt) for prompt in PROMPTS]
    specials = [stop for made in every if (stop := first_special(made, tokenizer))]
    texts = [tokenizer.decode(made[3:5]) for made in every]
    mixed = [tokenizer.decode(made[n : n + 2]) for n in (2, 5) for made in every]
    harness = HFLM(pretrained=llama, tokenizer=tokenizer, batch_size=1, device="cpu")
    for stops in ([], specials[:1], specials, texts[:2], [*texts, *specials], mixed):
        stops = [stop for stop in dict.fromkeys(stops) if stop and "\ufffd" not in stop]
        limits = {"until": list(stops), "max_gen_toks": NEW_TOKENS, "do_sample": False}
        asked = [
            Instance("generate_until", {}, (prompt, dict(limits)), number, metadata=(None, None, None))
            for number, prompt in enumerate(PROMPTS)
        ]
        assert answers(llama, tokenizer, stops, shared, as_harness=True) == harness.generate_until(asked)
