"""Records of Every Eval Ever."""

import json
import uuid
from dataclasses import replace

import pytest

from workbench.leaderboard.outputs import every_eval_ever

REQUIRED = {
    "schema_version",
    "evaluation_id",
    "retrieved_timestamp",
    "source_metadata",
    "model_info",
    "eval_library",
    "evaluation_results",
}
"""Of eval.schema.json 0.3.0 (every-eval-ever 0.3.0 on PyPI), which allows no other keys but two."""

IN_A_RESULT = {"evaluation_name", "source_data", "metric_config", "score_details"}


@pytest.fixture(scope="module")
def folder(board, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    every_eval_ever.write(board, folder)
    return folder


@pytest.fixture(scope="module")
def records(folder):
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.json"))]


def test_every_model_with_scores_has_a_record_with_all_required_fields(board, records):
    assert len(records) == len({cell.model for cell in board.cells})
    assert all(set(record) == REQUIRED for record in records)
    assert all(set(result) >= IN_A_RESULT for record in records for result in record["evaluation_results"])
    assert sum(len(record["evaluation_results"]) for record in records) == len(board.cells)


def test_a_result_has_the_score_with_its_interval(board, records):
    found = {
        (record["model_info"]["name"], result["evaluation_name"]): result["score_details"]
        for record in records
        for result in record["evaluation_results"]
    }
    names = {model.key: model.name for model in board.models}
    for cell in board.cells:
        details = found[names[cell.model], cell.score.benchmark]
        interval = details["uncertainty"]["confidence_interval"]
        assert details["score"] == cell.score.value
        assert [interval["lower"], interval["upper"]] == cell.score.interval
        assert interval["confidence_level"] == 0.95
        assert details["uncertainty"]["num_samples"] == cell.score.num_items


def test_a_file_lies_where_the_datastore_looks_for_its_model(folder, records):
    for path in folder.rglob("*.json"):
        *_, data, collection, owner, model, name = path.parts
        record = json.loads(path.read_text(encoding="utf-8"))
        assert (data, collection) == ("data", "open-llama-workbench")
        assert f"{owner}/{model}" == record["model_info"]["id"]
        assert uuid.UUID(name.removesuffix(".json")).version == 4


def test_the_time_is_that_of_the_run(records):
    assert {record["retrieved_timestamp"] for record in records} == {"1795928400.0"}  # date -d ... +%s


def test_a_run_without_a_date_has_no_invented_time(board):
    cells = [cell for cell in board.cells if cell.model == board.models[0].key]
    record = every_eval_ever.record(replace(board, provenance={}), board.models[0], cells)
    assert record["retrieved_timestamp"] == "unknown"


def test_all_further_details_are_texts(records):
    details = [record["model_info"]["additional_details"] for record in records]
    details += [
        result["generation_config"]["additional_details"]
        for record in records
        for result in record["evaluation_results"]
    ]
    assert all(isinstance(value, str) for found in details for value in found.values())


def test_an_imported_model_names_the_tool_that_scored_it(records):
    libraries = {record["model_info"]["name"]: record["eval_library"] for record in records}
    assert libraries["Qwen2.5-0.5B (lm-eval)"] == {"name": "lm-eval", "version": "0.4.13"}


def test_records_of_an_earlier_board_are_deleted(board, tmp_path):
    every_eval_ever.write(board, tmp_path)
    first = next(tmp_path.rglob("*.json"))
    first.with_name(f".{first.name}.abcdefgh").write_text("half")
    one = replace(board, models=board.models[:1], cells=tuple(c for c in board.cells if c.model == "0" * 16))
    every_eval_ever.write(one, tmp_path)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_names_of_others_stay_within_the_folder(hostile, tmp_path):
    models = tuple(replace(model, name=f"../../{model.name}/..", facts={}) for model in hostile.models)
    every_eval_ever.write(replace(hostile, models=models), tmp_path)
    paths = list(tmp_path.rglob("*.json"))
    assert len(paths) == len(models)
    assert {len(path.relative_to(tmp_path).parts) for path in paths} == {6}


def test_a_model_of_the_hub_has_its_own_name_and_a_trained_one_has_not(board):
    base = replace(board.models[0], facts={"path": "org/base"})
    assert every_eval_ever.model_id(base) == "org/base"
    assert every_eval_ever.model_id(replace(base, role="adapter")).startswith("local/")
