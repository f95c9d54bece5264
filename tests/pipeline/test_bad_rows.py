"""Rows that can't be trained on: each is one line with file and row, said before a model is loaded."""

import json

import pytest
from toy_adapters import TOY
from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

from workbench.errors import ConfigError, DataError

GOOD = [{"instruction": f"say {number}", "output": f"answer {number}"} for number in range(6)]
LONG = {"instruction": "word " * 400, "output": "yes"}
TWO_USERS = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
ANSWER = {"role": "assistant", "content": "c"}
CLASSES = ("model.task=sequence_classification", "data.labels=[negative,positive]")


def labelled(label):
    return {"text": "fine", "label": label}


BAD = {
    "broken UTF-8": ([*GOOD[:2], b'{"instruction": "\xff"}'], (), r"rows.jsonl:3: not UTF-8, byte 0xff"),
    "a 50 MB line": (
        [*GOOD[:2], {"instruction": "x" * 50_000_000, "output": "y"}],
        (),
        r"rows.jsonl:3: a line of 48 MiB \(at most 32 MiB\)",
    ),
    "cut-off JSON": ([*GOOD[:2], b'{"instruction": "a'], (), r"rows.jsonl:3: malformed JSON"),
    "no object": ([*GOOD[:2], [1, 2]], (), r"rows.jsonl:3: a row must be a JSON object, not \[1, 2\]"),
    "mixed schemas": (
        [*GOOD[:3], {"prompt": "a", "completion": "b"}],
        (),
        r"rows.jsonl:4: no column 'instruction' \(has: prompt, completion\)",
    ),
    "an empty answer": (
        [*GOOD[:3], {"instruction": "a", "output": " "}],
        (),
        r"rows.jsonl:4: the answer in turn 2 is empty",
    ),
    "a null answer": (
        [*GOOD[:3], {"instruction": "a", "output": None}],
        (),
        r"rows.jsonl:4: column 'output' is null",
    ),
    "a number as answer": (
        [*GOOD[:3], {"instruction": "a", "output": 5}],
        (),
        r"rows.jsonl:4: column 'output' must be text, not 5",
    ),
    "two user turns in a row": (
        [{"messages": [TWO_USERS[0], ANSWER]}, {"messages": [*TWO_USERS, ANSWER]}],
        (),
        r"rows.jsonl:2: turns 1 and 2 are both from the user",
    ),
    "a last turn without answer": (
        [{"messages": [TWO_USERS[0], ANSWER, TWO_USERS[1]]}],
        (),
        r"rows.jsonl:1: the last turn is from the user",
    ),
    "a number of a class out of range": (
        [labelled(0), labelled(1), labelled(7)],
        CLASSES,
        r"rows.jsonl:3: class number 7 is out of range \(0 to 1: negative, positive\)",
    ),
    "an unknown class": (
        [labelled("positive"), labelled("fair")],
        CLASSES,
        r"rows.jsonl:2: unknown class 'fair' \(known: negative, positive\)",
    ),
    "a column mapping that fits nothing": (
        GOOD,
        ("data.columns.prompt=question", "data.columns.completion=answer"),
        r"rows.jsonl:1: no column 'question', as data.columns.prompt says \(has: instruction, output\)",
    ),
    "a format that the columns don't have": (
        GOOD,
        ("data.format=messages",),
        r"rows.jsonl:1: no column 'messages' \(has: instruction, output\)",
    ),
    "columns of no format": ([{"a": "b"}], (), r"rows.jsonl:1: no known format has the columns a "),
    "nothing but rows longer than the context": (
        [LONG, LONG],
        (),
        r"nothing of '.*rows.jsonl' is left .*2 rows: no answer within data.max_length=64",
    ),
    "no rows": ([b""], (), r"data.path: no rows in"),
}


def write(path, rows):
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_said_with_its_file_and_line(run, tmp_path, name):
    rows, overrides, words = BAD[name]
    write(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=words) as caught:
        run("quickstart", "data.path=rows.jsonl", "steps=[train]", *overrides)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists() or "longer" in name  # than the context: known to a tokenizer only


def test_packing_is_refused_for_a_model_with_a_state_before_the_model_is_loaded(run, tmp_path):
    sizes = {"vocab_size": 776, "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}
    config = MambaConfig(**sizes, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    MambaForCausalLM(config).save_pretrained(tmp_path / "mamba")
    AutoTokenizer.from_pretrained(TOY).save_pretrained(tmp_path / "mamba")
    asked = ("model.path=mamba", "quantization=none", "steps=[train]", "data.packing=true")
    with pytest.raises(ConfigError, match="data.packing: with this model, a recurrent state passes"):
        run("quickstart", *asked)
    assert not (tmp_path / "runs").exists()


CLASSIFIER = CLASSES[0]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("data.regression=true",), r"data.regression: only for classifiers"),
        (
            ("data.labels=[a,b]",),
            r"data.labels: only for classifiers \(model.task=sequence_classification\)",
        ),
        ((CLASSIFIER, "data.packing=true"), r"data.packing: only for causal models"),
        ((CLASSIFIER, "data.template=chatml"), r"data.template: 'chatml' is for chats; .* \(set it auto\)"),
    ],
)
def test_a_key_that_means_nothing_for_the_task_is_refused(run, tmp_path, overrides, words):
    with pytest.raises(ConfigError, match=words):
        run("quickstart", "steps=[train]", *overrides)
    assert not (tmp_path / "runs").exists()


def test_a_row_longer_than_the_context_is_dropped_and_counted(run, tmp_path, capsys):
    write(tmp_path / "rows.jsonl", [*GOOD, LONG])
    run("quickstart", "data.path=rows.jsonl", "steps=[train]", "train.max_steps=2")
    counts = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert {"7 rows", "1 dropped: no answer within data.max_length=64", "6 examples"} <= set(counts)
