import copy
import io

from rich.console import Console

from workbench.config.data import DataConfig
from workbench.config.model import Task
from workbench.data.encode import Encoding, encode
from workbench.data.report import data_report, length_histogram
from workbench.data.rows import Row

VALUES = [
    {"prompt": "user:三加四等于几？\nsystem:", "completion": "七"},
    {"prompt": "user:三加四等于几？\nsystem:", "completion": "七"},
    {"prompt": "a", "completion": "b"},
    {"prompt": "x" * 90, "completion": "y"},
]


def report(tokenizer, values=VALUES, task=Task.causal_lm, **keys):
    rows = [Row(value, f"a.jsonl:{number}") for number, value in enumerate(values, start=1)]
    return data_report(encode(rows, Encoding(tokenizer, DataConfig(**keys), task)), rows, tokenizer)


def printed(found, **options):
    console = Console(file=io.StringIO(), width=80, **options)
    console.print(found)
    return console.file.getvalue()


def test_the_report_counts_rows_duplicates_tokens_and_what_was_dropped(byte_tokenizer):
    found = report(byte_tokenizer, max_length=40)
    assert found.num_duplicates == 1
    assert found.account.dropped.total() == 1
    lines = [line.strip() for line in printed(found).splitlines()]
    assert lines[:4] == [
        "4  rows",
        "1  of them are duplicates of an earlier row",
        "1  dropped: no answer within data.max_length=40",
        "3  examples",
    ]
    assert f"{found.account.num_tokens}  tokens" in lines
    assert f"{found.account.num_trained}  trained ({found.trained_share():.0%} of the tokens)" in lines


def test_rows_that_hold_special_tokens_are_counted(byte_tokenizer):
    values = [{"prompt": "a", "completion": "b</s>c"}, {"prompt": "a", "completion": "b"}]
    found = report(byte_tokenizer, values)
    assert found.account.control["</s>"].count == 1
    assert "1  contain the control token '</s>' in their text (a.jsonl:1)" in printed(found)
    assert found.account.as_json()["control"] == {"</s>": {"count": 1, "first": ["a.jsonl:1"]}}


def test_a_control_token_that_looks_like_a_tag_of_rich_is_shown_as_it_is(byte_tokenizer):
    values = [{"prompt": "a", "completion": "b[/INST]c [b] d"}]
    tokenizer = copy.deepcopy(byte_tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[/INST]", "[b]"]})
    shown = " ".join(printed(report(tokenizer, values)).split())
    assert "contain the control token '[/INST]' in their text" in shown
    assert "contain the control token '[b]' in their text" in shown


def test_control_characters_of_rows_and_file_names_do_not_reach_the_terminal(byte_tokenizer):
    row = Row({"prompt": "\x1b]0;title\x07a", "completion": "\x1b[31mb\u202e"}, "\x1b[31ma.jsonl:1")
    encoded = encode([row], Encoding(byte_tokenizer, DataConfig(), Task.causal_lm))
    shown = printed(data_report(encoded, [row], byte_tokenizer))
    assert "an example, ␛[31ma.jsonl:1:" in shown and "␛]0;title␇a" in shown and "␛[31mb" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_a_report_on_streamed_rows_says_what_was_not_counted(byte_tokenizer):
    rows = [Row(value, f"a.jsonl:{number}") for number, value in enumerate(VALUES, start=1)]
    streamed = encode(rows, Encoding(byte_tokenizer, DataConfig(), Task.causal_lm))
    found = data_report(streamed, [], byte_tokenizer)
    words = "(duplicates are not counted with data.streaming)"
    assert words in printed(found)
    assert words not in printed(report(byte_tokenizer))


def test_the_example_is_the_one_of_middle_length_with_its_answer_in_green(byte_tokenizer):
    found = report(byte_tokenizer)
    assert found.where == "a.jsonl:2"
    assert found.example == (("user:三加四等于几？\nsystem:", False), ("七</s>", True))
    assert "\x1b[32m七</s>" in printed(found, force_terminal=True, color_system="standard")


def test_a_long_example_is_cut_for_the_eye(byte_tokenizer):
    shown = printed(report(byte_tokenizer, [{"text": "Paris is the capital. " * 100}] * 2))
    assert "..." in shown
    assert len(shown) < 1500


def test_a_classifiers_report_shows_texts_with_nothing_in_colour(byte_tokenizer):
    values = [{"text": "好", "label": 1}, {"text": "坏", "label": 0}]
    found = report(byte_tokenizer, values, Task.sequence_classification)
    assert "2  trained (100% of the examples)" in printed(found)
    assert found.example[0][1] is False


def test_a_bin_of_one_length_is_named_by_it(byte_tokenizer):
    lines = printed(report(byte_tokenizer, [{"text": "same"}] * 2))
    assert " to " not in lines.split("an example")[0] and " tokens  █" in lines


def test_every_length_falls_into_one_bin():
    lengths = [3, 3, 4, 20, 100]
    histogram = length_histogram(lengths)
    assert sum(count for _, _, count in histogram) == len(lengths)
    assert (histogram[0][0], histogram[-1][1]) == (3, 100)
    assert len(histogram) <= 8
    assert length_histogram([5, 5]) == ((5, 5, 2),)
