from dataclasses import replace

import pytest
from tokenizers import processors

from workbench.config.data import CheckMask, DataConfig, DataFormat, SourceConfig, Truncation
from workbench.config.model import Task
from workbench.data.chat.messages import with_object
from workbench.data.classification import label_names
from workbench.data.encode import NOTHING_TRAINED, Encoding, encode
from workbench.data.inference_prompts import prompts
from workbench.data.rows import Row
from workbench.errors import DataError

CAUSAL, CLASSES = Task.causal_lm, Task.sequence_classification
ALPACA = {"instruction": "Write a poem.", "input": "", "output": "Roses are red."}
CHINESE = {"instruction": "翻译成英文。", "input": "你好", "output": "Hello"}
CHAT = {
    "conversations": [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "三加四等于几？"},
        {"from": "gpt", "value": "七"},
        {"from": "human", "value": "再加一呢？"},
        {"from": "gpt", "value": "八"},
    ]
}


def rows(*values):
    return [Row(dict(value), f"a.jsonl:{number}") for number, value in enumerate(values, start=1)]


def encoded(tokenizer, *values, task=CAUSAL, seed=0, **keys):
    return encode(rows(*values), Encoding(tokenizer, DataConfig(**keys), task, seed=seed))


def trained_parts(tokenizer, example):
    """The decoded runs of trained tokens."""
    parts, run = [], []
    for token, label in zip([*example["input_ids"], -1], [*example["labels"], -100], strict=True):
        if label != -100:
            assert label == token
            run.append(token)
        elif run:
            parts.append(tokenizer.decode(run))
            run = []
    return parts


def whole_text(tokenizer, example):
    return tokenizer.decode(example["input_ids"])


@pytest.fixture(params=["byte_tokenizer", "llama_tokenizer"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("template", ["open-llama", "alpaca", "alpaca-zh", "chatml", "plain"])
def test_exactly_the_answers_and_their_ends_are_trained(tokenizer, template):
    end = "<|im_end|></s>" if template == "chatml" else "</s>"
    dataset = encoded(tokenizer, ALPACA, CHINESE, template=template).dataset
    assert trained_parts(tokenizer, dataset[0]) == [f"Roses are red.{end}"]
    assert trained_parts(tokenizer, dataset[1]) == [f"Hello{end}"]
    dataset = encoded(tokenizer, CHAT, template=template).dataset
    assert trained_parts(tokenizer, dataset[0]) == [f"七{end}", f"八{end}"]


def test_the_templates_write_what_their_sources_write(byte_tokenizer):
    def text(template, row):
        dataset = encoded(byte_tokenizer, row, template=template).dataset
        return whole_text(byte_tokenizer, dataset[0])

    assert text("open-llama", CHAT) == (
        "Be brief.\nuser:三加四等于几？\nsystem:七</s>user:再加一呢？\nsystem:八</s>"
    )
    assert text("alpaca", ALPACA) == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\nWrite a poem.\n\n### Response:Roses are red.</s>"
    )
    assert text("alpaca", CHINESE) == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n### Instruction:\n翻译成英文。\n\n"
        "### Input:\n你好\n\n### Response:Hello</s>"
    )
    assert text("alpaca-zh", CHINESE) == (
        "下面是一条描述任务的指令，并附有提供更多信息的输入。请写出恰当完成该任务的回答。\n\n"
        "### 指令：\n翻译成英文。\n\n### 输入：\n你好\n\n### 回答：Hello</s>"
    )
    assert text("chatml", ALPACA) == (
        "<|im_start|>user\nWrite a poem.<|im_end|>\n<|im_start|>assistant\nRoses are red.<|im_end|></s>"
    )
    assert text("plain", CHINESE) == "翻译成英文。\n你好Hello</s>"


def test_prompt_and_completion_are_taken_as_they_are(tokenizer):
    row = {"prompt": "三加四等于", "completion": "七。"}
    example = encoded(tokenizer, row).dataset[0]
    assert trained_parts(tokenizer, example) == ["七。</s>"]
    bos = "<s>" if tokenizer("a").input_ids[0] == tokenizer.bos_token_id else ""
    assert whole_text(tokenizer, example).replace(" ", "") == bos + "三加四等于七。</s>"


@pytest.mark.parametrize("template", ["open-llama", "alpaca", "alpaca-zh", "chatml", "plain"])
@pytest.mark.parametrize("row", [ALPACA, CHINESE, {"prompt": "ab", "completion": "cd"}])
def test_a_prompt_has_the_same_ids_in_training_and_in_generation(tokenizer, template, row):
    data = DataConfig(template=template)
    example = encode(rows(row), Encoding(tokenizer, data, CAUSAL)).dataset[0]
    first = next(i for i, label in enumerate(example["labels"]) if label != -100)
    unanswered = {key: value for key, value in row.items() if key not in ("output", "completion")}
    for given in (row, unanswered):
        prompt = prompts(rows(given), tokenizer, data, CAUSAL)[0]
        assert prompt.input_ids == example["input_ids"][:first]
        assert prompt.input_ids == tokenizer(prompt.text).input_ids


def test_a_later_prompt_of_a_chat_has_the_same_ids_in_training_and_in_generation(tokenizer):
    data = DataConfig()
    ids = encode(rows(CHAT), Encoding(tokenizer, data, CAUSAL)).dataset[0]["input_ids"]
    prompt = prompts(rows({"conversations": CHAT["conversations"][:-1]}), tokenizer, data, CAUSAL)[0]
    assert ids[: len(prompt.input_ids)] == prompt.input_ids
    assert tokenizer.decode(ids[len(prompt.input_ids) :]) == "八</s>"


def test_a_token_that_would_reach_over_the_boundary_is_split_there(byte_tokenizer):
    whole = byte_tokenizer("What is the capital").input_ids
    example = encoded(byte_tokenizer, {"prompt": "What is the cap", "completion": "ital"}).dataset[0]
    assert whole != example["input_ids"][: len(whole)], "the tokenizer joins the two, or this tests nothing"
    assert example["input_ids"][: -len(byte_tokenizer("ital</s>").input_ids)] == (
        byte_tokenizer("What is the cap").input_ids
    )
    assert trained_parts(byte_tokenizer, example) == ["ital</s>"]


@pytest.fixture
def with_template(byte_tokenizer, monkeypatch):
    """The byte-level tokenizer with a chat template of its own."""

    def setter(template):
        monkeypatch.setattr(byte_tokenizer, "chat_template", template)
        return byte_tokenizer

    return setter


OWN_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_the_tokenizers_own_chat_template_comes_first(with_template):
    tokenizer = with_template(OWN_TEMPLATE)
    example = encoded(tokenizer, CHAT).dataset[0]
    assert trained_parts(tokenizer, example) == ["七<|im_end|>", "八<|im_end|>"]
    assert whole_text(tokenizer, example) == (
        "<s><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n三加四等于几？<|im_end|>\n"
        "<|im_start|>assistant\n七<|im_end|>\n<|im_start|>user\n再加一呢？<|im_end|>\n"
        "<|im_start|>assistant\n八<|im_end|>"
    )
    prompt = prompts(rows(ALPACA), tokenizer, DataConfig(), CAUSAL)[0]
    assert prompt.text == "<s><|im_start|>user\nWrite a poem.<|im_end|>\n<|im_start|>assistant\n"
    assert prompt.input_ids == tokenizer(prompt.text, add_special_tokens=False).input_ids


def test_a_chat_template_without_an_end_of_turn_gets_one_after_the_last_answer(with_template):
    tokenizer = with_template(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    assert trained_parts(tokenizer, encoded(tokenizer, ALPACA).dataset[0]) == ["Roses are red.\n</s>"]
    with pytest.raises(DataError, match="a.jsonl:1: the chat template ends an earlier answer without a con"):
        encoded(tokenizer, CHAT)
    example = encoded(tokenizer, CHAT, check_mask=CheckMask.warn).dataset[0]
    assert trained_parts(tokenizer, example) == ["七\n", "八\n</s>"]


def test_a_chat_template_that_forgets_earlier_answers_is_refused(with_template):
    tokenizer = with_template(
        "{% for m in messages %}{{ m.content if loop.last or m.role != 'assistant' }};{% endfor %}"
    )
    with pytest.raises(DataError, match="a.jsonl:1: the chat template leaves out a turn"):
        encoded(tokenizer, CHAT)
    found = encoded(tokenizer, CHAT, check_mask=CheckMask.warn)
    assert [trained_parts(tokenizer, example) for example in found.dataset] == [["七;</s>"], ["八;</s>"]]


def test_a_chat_template_that_refuses_a_role_is_one_line(with_template):
    tokenizer = with_template("{{ raise_exception('no system turns, please') }}")
    with pytest.raises(
        DataError, match="a.jsonl:1: the chat template refuses the turns, no system turns, .*choose an"
    ):
        encoded(tokenizer, CHAT)


def test_messages_keep_roles_tools_and_untrained_answers(byte_tokenizer):
    row = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "weather"}}]},
            {"role": "tool", "content": "rain"},
            {"role": "assistant", "content": "Rain.", "weight": 0},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "Yes."},
        ],
        "tools": [{"name": "weather"}],
    }
    example = encoded(byte_tokenizer, row).dataset[0]
    assert whole_text(byte_tokenizer, example) == (
        '[{"name": "weather"}]\nuser:Weather?\nsystem:[{"function": {"name": "weather"}}]</s>tool:rain\n'
        "system:Rain.</s>user:Sure?\nsystem:Yes.</s>"
    )
    assert trained_parts(byte_tokenizer, example) == ['[{"function": {"name": "weather"}}]</s>', "Yes.</s>"]


THINKING_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = {
    "messages": [
        {"role": "user", "content": "3+4?"},
        {
            "role": "assistant",
            "reasoning_content": "一二三",
            "content": "7",
            "tool_calls": [{"function": {}}],
        },
    ],
    "tools": [{"name": "add"}],
}


def test_thoughts_are_trained_where_the_template_writes_them_and_what_it_does_not_is_counted(with_template):
    tokenizer = with_template(THINKING_TEMPLATE)
    plain = [{"role": "user", "content": "3+4?"}, {"role": "assistant", "content": "7"}]
    found = encoded(tokenizer, THINKING, {"messages": plain}, THINKING)
    assert found.account.unwritten == {"tool_calls": 2, "tools": 2}
    assert "2 lose 'tool_calls', which the template does not write" in str(found.account)
    assert trained_parts(tokenizer, found.dataset[0]) == ["<think>\n一二三\n</think>\n\n7<|im_end|>"]
    assert trained_parts(tokenizer, found.dataset[1]) == ["7<|im_end|>"]
    ours = encoded(tokenizer, THINKING, template="chatml")
    assert ours.account.unwritten == {"reasoning_content": 1}
    assert trained_parts(tokenizer, ours.dataset[0]) == ['7[{"function": {}}]<|im_end|></s>']


@pytest.mark.parametrize("arguments", ['{"city": "北京"}', {"city": "北京"}])
@pytest.mark.parametrize("nested", [True, False], ids=["function", "bare"])
@pytest.mark.parametrize("written", ["| tojson", ""], ids=["as object", "as text"])
def test_the_arguments_of_a_call_reach_a_template_in_the_form_that_it_takes(
    with_template, arguments, nested, written
):
    tokenizer = with_template(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
        "{% for call in m.tool_calls or [] %}{% set called = call.function or call %}"
        "<call>{{ called.name + ' ' + called.arguments " + written + " }}</call>{% endfor %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    call = {"name": "weather", "arguments": arguments}
    answer = {"role": "assistant", "content": None, "tool_calls": [{"function": call} if nested else call]}
    row = {"messages": [{"role": "user", "content": "天气？"}, answer]}
    if not written and isinstance(arguments, dict):
        with pytest.raises(DataError, match="a.jsonl:1: the chat template refuses the turns"):
            encoded(tokenizer, row)
        return
    example = encoded(tokenizer, row).dataset[0]
    assert trained_parts(tokenizer, example) == ['<call>weather {"city": "北京"}</call><|im_end|>']


def test_a_call_of_a_tool_that_the_template_would_leave_out_is_no_empty_answer(with_template):
    asked, answer = THINKING["messages"]
    row = {"messages": [asked, {**answer, "content": None}]}
    with pytest.raises(
        DataError, match="a.jsonl:1: an answer is nothing but tool_calls, which the tokenizer"
    ):
        encoded(with_template(THINKING_TEMPLATE), row)


def test_a_control_experiment_deals_out_the_thoughts_with_the_answers(with_template):
    tokenizer = with_template(THINKING_TEMPLATE)
    rows = [
        {
            "messages": [
                {"role": "user", "content": n},
                {"role": "assistant", "reasoning_content": n, "content": n},
            ]
        }
        for n in "abcdef"
    ]
    shuffled = encoded(tokenizer, *rows, shuffle_answers=True, seed=1).dataset
    parts = [trained_parts(tokenizer, example)[0] for example in shuffled]
    assert sorted(parts) == [f"<think>\n{n}\n</think>\n\n{n}<|im_end|>" for n in "abcdef"] != parts


def test_an_answer_of_weight_0_is_not_trained_in_sharegpt_either(byte_tokenizer):
    turns = CHAT["conversations"]
    muted = {"conversations": [*turns[:2], {**turns[2], "weight": 0}, *turns[3:]]}
    assert trained_parts(byte_tokenizer, encoded(byte_tokenizer, muted).dataset[0]) == ["八</s>"]


CONVERSATION = {
    "prompt": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ],
    "completion": [{"role": "assistant", "content": "four"}],
}


def test_of_a_chat_as_prompt_and_completion_only_the_completion_is_trained(byte_tokenizer):
    example = encoded(byte_tokenizer, CONVERSATION).dataset[0]
    assert whole_text(byte_tokenizer, example) == (
        "Be kind.\nuser:one\nsystem:two</s>user:three\nsystem:four</s>"
    )
    assert trained_parts(byte_tokenizer, example) == ["four</s>"]
    for given in (CONVERSATION, {"prompt": CONVERSATION["prompt"]}):
        prompt = prompts(rows(given), byte_tokenizer, DataConfig(), CAUSAL)[0]
        assert prompt.text.endswith("user:three\nsystem:")
        assert prompt.input_ids == example["input_ids"][: len(prompt.input_ids)]


def test_alpaca_history_is_trained_as_earlier_turns(byte_tokenizer):
    example = encoded(byte_tokenizer, {**ALPACA, "history": [["Hello", "Hi"]]}).dataset[0]
    assert trained_parts(byte_tokenizer, example) == ["Hi</s>", "Roses are red.</s>"]


def test_a_table_may_hold_history_and_tools_as_json_text(byte_tokenizer):
    row = {**ALPACA, "history": '[["Hello", "Hi"]]', "tools": '[{"name": "weather"}]'}
    example = encoded(byte_tokenizer, {**ALPACA, "history": "[]", "tools": ""}, row).dataset[1]
    assert trained_parts(byte_tokenizer, example) == ["Hi</s>", "Roses are red.</s>"]
    assert whole_text(byte_tokenizer, example).startswith('[{"name": "weather"}]\nuser:Hello')


def test_a_chat_without_a_trained_answer_is_dropped_and_counted(byte_tokenizer):
    muted = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]
    found = encoded(byte_tokenizer, {"messages": muted}, {"messages": [muted[0], {**muted[1], "weight": 1}]})
    assert len(found.dataset) == 1
    assert found.account.dropped == {NOTHING_TRAINED: 1}
    with pytest.raises(DataError, match="nothing of 'x' is left to train on .1 rows: no unmasked answer"):
        encoded(byte_tokenizer, {"messages": muted}, path="x")


@pytest.mark.parametrize("own", [None, OWN_TEMPLATE])
def test_an_answer_that_begins_a_chat_is_read_and_not_trained(with_template, own):
    tokenizer = with_template(own)
    begun = {"conversations": CHAT["conversations"][2:]}
    found = encoded(tokenizer, begun, {"conversations": CHAT["conversations"][2:3]})
    end = "<|im_end|>" if own else "</s>"
    assert trained_parts(tokenizer, found.dataset[0]) == [f"八{end}"]
    assert f"七{end}" in whole_text(tokenizer, found.dataset[0])
    assert found.account.dropped == {NOTHING_TRAINED: 1}


def test_cut_start_keeps_a_beginning_that_the_tokenizers_own_template_writes(with_template):
    tokenizer = with_template(OWN_TEMPLATE)
    whole = encoded(tokenizer, CHAT).dataset[0]["input_ids"]
    cut = Truncation["cut-start"]
    example = encoded(tokenizer, CHAT, max_length=len(whole) - 3, truncation=cut).dataset[0]
    assert example["input_ids"] == [tokenizer.bos_token_id, *whole[4:]]


def test_empty_documents_are_dropped_and_counted(llama_tokenizer):
    found = encoded(llama_tokenizer, {"text": "Paris"}, {"text": ""}, {"text": " \n"})
    assert found.dataset["where"][:] == ["a.jsonl:1"]
    assert str(found.account).endswith("2 dropped (empty text)")
    with pytest.raises(DataError, match=r"nothing of 'x' is left to train on \(1 rows: empty text\)"):
        encoded(llama_tokenizer, {"text": ""}, path="x")


LONG = {"prompt": "a b c d e f", "completion": " g h i j k l"}


def lengths(tokenizer):
    prompt = len(tokenizer(LONG["prompt"]).input_ids)
    return prompt, len(encoded(tokenizer, LONG).dataset[0]["input_ids"])


def test_cut_end_keeps_the_prompt_and_says_how_many_rows_were_cut(tokenizer):
    prompt, whole = lengths(tokenizer)
    found = encoded(tokenizer, LONG, {"prompt": "a", "completion": "b"}, max_length=whole - 2)
    assert found.account.num_cut == 1
    assert len(found.dataset[0]["input_ids"]) == whole - 2
    assert found.dataset[0]["input_ids"][:prompt] == tokenizer(LONG["prompt"]).input_ids
    assert "1 cut" in str(found.account)


def test_a_row_without_room_for_an_answer_is_dropped_and_counted(tokenizer):
    prompt, whole = lengths(tokenizer)
    for limit, num_kept in ((prompt, 1), (prompt + 1, 2)):
        found = encoded(tokenizer, LONG, {"prompt": "a", "completion": "b"}, max_length=limit)
        assert len(found.dataset) == num_kept
        assert found.account.dropped.total() == 2 - num_kept
    assert str(
        encoded(tokenizer, LONG, {"prompt": "a", "completion": "b"}, max_length=prompt).account
    ).endswith(f"1 dropped (no answer within data.max_length={prompt})")
    with pytest.raises(DataError, match="is left to train on"):
        encoded(tokenizer, LONG, max_length=prompt)


def test_cut_start_keeps_the_answer_and_the_special_beginning(tokenizer):
    prompt, whole = lengths(tokenizer)
    found = encoded(tokenizer, LONG, max_length=whole - 2, truncation=Truncation["cut-start"])
    example = found.dataset[0]
    full = encoded(tokenizer, LONG).dataset[0]
    special = 1 if full["input_ids"][0] == tokenizer.bos_token_id else 0
    assert example["input_ids"] == full["input_ids"][:special] + full["input_ids"][special + 2 :]
    assert trained_parts(tokenizer, example) == trained_parts(tokenizer, full)
    assert found.account.num_cut == 1


def test_cut_start_trains_no_answer_whose_beginning_it_cut_away(byte_tokenizer):
    full = encoded(byte_tokenizer, CHAT).dataset[0]["input_ids"]
    first = next(
        i for i, label in enumerate(encoded(byte_tokenizer, CHAT).dataset[0]["labels"]) if label != -100
    )
    cut = Truncation["cut-start"]
    example = encoded(byte_tokenizer, CHAT, max_length=len(full) - first - 1, truncation=cut).dataset[0]
    assert trained_parts(byte_tokenizer, example) == ["八</s>"]


def test_drop_leaves_out_what_is_too_long(byte_tokenizer):
    _, whole = lengths(byte_tokenizer)
    short = {"prompt": "a", "completion": "b"}
    found = encoded(byte_tokenizer, LONG, short, max_length=whole - 1, truncation=Truncation["drop"])
    assert (len(found.dataset), found.account.dropped.total(), found.account.num_cut) == (1, 1, 0)
    assert len(encoded(byte_tokenizer, LONG, max_length=whole, truncation=Truncation["drop"]).dataset) == 1


def test_shuffled_answers_are_the_same_answers_under_other_prompts(byte_tokenizer):
    values = [{"prompt": f"{i}", "completion": f"a{i}"} for i in range(30)]
    straight = encoded(byte_tokenizer, *values).dataset
    shuffled = encoded(byte_tokenizer, *values, shuffle_answers=True, seed=3).dataset
    answers = [trained_parts(byte_tokenizer, example)[0] for example in shuffled]
    assert sorted(answers) == sorted(trained_parts(byte_tokenizer, example)[0] for example in straight)
    assert sum(answer == f"a{i}</s>" for i, answer in enumerate(answers)) < 5
    again = encoded(byte_tokenizer, *values, shuffle_answers=True, seed=3).dataset
    assert again["input_ids"] == shuffled["input_ids"]


def test_plain_text_is_trained_whole_and_nothing_of_it_is_lost(byte_tokenizer):
    values = [{"text": "三加四等于几？" * 5}, {"text": "Paris"}]
    dataset = encoded(byte_tokenizer, *values, max_length=8).dataset
    assert max(dataset["length"]) == 8
    assert "".join(byte_tokenizer.decode(ids) for ids in dataset["input_ids"]) == (
        "三加四等于几？" * 5 + "</s>Paris</s>"
    )
    assert all(row["labels"] == [-100, *row["input_ids"][1:]] for row in dataset)
    packed = encoded(byte_tokenizer, *values, max_length=8, packing=True).dataset
    assert set(packed["length"][:-1]) == {8}
    assert sum(packed["length"]) == sum(dataset["length"])


def test_a_row_can_be_traced_to_its_file(byte_tokenizer):
    dataset = encoded(byte_tokenizer, ALPACA, CHINESE).dataset
    assert dataset["row"][:] == [0, 1]
    assert dataset["where"][:] == ["a.jsonl:1", "a.jsonl:2"]
    assert dataset["length"][:] == [len(ids) for ids in dataset["input_ids"]]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (
            [{"a": "x", "b": "y"}],
            "a.jsonl:1: no known format has the columns a, b (known: conversations, messages",
        ),
        ([{**ALPACA, "output": ""}], "a.jsonl:1: the answer in turn 2 is empty"),
        ([ALPACA, {"instruction": "x"}], "a.jsonl:2: no column 'output' (has: instruction)"),
        ([ALPACA, {"prompt": "x", "completion": "y"}], "a.jsonl:2: no column 'instruction'"),
        ([{"prompt": "x", "completion": 3}], "a.jsonl:1: column 'completion' must be text, not 3"),
        ([{"prompt": "x", "completion": None}], "a.jsonl:1: column 'completion' is null"),
        ([{"conversations": "x"}], "a.jsonl:1: column 'conversations' must be a list of turns, not \"x\""),
        (
            [{"conversations": [{"from": "cat", "value": "x"}]}],
            "a.jsonl:1: unknown role 'cat' (known: system",
        ),
        ([{"conversations": [{"from": "gpt"}]}], "a.jsonl:1: a turn must have the texts 'from' and 'value'"),
        (
            [{"messages": [{"role": "user", "content": "x"}] * 2}],
            "a.jsonl:1: turns 1 and 2 are both from the user",
        ),
        ([{"messages": [{"role": "user", "content": "x"}]}], "a.jsonl:1: the last turn is from the user"),
        (
            [{"messages": [{"role": "user", "content": 3}]}],
            "a.jsonl:1: a message must have a 'role' and a 'cont",
        ),
        ([{**CHAT, "tools": "{"}], "a.jsonl:1: column 'tools' has malformed JSON"),
        (
            [{**CHAT, "tools": "[" * 10**5}],
            "a.jsonl:1: column 'tools' has malformed JSON, nested too deeply",
        ),
        (
            [{**CHAT, "tools": "[" * 500 + "]" * 500}],
            "a.jsonl:1: column 'tools' has malformed JSON, nested",
        ),
        ([{**CHAT, "tools": f"[{'9' * 5000}]"}], "a.jsonl:1: column 'tools' has malformed JSON"),
        (
            [{**ALPACA, "history": [["a"]]}],
            "a.jsonl:1: column 'history' must be a list of [question, answer]",
        ),
        (
            [{**CONVERSATION, "completion": "four"}],
            "a.jsonl:1: column 'completion' must be a list of turns, not \"four\"",
        ),
        (
            [CONVERSATION, {"prompt": "x", "completion": "y"}],
            "a.jsonl:2: the prompt is text, but others are lists of messages (make them two of data.sources)",
        ),
        ([{"sentence": "x", "label": "y", "text": "z"}], None),
    ],
)
def test_a_bad_row_is_one_line_that_names_its_place(byte_tokenizer, values, complaint):
    if complaint is None:
        assert encoded(byte_tokenizer, *values).account.num_examples == 1
        return
    with pytest.raises(DataError) as caught:
        encoded(byte_tokenizer, *values)
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments", ["[" * 10**5, '{"a": ' + "[" * 500 + "]" * 500 + "}"], ids=["open", "closed"]
)
def test_arguments_of_a_call_that_are_nested_too_deeply_stay_text(arguments):
    assert with_object({"function": {"arguments": arguments}}) == {"function": {"arguments": arguments}}


def test_the_task_and_the_format_must_agree(byte_tokenizer):
    with pytest.raises(DataError, match="data.format: 'labelled' is for classifiers"):
        encoded(byte_tokenizer, ALPACA, format=DataFormat["labelled"])
    with pytest.raises(DataError, match="data.format: 'alpaca' rows have no classes"):
        encoded(byte_tokenizer, ALPACA, format=DataFormat["alpaca"], task=CLASSES)


def test_classes_are_numbered_as_named_or_as_sorted(byte_tokenizer):
    values = [{"sentence": "好", "label": "Positive"}, {"sentence": "坏", "label": "Negative"}]
    dataset = encoded(byte_tokenizer, *values, task=CLASSES).dataset
    assert dataset["labels"][:] == [1, 0]
    assert dataset["input_ids"][0] == byte_tokenizer("好").input_ids
    named = encoded(byte_tokenizer, *values, task=CLASSES, labels=["Positive", "Negative"]).dataset
    assert named["labels"][:] == [0, 1]


def test_whole_numbers_are_sorted_as_numbers():
    values = [{"text": "x", "label": label} for label in (100, 20, 3)]
    assert label_names(rows(*values), DataConfig()) == ["3", "20", "100"]
    assert label_names(rows({"label": True}, {"label": False}), DataConfig()) == ["false", "true"]
    assert label_names(rows({"label": "--1"}, {"label": "-2"}), DataConfig()) == ["-2", "--1"]


def test_truth_values_fit_classes_that_a_yaml_list_names(byte_tokenizer):
    values = [{"text": "x", "label": True}, {"text": "y", "label": "False"}, {"text": "z", "label": False}]
    names = ["False", "True"]  # what OmegaConf makes of [false, true] for a list of texts
    assert encoded(byte_tokenizer, *values, task=CLASSES, labels=names).dataset["labels"][:] == [1, 0, 0]


def test_numbers_may_stand_for_named_classes_while_they_are_in_range(byte_tokenizer):
    names = ["bad", "good"]
    good = [{"sentence": "x", "label": "1"}, {"sentence": "x", "label": 0}]
    assert encoded(byte_tokenizer, *good, task=CLASSES, labels=names).dataset["labels"][:] == [1, 0]
    with pytest.raises(DataError, match=r"a.jsonl:1: class number 2 is out of range \(0 to 1: bad, good\)"):
        encoded(byte_tokenizer, {"sentence": "x", "label": 2}, task=CLASSES, labels=names)
    with pytest.raises(DataError, match=r"a.jsonl:1: unknown class 'ugly' \(known: bad, good\)"):
        encoded(byte_tokenizer, {"sentence": "x", "label": "ugly"}, task=CLASSES, labels=names)


def test_a_pair_of_texts_is_two_lines(tokenizer):
    values = [{"sentence1": "一", "sentence2": "二", "label": i} for i in (0, 1)]
    dataset = encoded(tokenizer, *values, task=CLASSES).dataset
    assert dataset["input_ids"][0] == tokenizer("一\n二").input_ids
    prompt = prompts(rows({"sentence1": "一", "sentence2": "二"}), tokenizer, DataConfig(), CLASSES)[0]
    assert prompt.input_ids == dataset["input_ids"][0]


@pytest.mark.parametrize(
    ("first", "second", "policy", "kept"),
    [
        ("0123456789", "XYZ", "cut-end", "0123\nXYZ"),
        ("012", "QJKVXYZ", "cut-end", "012\nQJKV"),
        ("0123456789", "GHQJKVXYZ", "cut-end", "0123\nGHQ"),
        ("0123456789", "XYZ", "cut-start", "6789\nXYZ"),
        ("012", "GHQJKVXYZ", "cut-start", "012\nVXYZ"),
        ("0123456789", "GHQJKVXYZ", "cut-start", "789\nVXYZ"),
    ],
)
def test_of_a_pair_the_longer_text_is_cut(byte_tokenizer, first, second, policy, kept):
    values = [{"text": first, "pair": second, "label": 1}, {"text": "a", "pair": "b", "label": 0}]
    keys = {"task": CLASSES, "max_length": 8, "truncation": Truncation[policy]}
    found = encoded(byte_tokenizer, *values, **keys)
    assert found.account.num_cut == 1
    assert whole_text(byte_tokenizer, found.dataset[0]) == kept


@pytest.mark.parametrize("policy", ["cut-end", "cut-start", "drop"])
def test_a_text_to_classify_is_whole_in_its_prompt(llama_tokenizer, policy):
    data = DataConfig(max_length=3, truncation=Truncation[policy])
    prompt = prompts(rows({"text": "a b c d e f"}), llama_tokenizer, data, CLASSES)[0]
    assert prompt.input_ids == llama_tokenizer("a b c d e f").input_ids


@pytest.mark.parametrize("policy", ["cut-end", "cut-start", "drop"])
def test_a_length_that_leaves_no_room_for_a_text_is_refused(llama_tokenizer, monkeypatch, policy):
    frame = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    monkeypatch.setattr(llama_tokenizer.backend_tokenizer, "post_processor", frame)
    values = [{"text": "a b c", "label": number} for number in (0, 1)]
    with pytest.raises(
        DataError, match=r"data.max_length: 2 is too small \(the tokenizer adds 2 special tokens"
    ):
        encoded(llama_tokenizer, *values, task=CLASSES, max_length=2, truncation=Truncation[policy])


@pytest.mark.parametrize("policy", ["cut-end", "cut-start", "drop"])
def test_long_texts_to_classify_are_cut_within_their_special_tokens(llama_tokenizer, policy):
    values = [{"text": "a b c d e f", "label": 0}, {"text": "a", "label": 1}]
    keys = {"task": CLASSES, "max_length": 5, "truncation": Truncation[policy]}
    found = encoded(llama_tokenizer, *values, **keys)
    whole = llama_tokenizer("a b c d e f").input_ids
    if policy == "drop":
        assert found.account.dropped == {"longer than data.max_length=5": 1}
        assert found.dataset["labels"][:] == [1]
        return
    kept = whole[1:5] if policy == "cut-end" else whole[-4:]
    assert found.dataset["input_ids"][0] == [whole[0], *kept]
    assert found.account.num_cut == 1


def test_shuffled_classes_keep_their_counts(byte_tokenizer):
    values = [{"text": str(i), "label": i % 2} for i in range(40)]
    straight = encoded(byte_tokenizer, *values, task=CLASSES).dataset["labels"][:]
    shuffled = encoded(byte_tokenizer, *values, task=CLASSES, shuffle_answers=True, seed=1).dataset["labels"][
        :
    ]
    assert sum(shuffled) == sum(straight)
    assert shuffled != straight


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (
            [{"text": "x"}],
            "a.jsonl:1: no column 'label' with the class (has: text; name yours with data.columns.label)",
        ),
        ([{"words": "x", "label": 1}, {"label": 0}], "a.jsonl:1: no text column (has: words, label"),
        ([{"text": " ", "label": 1}, {"text": "x", "label": 0}], "a.jsonl:1: column 'text' is empty"),
        (
            [{"text": "x", "label": 0.5}],
            "a.jsonl:1: column 'label' must be a name or an integer, not 0.5",
        ),
        ([{"text": "x", "label": 1}], "data.labels: only one class, '1'"),
    ],
)
def test_a_bad_labelled_row_is_one_line(byte_tokenizer, values, complaint):
    with pytest.raises(DataError) as caught:
        encoded(byte_tokenizer, *values, task=CLASSES)
    assert str(caught.value).startswith(complaint)


def test_columns_that_nothing_reads_are_counted(byte_tokenizer):
    rated = encoded(byte_tokenizer, {"text": "good", "label": "x", "id": 1}, {"text": "bad", "label": None})
    assert rated.account.noted == {"have a column 'label' that is not read": 1}
    values = {"instruction": "a", "input": "b", "output": "c", "history": [], "system": "d", "kto_tag": False}
    wanted = encoded(byte_tokenizer, values)
    assert wanted.account.noted == {"have a column 'kto_tag' that is not read": 1}


def test_numbers_under_another_name_are_told_as_missing_with_the_columns_that_are_there(byte_tokenizer):
    complaint = r"a.jsonl:1: no column 'label' with the number \(has: text, score; name yours with data"
    with pytest.raises(DataError, match=complaint):
        encoded(byte_tokenizer, {"text": "x", "score": 0.5}, task=CLASSES, regression=True)


def test_packed_rows_hold_the_same_texts_each_counted_from_zero(byte_tokenizer):
    values = [{"prompt": f"{i}+{i}=", "completion": "七" * (i % 5 + 1)} for i in range(40)]
    single = encoded(byte_tokenizer, *values)
    packed = encoded(byte_tokenizer, *values, packing=True, max_length=32)
    assert packed.account.num_tokens == single.account.num_tokens
    assert packed.account.num_trained == single.account.num_trained
    assert len(packed.dataset) < len(single.dataset) / 2
    assert max(packed.dataset["length"]) <= 32
    texts = []
    for row in packed.dataset:
        starts = [i for i, position in enumerate(row["position_ids"]) if position == 0]
        for start, end in zip(starts, [*starts[1:], row["length"]], strict=True):
            assert row["position_ids"][start:end] == list(range(end - start))
            texts.append((row["input_ids"][start:end], row["labels"][start:end]))
        assert row["where"].count("a.jsonl:") == len(starts)
    assert sorted(texts) == sorted((row["input_ids"], row["labels"]) for row in single.dataset)


def test_no_label_stands_on_the_first_token_of_a_packed_text(byte_tokenizer):
    dataset = encoded(
        byte_tokenizer, *[{"text": "Paris " * i} for i in range(1, 9)], packing=True, max_length=16
    ).dataset
    assert len(dataset) > 1
    for row in dataset:
        for label, position, token in zip(row["labels"], row["position_ids"], row["input_ids"], strict=True):
            assert label == (-100 if position == 0 else token)


def test_each_source_keeps_its_format_and_template(byte_tokenizer):
    data = DataConfig(
        template="open-llama",
        sources={
            "alpaca": SourceConfig(path="a", template="alpaca"),
            "chat": SourceConfig(path="b"),
            "text": SourceConfig(path="c"),
        },
    )
    given = [
        Row(ALPACA, "a:1", "alpaca"),
        Row(CHAT, "b:1", "chat"),
        Row({"text": "Paris"}, "c:1", "text"),
    ]
    dataset = encode(given, Encoding(byte_tokenizer, data, CAUSAL)).dataset
    texts = [whole_text(byte_tokenizer, example) for example in dataset]
    assert texts[0].startswith("Below is an instruction")
    assert texts[1].startswith("Be brief.\nuser:")
    assert texts[2] == "Paris</s>"
    assert dataset["row"][:] == [0, 1, 2]
    packed = encode(given, Encoding(byte_tokenizer, replace(data, packing=True), CAUSAL)).dataset
    assert len(packed) == 1
    found = prompts(given, byte_tokenizer, data, CAUSAL)
    assert [prompt.where for prompt in found] == ["a:1", "b:1", "c:1"]
    assert found[0].text.startswith("Below is an instruction")
