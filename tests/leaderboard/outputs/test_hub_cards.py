"""Model cards made from a board, as huggingface_hub reads them."""

import json
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard

from workbench.leaderboard.board import BETTER, WORSE
from workbench.leaderboard.outputs import card
from workbench.leaderboard.outputs.against_parent import against_parent
from workbench.leaderboard.outputs.hub_results import HubDataset
from workbench.leaderboard.outputs.model_folders import template_arguments_of_run
from workbench.run_dir import RunDir


@pytest.fixture
def facts(tmp_path):
    return card.CardFacts(
        folder=tmp_path / "adapter",
        base="org/base",
        datasets={"cmmlu": HubDataset(path="haonan-li/cmmlu")},
    )


@pytest.fixture
def adapter(board):
    return next(model for model in board.models if model.role == "adapter")


@pytest.fixture
def merged(board):
    return next(model for model in board.models if model.role == "merged")


def read(board, model, facts):
    return ModelCard(card.text(board, model, facts), ignore_metadata_errors=False)


def test_huggingface_hub_reads_every_score_from_the_metadata(board, adapter, facts):
    results = read(board, adapter, facts).data.eval_results
    scores = [cell.score for cell in board.cells if cell.model == adapter.key]
    assert [result.metric_value for result in results] == [round(score.value, 6) for score in scores]
    assert [result.dataset_name for result in results] == [score.benchmark for score in scores]


def test_a_score_says_how_many_items_with_what_interval_and_how_asked(board, adapter, facts):
    result = read(board, adapter, facts).data.eval_results[0]
    score = next(cell.score for cell in board.cells if cell.model == adapter.key)
    assert result.metric_args == {
        "protocol": "official",
        "num_fewshot": 0,
        "num_items": 30,
        "num_total": 11582,
        "interval": [round(end, 6) for end in score.interval],
        "confidence": 0.95,
    }
    assert result.metric_name == "accuracy, official · 0-shot, 30 of 11,582 items"
    assert result.metric_type == "accuracy" and result.dataset_type == "haonan-li/cmmlu"


def test_the_metadata_names_base_languages_and_library(board, adapter, facts):
    data = read(board, adapter, facts).data
    assert data.base_model == "org/base" and data.library_name == "peft"
    assert data.language == ["zh", "en"] and data.tags == ["open-llama", "lora"]


def test_the_table_has_the_parents_score_and_the_tested_difference(board, adapter, facts):
    text = card.text(board, adapter, facts)
    difference = against_parent(board, adapter, board.columns[0].key)
    line = next(line for line in text.splitlines() if line.startswith("| cmmlu"))
    assert difference.verdict in line and f"{100 * difference.value:+.1f}".replace("-", "−") in line
    assert "30 of 11,582" in line and "72 comparisons" in text


def test_a_difference_that_was_tested_the_other_way_round_is_turned(board, adapter):
    column = board.columns[0].key
    first = replace(against_parent(board, adapter, column), low=-0.3, high=-0.1, value=-0.2, verdict=WORSE)
    turned = replace(first, first=first.second, second=first.first)
    found = against_parent(replace(board, differences=(turned,)), adapter, column)
    assert (found.value, found.low, found.high, found.verdict) == (0.2, 0.1, 0.3, BETTER)
    assert (found.gained, found.lost) == (first.lost, first.gained)


def test_a_base_that_is_a_path_is_not_given_out_as_a_hub_id(board, adapter, facts):
    for base in ("/data/models/base", "workbench/toy/base", "base.gguf"):
        assert "base_model" not in read(board, adapter, replace(facts, base=base)).data.to_dict()


def test_a_model_without_scores_has_a_card_too(board, adapter, facts):
    empty = replace(board, cells=())
    assert read(empty, adapter, facts).data.eval_results is None
    assert "No scores." in card.text(empty, adapter, facts)


def test_names_of_others_can_not_break_out_of_the_metadata_or_the_table(hostile, facts):
    for model in hostile.models:
        _, head, body = card.text(hostile, model, replace(facts, base="x\n---\nevil: 1")).split("---\n", 2)
        assert "evil" not in yaml.safe_load(head)
        assert "<img" not in body and "\x1b" not in body
        assert body.count("```") == 2


def test_a_card_is_written_once_and_not_over_that_of_a_user(board, adapter, facts):
    assert card.write(board, adapter, facts) and not card.write(board, adapter, facts)
    path = facts.folder / "README.md"
    assert path.read_text(encoding="utf-8") == card.text(board, adapter, facts)
    path.write_text("# Mine\n", encoding="utf-8")
    assert not card.write(board, adapter, facts) and path.read_text(encoding="utf-8") == "# Mine\n"


def test_a_merged_model_is_loaded_from_its_folder(board, merged, facts):
    lines = card.usage(merged, facts)
    assert "model = AutoModelForCausalLM.from_pretrained(folder)" in lines
    assert compile("\n".join(lines), "usage", "exec")


def test_a_classifiers_card_names_its_task(board, merged, adapter, facts):
    facts = replace(facts, task="sequence_classification")
    assert "AutoModelForSequenceClassification.from_pretrained(folder)" in card.text(board, merged, facts)
    assert 'task="sequence_classification"' in card.text(board, adapter, facts)
    assert read(board, merged, facts).data.pipeline_tag == "text-classification"


def test_a_local_base_is_named_from_the_adapters_folder(board, adapter, facts, tmp_path):
    base = tmp_path / "models" / "tiny.gguf"
    base.parent.mkdir()
    base.touch()
    lines = card.usage(adapter, replace(facts, base=str(base)))
    assert lines[-2].startswith('base = "../models/tiny.gguf"')


def test_names_in_the_snippet_are_literals_of_one_line(board, adapter, facts):
    lines = card.usage(adapter, replace(facts, base='a"\nimport os #'))
    assert compile("\n".join(lines), "usage", "exec") and 'base = "a\\" import os #"' in lines[-2]


def test_a_merged_models_card_says_what_it_keeps_and_how_its_base_was_held(board, merged, facts):
    from workbench.leaderboard.rows.proof import proof_of

    report = {
        "summary": "the merged model keeps 97% of what the adapter does to the probe texts",
        "quantization": "nf4",
        "dtype": "bfloat16",
        "reference": "adapter model",
        "accepted": ["was trained on 'tiny', and model.path='other' has other weights"],
        "merged": {"largest": 0.1, "bound": 0.5, "argmax_flips": 1, "num_positions": 97},
    }
    text = card.text(board, merged, replace(facts, proof=proof_of(report)))
    assert "The merged model keeps 97% of what the adapter does to the probe texts." in text
    assert "quantized to nf4 and dequantized" in text
    assert "The adapter was trained on 'tiny', and model.path='other' has other weights." in text
    assert "within 0.1 of the adapter model's (allowed: 0.5); 1 of 97" in text
    assert proof_of({**report, "merged": None}).startswith("The merged model keeps 97%")
    assert proof_of({}) == "" and proof_of({"merged": {}}) == ""


def test_an_accepted_mismatch_stays_in_the_report_that_cards_are_made_of(tmp_path):
    from workbench.leaderboard.rows.proof import proof_of
    from workbench.leaderboard.run_remarks import merge_report_of

    report = {"accepted": ["was trained on 'tiny'", "was trained in float32"], "bounds": [1, 2]}
    (tmp_path / "merge_report.json").write_text(json.dumps(report))
    read, reason = merge_report_of(RunDir(tmp_path), {})
    assert reason == "" and "bounds" not in read
    assert proof_of(read) == "The adapter was trained on 'tiny'. The adapter was trained in float32."


def test_a_local_base_that_says_where_it_is_from_is_named_by_its_hub_id(board, merged, facts, tmp_path):
    (tmp_path / "base").mkdir()
    local = replace(facts, base=str(tmp_path / "base"))
    assert read(board, merged, local).data.base_model is None
    assert read(board, merged, replace(local, base_hub_id="org/base")).data.base_model == "org/base"


def test_a_merged_llama_is_loaded_without_this_package(board, merged, facts):
    facts.folder.mkdir()
    file = facts.folder / "config.json"
    for model_type, needs_it in (("llama", False), ("open-llama", True)):
        file.write_text(f'{{"model_type": "{model_type}"}}')
        assert any("workbench" in line for line in card.usage(merged, facts)) is needs_it


def test_another_base_is_named_in_the_metadata_and_in_the_lines_that_load_the_adapter(board, adapter, facts):
    local = card.text(board, adapter, replace(facts, base=str(facts.folder)))
    sent = card.with_base(local, "org/other")
    assert ModelCard(sent).data.base_model == "org/other"
    assert 'base = "org/other"  # folder, .gguf file, or name on the Hub\n' in sent
    assert sent.count("base = ") == local.count("base = ") == 1


def test_a_card_says_which_arguments_the_chat_template_was_trained_with(board, merged, facts):
    assert "apply_chat_template" not in card.text(board, merged, facts)
    quick = replace(facts, template_arguments=[{"enable_thinking": False}])
    line = "tokenizer.apply_chat_template(messages, add_generation_prompt=True, **{'enable_thinking': False})"
    assert line in card.text(board, merged, quick).splitlines()


def test_the_arguments_of_a_run_are_those_of_its_data_or_of_its_sources():
    quick, slow = {"enable_thinking": False}, {"enable_thinking": True}
    sources = {"a": {"template_arguments": slow}, "b": {"template_arguments": {}}, "c": {}}
    assert template_arguments_of_run({"data": {"template_arguments": quick}}) == [quick]
    assert template_arguments_of_run({"data": {"template_arguments": quick, "sources": sources}}) == [
        slow,
        quick,
    ]
    assert (
        template_arguments_of_run({"data": {"sources": {"c": None}}}) == template_arguments_of_run({}) == []
    )
