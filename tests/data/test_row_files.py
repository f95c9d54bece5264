"""Every kind and dialect of file gives the same rows, to training and to benchmarks alike."""

import csv
import io
import json
import logging
from pathlib import Path

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from workbench.config.benchmark import LocalConfig
from workbench.config.data import DataConfig
from workbench.data.rows import load_rows
from workbench.errors import ConfigError, DataError
from workbench.evaluation.benchmarks.benchmark_files import read_rows

TEXTS = [
    {"prompt": '翻译："好"', "completion": 'He said "good".'},
    {"prompt": "你好，世界; a, b", "completion": "Hello\nthere, you\n"},
    {"prompt": "a\tb|c", "completion": ""},
    {"prompt": " space ", "completion": '"'},
]
"""With all that a table's format must quote."""
PLAIN = [{"prompt": "1+1=", "completion": "2"}, {"prompt": "一加一", "completion": "二"}]


def table(rows: list[dict], delimiter: str = ",", quoting: int = csv.QUOTE_MINIMAL, end: str = "\n") -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerows([list(rows[0]), *(list(row.values()) for row in rows)])
    return file.getvalue()


def numbered(rows: list[dict]) -> list[dict]:
    """With an index column that has no name, as pandas writes it."""
    return [{"": str(number), **row} for number, row in enumerate(rows)]


def both(path: str, **keys) -> list[dict]:
    """The rows as training and as a benchmark read them, known to be the same."""
    training = [row.values for row in load_rows(DataConfig(path=path, **keys))]
    local = {name: value for name, value in keys.items() if value is not None}
    assert [row.values for row in read_rows(Path(path), LocalConfig(**local))] == training
    return training


@pytest.fixture
def notices(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    caplog.set_level(logging.INFO, logger="workbench")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_that_a_program_has_written_is_read_by_its_content_not_its_name(
    write, name, delimiter, quoting, end
):
    assert both(write(name, table(TEXTS, delimiter, quoting, end))) == TEXTS
    assert both(write(name, table(numbered(TEXTS), delimiter, quoting, end))) == TEXTS
    assert both(write(name, table(PLAIN, delimiter, quoting, end))) == PLAIN


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\n" + table(TEXTS, ";"),
        "sep=,\r\n" + table(TEXTS, ",", end="\r\n"),
        b"\xef\xbb\xbf" + table(TEXTS, ";").encode(),
        table(TEXTS, "\t", end="\r\n").encode("utf-16"),  # Excel's "Unicode text"
        b"\xfe\xff" + table(TEXTS, "\t").encode("utf-16-be"),
    ],
)
def test_a_table_as_excel_writes_it(write, content):
    assert both(write("a.csv", content)) == TEXTS


@pytest.mark.parametrize(
    "sentence",
    ['he said " no', 'a "fine film', '" bad', '"fine" film', 'good "', '""very"" good', "``so''"],
)
def test_a_quotation_mark_in_a_table_without_quoting_is_a_character(write, sentence):
    rows = [{"sentence": sentence, "label": "1"}, {"sentence": "very good", "label": "0"}]
    text = "sentence\tlabel\n" + "".join(f"{row['sentence']}\t{row['label']}\n" for row in rows)
    assert both(write("a.tsv", text)) == rows
    assert both(write("a.tsv", text), quoting=False) == rows


def test_marks_that_open_in_one_row_and_close_in_another_swallow_no_rows(write):
    text = 'sentence\tlabel\n" bad\t0\nfine\t1\nvery good"\t1\n'
    assert [row["sentence"] for row in both(write("a.tsv", text))] == ['" bad', "fine", 'very good"']


def test_a_cell_with_tabs_and_lines_of_its_own_is_not_taken_apart_in_silence(write):
    path = write("a.tsv", 'input\toutput\n"text\t/a,""x""\nb c"\t1\n')
    with pytest.raises(DataError, match="data.quoting=true removes the marks"):
        load_rows(DataConfig(path=path))
    assert both(path, quoting=True) == [{"input": 'text\t/a,"x"\nb c', "output": "1"}]


def test_marks_that_can_be_read_in_two_ways_are_refused_with_the_key_that_decides(write, notices):
    path = write("a.tsv", 'sentence\tlabel\n好\t1\n"fine film"\t1\n')
    with pytest.raises(DataError) as caught:
        load_rows(DataConfig(path=path))
    assert str(caught.value) == (
        f"{path}:3: '\"fine film\"' is either a quoted cell or a text with quotation marks "
        "(data.quoting=true removes the marks, false keeps them)"
    )
    for quoting, sentence in ((True, "fine film"), (False, '"fine film"')):
        assert both(path, quoting=quoting)[1]["sentence"] == sentence
    assert "the marks are removed (local.quoting=false keeps them)" in notices()[0]


def test_quoted_cells_whose_lines_could_be_rows_are_told(write, notices):
    path = write("a.csv", 'prompt,completion\np,"Hello\nthere, you"\n')
    assert both(path) == [{"prompt": "p", "completion": "Hello\nthere, you"}]
    assert "data.quoting=false reads each line as a row" in notices()[0]


def test_a_delimiter_that_is_not_the_only_one_possible_is_told_and_can_be_named(write, notices):
    path = write("a.csv", "a;b,c\n1;2,3\n4;5,6\n")
    assert both(path) == [{"a;b": "1;2", "c": "3"}, {"a;b": "4;5", "c": "6"}]
    assert (
        "semicolons would give all lines the same number of cells, too (data.delimiter decides)"
        in notices()[0]
    )
    assert both(path, delimiter=";")[0] == {"a": "1", "b,c": "2,3"}
    assert both(write("b.csv", "a\tb\n1\t2\n"), delimiter="tab") == [{"a": "1", "b": "2"}]
    with pytest.raises(ConfigError, match="data.delimiter: 'tabs' is not a delimiter"):
        load_rows(DataConfig(path=path, delimiter="tabs"))


def test_a_single_column_may_hold_what_divides_other_tables(write):
    text = 'text\nfirst; second | third\n"a, b"\n'
    assert both(write("a.csv", text)) == [{"text": "first; second | third"}, {"text": "a, b"}]


ROWS = [{"prompt": "好", "n": 1, "inner": {"a": [1, None]}}, {"prompt": "b", "n": None, "inner": {"a": []}}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    "content",
    [
        LINES,
        LINES.rstrip("\n"),
        "\n\n" + LINES.replace("\n", "\r\n\n"),
        b"\xef\xbb\xbf" + LINES.encode(),
        b"\xff\xfe" + LINES.encode("utf-16-le"),
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2, ensure_ascii=False),
        "\n".join(json.dumps(row, indent=4, ensure_ascii=False) for row in ROWS),
        "\n".join(json.dumps(row, indent=0) for row in ROWS) + "\n\n",
        json.dumps({"version": "1", "data": ROWS}, indent=1),
        json.dumps({"about": {"by": "x"}, "examples": ROWS}, indent=1),
    ],
)
def test_json_is_read_by_its_content_not_its_name(write, name, content):
    assert both(write(name, content)) == ROWS


def test_one_object_is_one_row_unless_its_list_is_clearly_the_rows(write):
    chat = {"messages": [{"role": "user", "content": "a"}]}
    for row in (chat, {"question": "?", "choices": [{"text": "a"}, {"text": "b"}]}, {"a": 1}):
        assert both(write("a.json", json.dumps(row))) == [row]
        assert both(write("b.json", json.dumps(row, indent=2))) == [row]
    two = {"data": [{"a": 1}], "rows": [{"a": 2}]}
    assert both(write("c.json", json.dumps(two, indent=2))) == [two]


def test_a_value_over_several_lines_is_known_by_its_first_line(write):
    path = write("a.jsonl", '{"prompt": 1}\n{\n "prompt": 2\n}\n\n{"prompt": 3}\n')
    assert [row.where.rpartition(":")[2] for row in load_rows(DataConfig(path=path))] == ["1", "2", "6"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (
            '{"a": 1}\n{"a": {"b": 2}\n{"a": 3}\n',
            "a.jsonl:3: malformed JSON, Expecting ',' delimiter at column 1 (the value begins on line 2)",
        ),
        ('{"a": 1}}\n', "a.jsonl:1: malformed JSON, Extra data at column 9"),
        ('{"a": "x\ny"}\n', "a.jsonl:1: malformed JSON"),
        ('{"a": 1},\n{"a": 2}\n', "a.jsonl:1: malformed JSON, Extra data"),
        ("[1]\n[2]\n", "a.jsonl:1: a row must be a JSON object, not [1]"),
        ('{"a": ' + "[" * 101 + "]" * 101 + "}", "a.jsonl:1: lists or objects are nested too deeply"),
        ('{"a":' * 100_000, "a.jsonl:1: lists or objects are nested too deeply"),
        ("[\n" * 100_000, "a.jsonl:1: lists or objects are nested too deeply"),
        ('{"a": -' + "1" * 5000 + "}", "a.jsonl:1: a number of more than 4,300 digits"),
        ('{"a": 1}\n{"a": "x", "a": "y"}\n', "a.jsonl:2: an object has two values called 'a' (keep one)"),
        ('{"a": [{"b": 1, "b": 1}]}\n', "a.jsonl:1: an object has two values called 'b'"),
        ('{"a": 1}\n{"b": 2\x00}\n', "a.jsonl:2: a NUL character at position 7"),
        ('{"a": "好"}\n'.encode("gb18030"), "in Excel, save it as 'CSV UTF-8'; elsewhere, GB18030"),
        ('{"a": 1}\n{"a": "' + "x" * (33 * 2**20) + '"}\n', "a.jsonl:2: a line of 33 MiB (at most 32 MiB)"),
    ],
)
def test_bad_json_is_one_line_in_both_readers(write, content, complaint):
    path = write("a.jsonl", content)
    for read in (lambda: load_rows(DataConfig(path=path)), lambda: read_rows(Path(path), LocalConfig())):
        with pytest.raises(DataError) as caught:
            read()
        assert complaint in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("a,b\n1,2\n1\n", "a.csv:3: 1 cells under 2 column names (a, b)"),
        ('a,b\n"1"x,2\n', "a.csv:2: malformed table"),
        (
            'a,b\n1,2\n"1,2\n3,4\n',
            "a.csv:3: malformed table, a quotation mark opens a cell that is never closed",
        ),
        ("a,b\r1,2\r", "a.csv:1: malformed table, a carriage return alone does not end a line"),
        ("a,b,a\n1,2,3\n", "a.csv:1: two columns are called 'a' (rename one)"),
    ],
)
def test_a_bad_table_is_one_line_in_both_readers(write, content, complaint):
    path = write("a.csv", content)
    for read in (lambda: load_rows(DataConfig(path=path)), lambda: read_rows(Path(path), LocalConfig())):
        with pytest.raises(DataError) as caught:
            read()
        assert complaint in str(caught.value)


@pytest.mark.parametrize("kind", ["a.parquet", "a.arrow", "a.feather", "stream.arrow"])
def test_columns_give_back_what_the_rows_had(tmp_path, kind):
    rows = [
        {"tools": [{"name": "f", "args": {"city": "str"}}], "output": "x", "none": None},
        {"tools": [{"name": "g", "args": {"n": 1, "to": None}}, None], "output": None, "none": None},
        {"tools": [], "output": "y", "none": None},
    ]
    store(pyarrow.Table.from_pylist(rows), tmp_path / kind)
    del rows[1]["tools"][0]["args"]["to"]  # in a struct it can't be told from a field that the row never had
    assert both(str(tmp_path / kind)) == rows


def store(content: pyarrow.Table, path) -> None:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(content, path)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(content, path)
    else:
        new = pyarrow.ipc.new_stream if path.name.startswith("stream") else pyarrow.ipc.new_file
        with new(str(path), content.schema) as writer:
            writer.write_table(content)
