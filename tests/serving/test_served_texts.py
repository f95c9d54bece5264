"""Texts that the server writes: greedy, sampled, stopped, streamed."""

import json

import pytest

from workbench.config.benchmark import GenerationConfig
from workbench.evaluation.inference.decoder import Decoder

PROMPT = "小军说"
CHAT = "/v1/chat/completions"
QUESTION = {"model": "base", "messages": [{"role": "user", "content": "早上好"}]}


def decoded(lm, prompt: str, **limits) -> str:
    """The text that the predict and evaluate steps decode."""
    decoder = Decoder(lm, GenerationConfig(**{"stop": [], **limits}))
    ((_, text),) = decoder.stream([lm.encode([prompt])[0]], ["3/0"])
    return text


def texts(answer) -> list[str]:
    return [choice["text"] for choice in answer["choices"]]


def streamed(events) -> str:
    return "".join(event["choices"][0]["text"] for event in events)


def test_greedy_answers_are_those_of_the_other_steps(served, lm):
    prompts = [PROMPT, "1 + 1 =", "The", "🐼"]
    answer = served.complete(prompts, max_tokens=20)
    assert texts(answer) == [decoded(lm, prompt, max_new_tokens=20) for prompt in prompts]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"]["completion_tokens"] <= 80


def test_sampled_answers_are_those_of_the_decoder_with_the_same_seed(served, lm):
    fields = {"temperature": 1.2, "top_p": 0.9, "top_k": 40}
    answer = served.complete(PROMPT, max_tokens=12, seed=3, **fields)
    assert texts(answer) == [decoded(lm, PROMPT, max_new_tokens=12, **fields)]


def test_a_seed_repeats_answers_and_without_one_they_differ(served):
    fields = {"temperature": 1.5, "max_tokens": 12}
    first, second = (texts(served.complete(PROMPT, n=3, seed=7, **fields)) for _ in range(2))
    assert first == second and len(set(first)) == 3
    assert len({texts(served.complete(PROMPT, **fields))[0] for _ in range(4)}) == 4
    assert len(set(texts(served.complete([PROMPT] * 4, **fields)))) == 4


def test_n_greedy_answers_are_equal(served, lm):
    assert texts(served.complete(PROMPT, n=3, max_tokens=5)) == [decoded(lm, PROMPT, max_new_tokens=5)] * 3


def test_an_answer_ends_before_the_first_stop_text(served, lm):
    whole = decoded(lm, PROMPT, max_new_tokens=30)
    stop = whole[4:6]
    (choice,) = served.complete(PROMPT, max_tokens=30, stop=["never there", stop])["choices"]
    assert choice["text"] == whole[: whole.index(stop)] and choice["finish_reason"] == "stop"
    events = served.stream(
        "/v1/completions", {"model": "base", "prompt": PROMPT, "max_tokens": 30, "stop": stop}
    )
    assert streamed(events) == choice["text"]
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_stop_text_of_one_request_does_not_end_the_next_one(served, lm):
    whole = decoded(lm, PROMPT, max_new_tokens=10)
    served.complete(PROMPT, max_tokens=10, stop=whole[2])
    assert texts(served.complete(PROMPT, max_tokens=10)) == [whole]


def test_a_cut_answer_says_so(served):
    (choice,) = served.complete(PROMPT, max_tokens=2)["choices"]
    assert choice["finish_reason"] == "length"


def test_a_stream_ends_with_the_whole_text_also_of_broken_characters(served):
    fields = {"temperature": 3.0, "seed": 11, "max_tokens": 60}
    events = served.stream("/v1/completions", {"model": "base", "prompt": "🐼饕餮", **fields})
    assert "\ufffd" in streamed(events)  # the model draws bytes that are no character
    assert [streamed(events)] == texts(served.complete("🐼饕餮", **fields))


def test_an_event_is_one_line_for_clients_that_know_the_line_ends_of_unicode(served):
    prompt = "a\u2028b\u2029c\x85d"
    body = {"model": "base", "prompt": prompt, "max_tokens": 0, "echo": True, "stream": True}
    _, text = served.send("/v1/completions", json.dumps(body).encode())
    first = text.splitlines()[0].removeprefix("data: ")
    assert json.loads(first)["choices"][0]["text"] == prompt


def test_a_stream_of_several_answers_has_each_with_its_index(served):
    fields = {"temperature": 1.5, "seed": 5, "max_tokens": 6, "n": 2}
    body = {"model": "base", "prompt": [PROMPT, "The"], "echo": True, **fields}
    parts = {index: "" for index in range(4)}
    for event in served.stream("/v1/completions", {**body, "stream_options": {"include_usage": True}}):
        for choice in event["choices"]:
            parts[choice["index"]] += choice["text"]
    assert list(parts.values()) == texts(served.complete(body["prompt"], echo=True, **fields))
    assert event["choices"] == [] and event["usage"]["completion_tokens"] <= 24


def test_a_chat_in_a_stream_is_the_chat_answered_whole(served):
    status, whole = served.ask(CHAT, {**QUESTION, "max_tokens": 20})
    assert status == 200 and whole["object"] == "chat.completion"
    events = served.stream(CHAT, {**QUESTION, "max_tokens": 20})
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas[0]["role"] == "assistant"
    content = whole["choices"][0]["message"]["content"]
    assert "".join(delta.get("content", "") for delta in deltas) == content != ""
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events}) == 1


def test_a_chat_answer_may_fill_the_context(served, lm):
    status, answer = served.ask(CHAT, QUESTION)
    assert status == 200
    assert answer["usage"]["total_tokens"] <= lm.max_length


def test_content_in_parts_is_the_text_that_they_make(served):
    parts = [{"type": "text", "text": "早上"}, {"type": "text", "text": "好"}]
    asked = {"model": "base", "messages": [{"role": "user", "content": parts}], "max_tokens": 8}
    first, second = (served.ask(CHAT, body)[1] for body in (asked, {**QUESTION, "max_tokens": 8}))
    assert first["choices"] == second["choices"]


def test_a_model_without_a_template_refuses_chats(serve):
    status, answer = serve(template="auto").ask(CHAT, QUESTION)
    assert status == 400 and "chat template" in answer["error"]["message"]


def test_chat_log_probabilities_are_those_of_the_tokens(served):
    status, answer = served.ask(CHAT, {**QUESTION, "max_tokens": 5, "logprobs": True, "top_logprobs": 2})
    (choice,) = answer["choices"]
    content = choice["logprobs"]["content"]
    assert "".join(entry["token"] for entry in content).removesuffix("</s>") == choice["message"]["content"]
    for entry in content:
        assert entry["logprob"] == entry["top_logprobs"][0]["logprob"]
        assert bytes(entry["bytes"]).decode() == entry["token"]


def test_answers_are_json_without_escapes(served):
    body = json.dumps({"model": "base", "prompt": PROMPT, "max_tokens": 4, "echo": True}).encode()
    assert PROMPT in served.send("/v1/completions", body)[1]


def test_a_prompt_that_fills_the_context_is_refused(served, lm):
    for size, status in ((lm.max_length - 1, 200), (lm.max_length, 400)):
        found, answer = served.ask(
            "/v1/completions", {"model": "base", "prompt": [7] * size, "max_tokens": 1}
        )
        assert found == status
    assert answer["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("prompt", ["", " "])
def test_an_empty_prompt_begins_with_the_start_token(served, prompt):
    (choice,) = served.complete(prompt, max_tokens=1, echo=True, logprobs=1)["choices"]
    assert choice["logprobs"]["token_logprobs"][0] is None


def test_many_long_prompts_are_decoded_in_batches_of_bounded_size(served, lm, monkeypatch):
    prompts = [[number + 5] * (20 + number) for number in range(12)]
    whole = [choice["text"] for choice in served.complete(prompts, max_tokens=4)["choices"]]
    monkeypatch.setattr("workbench.serving.answering.MOST_CACHED_TOKENS", 80)
    sizes = []
    hook = lm.model.register_forward_pre_hook(
        lambda model, args, kwargs: sizes.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    bounded = [choice["text"] for choice in served.complete(prompts, max_tokens=4)["choices"]]
    hook.remove()
    assert bounded == whole and 50 < max(sizes) <= 80
