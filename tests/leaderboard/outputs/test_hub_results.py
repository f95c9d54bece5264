"""Evaluation results for the Hub, as huggingface_hub reads them."""

from dataclasses import replace

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from workbench.files import file_fingerprint
from workbench.leaderboard.outputs import hub_results
from workbench.leaderboard.outputs.hub_results import HubDataset, datasets_of

DATASETS = {
    "gsm8k": HubDataset(path="openai/gsm8k", name="main"),
    "hellaswag": HubDataset(path="Rowan/hellaswag"),
}


@pytest.fixture
def whole(board):
    """The board as if its benchmarks had no more items than were asked."""
    return replace(board, columns=tuple(replace(column, num_total=30) for column in board.columns))


def entries(folder, benchmark):
    text = (folder / ".eval_results" / f"{benchmark}.yaml").read_text(encoding="utf-8")
    return parse_eval_result_entries(yaml.safe_load(text))


def score_of(board, model, benchmark):
    return next(
        cell.score for cell in board.cells if cell.model == model.key and cell.score.benchmark == benchmark
    )


def test_huggingface_hub_reads_value_dataset_task_and_date(whole, tmp_path):
    model = whole.models[3]
    hub_results.write(whole, model, DATASETS, tmp_path)
    [entry] = entries(tmp_path, "gsm8k")
    assert (entry.dataset_id, entry.task_id) == ("openai/gsm8k", "gsm8k")
    assert entry.value == pytest.approx(100 * score_of(whole, model, "gsm8k").value, abs=1e-4)
    assert entry.date == "2026-11-29T05:00:00+00:00"


def test_the_notes_have_the_interval_the_items_and_the_protocol(whole, tmp_path):
    model = whole.models[3]
    hub_results.write(whole, model, DATASETS, tmp_path)
    low, high = score_of(whole, model, "gsm8k").interval
    notes = entries(tmp_path, "gsm8k")[0].notes
    assert f"95% interval {100 * low:.1f}–{100 * high:.1f}, 30 items" in notes
    assert notes.startswith("official · 0-shot, exact match") and "nf4" in notes


def test_only_benchmarks_of_the_hub_are_written(whole, tmp_path):
    hub_results.write(whole, whole.models[3], DATASETS, tmp_path)
    names = {path.name for path in (tmp_path / ".eval_results").iterdir()}
    assert names == {"gsm8k.yaml", "hellaswag.yaml"}


def test_benchmarks_whose_names_differ_in_one_odd_character_have_a_file_each(whole, tmp_path):
    names = ("gsm8k", "a/b"), ("hellaswag", "a-b")
    columns = whole.columns
    for old, new in names:
        columns = tuple(replace(c, benchmark=new) if c.benchmark == old else c for c in columns)
    datasets = {new: DATASETS[old] for old, new in names}
    hub_results.write(replace(whole, columns=columns), whole.models[3], datasets, tmp_path)
    found = {
        parse_eval_result_entries(yaml.safe_load(path.read_text()))[0].dataset_id: path.name
        for path in (tmp_path / ".eval_results").iterdir()
    }
    assert found.keys() == {"openai/gsm8k", "Rowan/hellaswag"} and found["Rowan/hellaswag"] == "a-b.yaml"


def test_a_part_of_a_benchmark_is_not_given_out_as_its_score(board, tmp_path):
    hub_results.write(board, board.models[3], DATASETS, tmp_path)
    assert not (tmp_path / ".eval_results").exists()


def test_a_result_that_is_no_longer_there_is_deleted_and_that_of_a_user_stays(whole, board, tmp_path):
    hub_results.write(whole, whole.models[3], DATASETS, tmp_path)
    own = tmp_path / ".eval_results" / "gsm8k.yaml"
    own.write_text("- mine\n", encoding="utf-8")
    hub_results.write(board, board.models[3], DATASETS, tmp_path)
    assert list(own.parent.iterdir()) == [own] and own.read_text(encoding="utf-8") == "- mine\n"
    hub_results.write(whole, whole.models[3], DATASETS, tmp_path)
    assert own.read_text(encoding="utf-8") == "- mine\n"


def test_the_datasets_are_those_of_the_runs_configuration():
    section = {
        "gsm8k": {"dataset": "openai/gsm8k", "hub": {"name": "main"}, "split": "test"},
        "cmmlu": {"dataset": "haonan-li/cmmlu", "hub": {"name": "{subset}"}, "split": "test"},
        "mine": {"dataset": "", "path": "rows.jsonl"},
        "odd": None,
    }
    assert datasets_of(section) == {
        "gsm8k": HubDataset(path="openai/gsm8k", name="main"),
        "cmmlu": HubDataset(path="haonan-li/cmmlu"),
    }
    assert datasets_of(section)["cmmlu"].task == "default"


def test_results_in_a_models_folder_leave_its_fingerprint_as_it_is(whole, tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    before = file_fingerprint(tmp_path)
    hub_results.write(whole, whole.models[3], DATASETS, tmp_path)
    assert (tmp_path / ".eval_results" / "gsm8k.yaml").is_file()
    assert file_fingerprint(tmp_path) == before
