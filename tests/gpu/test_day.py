"""The day on a GPU runs on a CPU with tiny shapes, and judges its figures by the goals."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE))

import day as day_module  # noqa: E402
from card import Day  # noqa: E402
from goals import GOALS, table  # noqa: E402

PARTS = list(dict.fromkeys(part.name for part in day_module.PARTS))


def dry(tmp_path, *parts):
    """Run parts of the day; return the exit status, the lines of results and what was printed."""
    out = tmp_path / "results.jsonl"
    command = [sys.executable, str(HERE / "day.py"), "--dry", "--out", str(out), "--total", "1500"]
    done = subprocess.run([*command, "--parts", *parts], capture_output=True, text=True)
    return done.returncode, [json.loads(line) for line in out.read_text().splitlines()], done.stdout


def test_decoding_is_measured_on_both_sides(tmp_path):
    status, lines, printed = dry(tmp_path, "decoding")
    rates = [line for line in lines if "tokens_per_second" in line]
    assert status == 0 and lines[-1]["exit_status"] == 0
    assert {(line["side"], line["method"], line["batch"]) for line in rates} == {
        *(("workbench", method, batch) for method in ("none", "nf4") for batch in (1, 32)),
        *(("generate", "none", batch) for batch in (1, 32)),
    }
    assert "| decoding at batch 32, times generate | more than 1 |" in printed
    assert printed.count("not measured") == len(GOALS) - 1


@pytest.mark.slow
@pytest.mark.peer
def test_every_part_runs_dry(tmp_path):
    status, lines, printed = dry(tmp_path, *PARTS)
    ends = [line for line in lines if "exit_status" in line]
    assert [line["part"] for line in ends] == [part.name for part in day_module.PARTS]
    assert all(line["exit_status"] == 0 for line in ends), ends
    assert status == 0 and "| the same bytes over batch sizes and after kill -9 | yes | True |" in printed
    assert printed.count("not measured") == 1  # a CPU has no peak of its memory beside the plan's


def test_a_part_that_fails_or_takes_too_long_is_recorded_and_leaves_the_others(tmp_path):
    day = Day(tmp_path / "results.jsonl", True, "tokenizer", None)
    for code, seconds in (("print('done')", 60), ("raise SystemExit('broken')", 60), ("while True: pass", 1)):
        part = day_module.Part("quickstart", 60, ("-c", code))
        day_module.run(replace(part, name="code"), day, seconds)
    lines = [json.loads(line) for line in day.out.read_text().splitlines()]
    assert [line["exit_status"] for line in lines] == [0, 1, "time limit"]
    assert [line["output"] for line in lines[:2]] == [["done"], ["broken"]]


def test_the_exit_status_is_of_the_parts_of_this_call_and_a_table_ends_it(tmp_path, monkeypatch, capsys):
    out = tmp_path / "results.jsonl"
    parts = [
        day_module.Part(name, 60, ("-c", f"raise SystemExit({name!r} == 'bad')")) for name in ("bad", "good")
    ]
    monkeypatch.setattr(day_module, "PARTS", parts)

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["day.py", "--dry", "--out", str(out), *arguments])
        day_module.main()

    with pytest.raises(SystemExit, match="1"):
        called()
    with pytest.raises(SystemExit, match="1"):
        called("--total", "1")
    called("--parts", "good")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    ends = [(line["part"], line["exit_status"]) for line in lines]
    late = "no time left"
    assert ends == [("bad", 1), ("good", 0), ("bad", late), ("good", late), ("good", 0)]
    assert capsys.readouterr().out.count("| | goal | figure | reached |") == 3


def test_all_parts_take_less_than_nine_minutes_and_most_have_their_whole_limit():
    assert day_module.TOTAL_SECONDS < 540
    assert sum(part.seconds for part in day_module.PARTS) <= day_module.TOTAL_SECONDS + 15


def results(**changes):
    figures = {"bf16": 13_000.0, "nf4": 11_500.0, "free": 15_000.0, "harness": 50.0, "same": True, **changes}
    rate = {"part": "train", "method": "none"}
    return [
        rate
        | {"case": "full rows", "tokens_per_second": figures["bf16"], "peak_gib": 40.0, "planned_gib": 42.0},
        rate | {"case": "full rows, not deterministic", "tokens_per_second": figures["free"]},
        rate | {"case": "full rows", "method": "nf4", "tokens_per_second": figures["nf4"]},
        {"part": "scores", "side": "harness", "seconds": figures["harness"]},
        {"part": "scores", "side": "workbench", "seconds": 10.0},
        {"part": "bytes", "is_same": figures["same"]},
    ]


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"bf16": 12_000.0}, "| LoRA step, 8B, bf16"),
        ({"nf4": 10_000.0}, "| the same in NF4"),
        ({"free": 18_000.0}, "| time with train.deterministic"),
        ({"harness": 39.0}, "| CMMLU, times"),
        ({"same": False}, "| the same bytes"),
    ],
)
def test_figures_are_judged_by_the_goals(changes, start):
    def verdict(lines):
        [row] = [row for row in table(lines).splitlines() if row.startswith(start)]
        return row.split("|")[-2].strip()

    assert verdict(results()) == "yes" and verdict(results(**changes)) == "no"
    assert verdict([line | {"dry": True} for line in results(**changes)]) == "not judged"
