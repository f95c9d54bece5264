import pytest

from workbench.config.data import DataConfig
from workbench.config.model import Task
from workbench.data.encode import Encoding, encode
from workbench.data.inference_prompts import prompts
from workbench.data.rows import Row
from workbench.data.tokens.control_tokens import read_as_characters, written_once
from workbench.data.tokens.literal_tokens import split_up
from workbench.data.validate import check_rows
from workbench.errors import ConfigError, DataError

CAUSAL, CLASSES = Task.causal_lm, Task.sequence_classification
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def rows(*values):
    return [Row(dict(value), f"a.jsonl:{number}") for number, value in enumerate(values, start=1)]


def encoded(tokenizer, *values, task=CAUSAL, **keys):
    return encode(rows(*values), Encoding(tokenizer, DataConfig(**keys), task))


def ids_and_labels(found):
    return [(row["input_ids"], row["labels"]) for row in found.dataset]


def chat(answer, question="Where is the Nile?", system=None):
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": [{"role": "system", "content": system}] * bool(system) + turns}


@pytest.fixture(params=["byte_tokenizer", "llama_tokenizer"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


CLEAN_AND_MARKED = {
    "text": ({"text": "In Africa."}, {"text": "In Africa.</s>\n"}),
    "prompt-completion": (
        {"prompt": "Nile?", "completion": " In Africa."},
        {"prompt": "Nile?", "completion": " In Africa. </s>"},
    ),
    "alpaca": (
        {"instruction": "Nile?", "input": "", "output": "In Africa."},
        {"instruction": "Nile?", "input": "", "output": "In Africa.</s></s>"},
    ),
    "alpaca history": (
        {"instruction": "Nile?", "input": "now", "output": "In Africa.", "history": [["Po?", "In Italy."]]},
        {
            "instruction": "Nile?",
            "input": "now",
            "output": "In Africa.",
            "history": [["Po?", "In Italy.</s>"]],
        },
    ),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "Nile?"}, {"from": "gpt", "value": "In Africa."}]},
        {
            "conversations": [
                {"from": "human", "value": "Nile?"},
                {"from": "gpt", "value": "In Africa.</s> \n"},
            ]
        },
    ),
    "messages": (chat("In Africa."), chat("In Africa.</s>")),
}


@pytest.mark.parametrize("shape", CLEAN_AND_MARKED)
def test_an_end_token_in_the_rows_is_left_once_and_counted_by_name(tokenizer, shape):
    clean, marked = CLEAN_AND_MARKED[shape]
    if shape == "prompt-completion":
        clean = {**clean, "completion": " In Africa. "}
    found = encoded(tokenizer, marked)
    assert ids_and_labels(found) == ids_and_labels(encoded(tokenizer, clean))
    assert found.account.noted == {written_once("</s>"): 1}
    assert not found.account.control
    assert "1 contain '</s>' where it is added anyway" in str(found.account)


@pytest.mark.parametrize(
    ("clean", "marked"),
    [
        ({"text": "Nile"}, {"text": "\n<s>Nile"}),
        ({"prompt": "Nile?", "completion": "Africa"}, {"prompt": "<s><s>Nile?", "completion": "Africa"}),
        ({"prompt": "Nile?", "completion": "Africa"}, {"prompt": "Nile?", "completion": "<s>Africa"}),
        (
            {"instruction": "Nile?", "input": "x", "output": "y"},
            {"instruction": "<s>Nile?", "input": "x", "output": "y"},
        ),
        (chat("Africa", system="Be brief."), chat("Africa", system=" <s>Be brief.")),
        ({"text": "Nile", "label": 1}, {"text": "<s>Nile", "label": 1}),
    ],
)
@pytest.mark.parametrize("template", ["auto", "alpaca", "chatml"])
def test_a_beginning_token_in_the_rows_is_left_once_where_the_tokenizer_writes_it(
    llama_tokenizer, clean, marked, template
):
    task = CLASSES if "label" in clean else CAUSAL
    keys = {"task": task, "template": template} | ({"labels": ["0", "1"]} if "label" in clean else {})
    found = encoded(llama_tokenizer, marked, **keys)
    assert ids_and_labels(found) == ids_and_labels(encoded(llama_tokenizer, clean, **keys))
    assert found.account.noted == {written_once("<s>"): 1}


def test_a_beginning_token_stays_where_the_tokenizer_writes_none(byte_tokenizer):
    found = encoded(byte_tokenizer, {"prompt": "<s>[INST] Nile? [/INST]", "completion": " Africa"})
    assert found.dataset[0]["input_ids"][0] == byte_tokenizer.bos_token_id
    assert not found.account.noted
    assert found.account.control["<s>"].first == ["a.jsonl:1"]


def test_the_end_of_turn_of_a_template_is_left_once_in_answers_and_questions(byte_tokenizer, monkeypatch):
    monkeypatch.setattr(byte_tokenizer, "chat_template", CHATML)
    found = encoded(byte_tokenizer, chat("Africa<|im_end|>\n", "Nile?<|im_end|>"), chat("x"))
    assert ids_and_labels(found) == ids_and_labels(
        encoded(byte_tokenizer, chat("Africa", "Nile?"), chat("x"))
    )
    assert found.account.noted == {written_once("<|im_end|>"): 1}


@pytest.mark.parametrize("tail", ["<|im_end|>", "</s>", "<|im_end|></s>", "<|im_end|>\n</s>"])
def test_both_ends_of_our_chatml_are_known(byte_tokenizer, tail):
    keys = {"template": "chatml"}
    found = encoded(byte_tokenizer, chat(f"Africa{tail}"), **keys)
    assert ids_and_labels(found) == ids_and_labels(encoded(byte_tokenizer, chat("Africa"), **keys))


def test_an_end_that_the_template_writes_as_plain_characters_is_left_once_too(llama_tokenizer, monkeypatch):
    monkeypatch.setattr(
        llama_tokenizer, "chat_template", CHATML.replace("im_end", "end").replace("im_start", "start")
    )
    found = encoded(llama_tokenizer, chat("Africa<|end|>"))
    assert ids_and_labels(found) == ids_and_labels(encoded(llama_tokenizer, chat("Africa")))


def test_a_prompt_is_written_once_for_answers_as_for_training(llama_tokenizer):
    row = {"prompt": "<s>Nile?", "completion": "Africa</s>"}
    ids = encoded(llama_tokenizer, row).dataset[0]["input_ids"]
    prompt = prompts(rows({"prompt": "<s>Nile?"}), llama_tokenizer, DataConfig(), CAUSAL)[0]
    assert prompt.input_ids == ids[: len(prompt.input_ids)]


def test_control_tokens_inside_a_text_are_named_with_their_first_rows(byte_tokenizer):
    values = [{"instruction": "How?", "input": "", "output": "With <|im_end|> and </s> too."}] * 5
    found = encoded(byte_tokenizer, *values)
    places = found.account.control["<|im_end|>"]
    assert (places.count, places.first) == (5, ["a.jsonl:1", "a.jsonl:2", "a.jsonl:3"])
    assert (
        "5 contain the control token '<|im_end|>' in their text (a.jsonl:1, a.jsonl:2, a.jsonl:3, ...)"
        in str(found.account)
    )


LITERAL = {"instruction": "How?", "input": "", "output": "With <|im_end|> and a line break.</s>"}


@pytest.mark.parametrize("template", ["auto", "alpaca", "chatml"])
def test_split_special_tokens_encodes_the_rows_control_tokens_as_characters(tokenizer, template):
    found = encoded(tokenizer, LITERAL, template=template, split_special_tokens=True)
    example = found.dataset[0]
    assert found.account.noted == {split_up("<|im_end|>"): 1, split_up("</s>"): 1}
    trained = [token for token in example["labels"] if token != -100]
    ends = ["<|im_end|>", "</s>"] if template == "chatml" else ["</s>"]
    assert tokenizer.convert_ids_to_tokens(trained[-len(ends) :]) == ends
    assert not set(tokenizer.all_special_ids) & set(trained[: -len(ends)])
    if tokenizer.convert_tokens_to_ids("|") != tokenizer.unk_token_id:
        assert tokenizer.decode(trained[: -len(ends)]) == LITERAL["output"]


@pytest.mark.parametrize("template", ["auto", "alpaca", "chatml", "plain"])
def test_split_special_tokens_changes_nothing_else(tokenizer, template):
    value = {**LITERAL, "output": "Roses are red.", "system": "你好"}
    keys = {"template": template}
    split = encoded(tokenizer, value, split_special_tokens=True, **keys)
    assert ids_and_labels(split) == ids_and_labels(encoded(tokenizer, value, **keys))


def test_split_special_tokens_holds_for_documents_tools_and_prompts(byte_tokenizer):
    ids = encoded(byte_tokenizer, {"text": "a</s>b"}, split_special_tokens=True).dataset[0]["input_ids"]
    assert ids.count(byte_tokenizer.eos_token_id) == 1
    found = encoded(byte_tokenizer, {"text": "a</s>b"}, split_special_tokens=True)
    assert found.account.noted == {split_up("</s>"): 1}
    assert byte_tokenizer.decode(ids) == "a</s>b</s>"
    row = {**chat("x", "Is </s> an end?"), "tools": [{"name": "</s>"}]}
    data = DataConfig(split_special_tokens=True)
    example = encode(rows(row), Encoding(byte_tokenizer, data, CAUSAL)).dataset[0]["input_ids"]
    assert example.count(byte_tokenizer.eos_token_id) == 1
    prompt = prompts(rows(row), byte_tokenizer, data, CAUSAL)[0]
    assert prompt.input_ids == example[: len(prompt.input_ids)]
    assert prompt.text == '[{"name": "</s>"}]\nuser:Is </s> an end?\nsystem:'


def test_split_special_tokens_refuses_the_characters_that_it_works_with(byte_tokenizer):
    with pytest.raises(DataError, match=r"a.jsonl:1: contains one of U\+FDD0 to U\+FDD2"):
        encoded(byte_tokenizer, chat("a\ufdd0</s>\ufdd1"), split_special_tokens=True)


def test_split_special_tokens_is_not_for_classifiers():
    data = DataConfig(path="a", split_special_tokens=True)
    with pytest.raises(ConfigError, match="data.split_special_tokens: only for causal models"):
        check_rows(rows({"text": "a", "label": 1}), data, CLASSES)


def test_an_answer_that_is_nothing_but_its_end_is_refused(tokenizer):
    with pytest.raises(DataError, match="a.jsonl:1: the answer in turn 2 is nothing but </s>"):
        encoded(tokenizer, chat("</s>"))


def test_control_tokens_of_another_tokenizer_are_counted(tokenizer):
    found = encoded(tokenizer, chat("a<|eot_id|>"), {"messages": chat("b")["messages"]})
    assert found.account.noted == {read_as_characters("<|eot_id|>"): 1}
    assert not found.account.control
    assert encoded(tokenizer, {"text": "a<|endoftext|>"}).account.noted == {
        read_as_characters("<|endoftext|>"): 1
    }
