"""Parquet and Arrow files give what the rows had, and unfold to nothing that fills the memory."""

import json
import random
from pathlib import Path

import numpy
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from workbench.config.benchmark import LocalConfig
from workbench.config.data import DataConfig
from workbench.config.model import Task
from workbench.data.encode import Encoding, encode
from workbench.data.readers.columnar import check_names
from workbench.data.rows import load_rows
from workbench.data.streaming import streamed_rows
from workbench.errors import DataError
from workbench.evaluation.benchmarks.benchmark_files import read_rows

TOOLS = [
    {
        "messages": [
            {"role": "user", "content": "Weather in Oslo?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"name": "weather", "arguments": {"city": "Oslo"}}],
            },
            {"role": "tool", "content": "7 C"},
            {"role": "assistant", "content": "It is 7 C."},
        ],
        "tools": [{"name": "weather", "parameters": {"city": {"type": "string"}}}],
    },
    {
        "messages": [
            {"role": "user", "content": "5 euros in yen?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"name": "change", "arguments": {"amount": 5}}],
            },
            {"role": "tool", "content": "815"},
            {"role": "assistant", "content": "815 yen."},
        ],
        "tools": [{"name": "change", "parameters": {"amount": {"type": "number"}, "to": {"enum": ["JPY"]}}}],
    },
]
FLAT = [
    {"instruction": '翻译："好"', "input": "", "output": 'He said "good".'},
    {"instruction": "你好\n, a; b", "input": "x\ty", "output": "Hello"},
]


def store(rows: list[dict], path: Path) -> Path:
    """Writes rows in the format that the name says."""
    table = pyarrow.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(table, path)
    elif path.suffix == ".arrow":
        new = pyarrow.ipc.new_stream if "stream" in path.name else pyarrow.ipc.new_file
        with new(str(path), table.schema) as writer:
            writer.write_table(table)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    elif path.suffix == ".jsonl":
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text(lines, encoding="utf-8")
    else:
        table.to_pandas().to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index="index" in path.name)
    return path


def tokens(path: Path, tokenizer, template: str) -> list[tuple[list[int], list[int]]]:
    data = DataConfig(path=str(path), template=template)
    dataset = encode(load_rows(data), Encoding(tokenizer, data, Task.causal_lm)).dataset
    return [(row["input_ids"], row["labels"]) for row in dataset]


@pytest.mark.parametrize("name", ["a.json", "a.parquet", "a.arrow", "stream.arrow", "a.feather"])
@pytest.mark.parametrize("template", ["chatml", "open-llama"])
def test_calls_of_tools_are_the_same_tokens_from_every_format(tmp_path, byte_tokenizer, name, template):
    expected = tokens(store(TOOLS, tmp_path / "rows.jsonl"), byte_tokenizer, template)
    assert tokens(store(TOOLS, tmp_path / name), byte_tokenizer, template) == expected
    assert "null" not in byte_tokenizer.decode(expected[0][0])


@pytest.mark.parametrize(
    "name", ["a.csv", "a.tsv", "index.csv", "index.tsv", "a.json", "a.parquet", "a.arrow"]
)
def test_instructions_are_the_same_tokens_from_every_format(tmp_path, byte_tokenizer, name):
    expected = tokens(store(FLAT, tmp_path / "rows.jsonl"), byte_tokenizer, "auto")
    assert tokens(store(FLAT, tmp_path / name), byte_tokenizer, "auto") == expected


def test_maps_and_dictionaries_are_plain_values(tmp_path):
    table = pyarrow.table(
        {
            "m": pyarrow.array(
                [[("a", 1), ("b", None)], []], pyarrow.map_(pyarrow.string(), pyarrow.int64())
            ),
            "c": pyarrow.array(["cat", "cat"]).dictionary_encode(),
        }
    )
    pyarrow.feather.write_feather(table, tmp_path / "a.feather")
    assert [row.values for row in load_rows(DataConfig(path=str(tmp_path / "a.feather")))] == [
        {"m": {"a": 1, "b": None}, "c": "cat"},
        {"m": {}, "c": "cat"},
    ]


def constant(count: int, text: str) -> pyarrow.Table:
    indices = pyarrow.array(numpy.zeros(count, numpy.int32))
    return pyarrow.table({"text": pyarrow.DictionaryArray.from_arrays(indices, pyarrow.array([text]))})


def parquet(table: pyarrow.Table, path: Path, **how) -> None:
    how = {"compression": "zstd", "store_schema": False, "write_statistics": False, **how}
    pyarrow.parquet.write_table(table, path, **how)


def one_dictionary_entry(path: Path) -> None:
    parquet(constant(1_000_000, "a" * 60_000), path)


def one_long_list(path: Path) -> None:
    values = pyarrow.array(numpy.zeros(5_000_000, numpy.int64))
    offsets = pyarrow.array([0, len(values)], pyarrow.int32())
    parquet(pyarrow.table({"text": ["a"], "l": pyarrow.ListArray.from_arrays(offsets, values)}), path)


def lists_of_one_entry(path: Path) -> None:
    values = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array(numpy.zeros(100_000, numpy.int32)), pyarrow.array(["a" * 60_000])
    )
    offsets = pyarrow.array([0, len(values)], pyarrow.int32())
    parquet(pyarrow.table({"l": pyarrow.ListArray.from_arrays(offsets, values)}), path)


def one_long_text(path: Path) -> None:
    parquet(pyarrow.table({"text": ["a" * 100_000_000]}), path, use_dictionary=False)


def equal_prefixes(path: Path) -> None:
    table = pyarrow.table({"text": ["b" * 100_000] * 2800})
    parquet(table, path, use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"})


def nothing_but_nulls(path: Path) -> None:
    parquet(pyarrow.table({"text": pyarrow.nulls(5_000_000)}), path)


def ipc(table: pyarrow.Table, path: Path, compression: str | None = None) -> None:
    options = pyarrow.ipc.IpcWriteOptions(compression=compression)
    with pyarrow.ipc.new_file(str(path), table.schema, options=options) as writer:
        writer.write_table(table)


def arrow_nulls(path: Path) -> None:
    ipc(pyarrow.table({"text": pyarrow.nulls(2_000_000_000)}), path)


def arrow_runs(path: Path) -> None:
    runs = pyarrow.RunEndEncodedArray.from_arrays(
        pyarrow.array([2_000_000_000], pyarrow.int32()), ["a" * 1000]
    )
    ipc(pyarrow.table({"text": runs}), path)


def arrow_dictionary(path: Path) -> None:
    ipc(constant(100_000, "a" * 60_000), path, "zstd")


def arrow_compressed(path: Path) -> None:
    ipc(pyarrow.table({"text": ["a" * 1_000_000] * 300}), path, "zstd")


BOMBS = {
    "parquet": [
        *(one_dictionary_entry, one_long_list, lists_of_one_entry, one_long_text),
        *(equal_prefixes, nothing_but_nulls),
    ],
    "arrow": [arrow_nulls, arrow_runs, arrow_dictionary, arrow_compressed],
}


@pytest.mark.parametrize(("kind", "bomb"), [(kind, bomb) for kind, bombs in BOMBS.items() for bomb in bombs])
def test_a_file_that_unfolds_to_far_more_than_it_holds_is_one_line(tmp_path, kind, bomb):
    path = tmp_path / f"a.{kind}"
    bomb(path)
    assert path.stat().st_size < 110_000
    reads = (
        lambda: load_rows(DataConfig(path=str(path))),
        lambda: load_rows(DataConfig(path=str(path), limit=2)),
        lambda: list(streamed_rows(DataConfig(path=str(path), limit=2, streaming=True), seed=1)),
        lambda: read_rows(path, LocalConfig()),
    )
    for read in reads:
        with pytest.raises(DataError, match=r"decompress(es)? to [\d.,]+ .*write it as JSONL") as caught:
            read()
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_long_documents_that_are_really_there_are_read(tmp_path):
    generator = random.Random(1)
    texts = ["".join(generator.choices("abcdefgh ", k=300_000)) for _ in range(40)]
    for dictionary in (True, False):
        parquet(pyarrow.table({"text": texts * 3}), tmp_path / "a.parquet", use_dictionary=dictionary)
        rows = load_rows(DataConfig(path=str(tmp_path / "a.parquet")))
        assert [row.values["text"] for row in rows] == texts * 3


@pytest.mark.parametrize("name", ["a.parquet", "v2.parquet", "a.feather", "stream.arrow"])
def test_a_damaged_file_is_one_line_or_gives_rows(tmp_path, name):
    rows = [
        {"text": f"row {n} " * 5, "m": [{"role": "user", "x": None if n % 2 else {"a": n}}]}
        for n in range(50)
    ]
    path = store(rows, tmp_path / name)
    if name == "v2.parquet":
        table = pyarrow.Table.from_pylist(rows)
        parquet(table, path, data_page_version="2.0", use_dictionary=False, compression="gzip")
    sound, generator = path.read_bytes(), random.Random(name)
    outcomes = set()
    for attempt in range(60):
        damaged = bytearray(sound)
        place = generator.randrange(len(sound))
        if attempt % 3 == 0:
            del damaged[place:]
        else:
            for _ in range(attempt % 3):
                damaged[generator.randrange(len(sound))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            load_rows(DataConfig(path=str(path)))
            outcomes.add("rows")
        except DataError as error:
            assert str(error).startswith(("data.path: no rows", str(path))) and "\n" not in str(error)
            outcomes.add("refused")
    assert "refused" in outcomes


def test_the_names_of_many_columns_are_not_compared_pair_by_pair(tmp_path):
    comparisons = 0

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal comparisons
            comparisons += 1
            return str.__eq__(self, other)

    check_names([Name(f"column {number}") for number in range(3000)], tmp_path / "wide.parquet")
    assert comparisons < 3000
    with pytest.raises(DataError, match="two columns are called 'a'"):
        check_names(["a", "b", "a"], tmp_path / "wide.parquet")


def test_texts_that_stand_in_one_place_are_counted_each(tmp_path):
    one = pyarrow.array(["x" * 10**6]).cast(pyarrow.string_view()).buffers()
    views = pyarrow.py_buffer(one[1].to_pybytes() * 3000)
    texts = pyarrow.Array.from_buffers(pyarrow.string_view(), 3000, [None, views, *one[2:]])
    pyarrow.feather.write_feather(
        pyarrow.table({"text": texts}), tmp_path / "a.arrow", compression="uncompressed"
    )
    with pytest.raises(DataError, match="decompress to 2.8 GiB or more"):
        load_rows(DataConfig(path=str(tmp_path / "a.arrow")), seed=0)
