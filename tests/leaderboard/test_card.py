"""Model cards."""

import pytest
import yaml
from leaderboard_runs import Spec, write_run

from workbench.leaderboard import card
from workbench.leaderboard.collect import collect
from workbench.leaderboard.compare import compare


def view_of(folder, *specs, **options):
    write_run(folder / "run", list(specs), **options)
    return compare(collect(folder)).runs[0]


def parsed(text):
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_metadata_holds_the_models_own_scores(tmp_path):
    view = view_of(tmp_path, Spec(), Spec(name="常识: 问答", language="en"), base_model="org/base")
    head, body = parsed(card.text(view, "merged"))
    assert head["base_model"] == "org/base" and head["library_name"] == "transformers"
    assert head["language"] == ["zh", "en"] and head["pipeline_tag"] == "text-generation"
    [index] = head["model-index"]
    assert [result["dataset"]["name"] for result in index["results"]] == ["toy-reading-zh", "常识: 问答"]
    [metric] = index["results"][0]["metrics"]
    assert metric["type"] == "accuracy"
    assert metric["value"] == pytest.approx(view.rows[0].scores["merged"].value, abs=1e-6)
    assert "| toy-reading-zh | zh | acc | 120 |" in body


def test_an_adapters_card_says_how_to_load_it_on_its_base(tmp_path):
    head, body = parsed(card.text(view_of(tmp_path, Spec(), base_model="org/base"), "adapter"))
    assert head["library_name"] == "peft" and head["tags"] == ["open-llama", "lora"]
    assert 'AutoModelForCausalLM.from_pretrained("org/base")' in body and "PeftModel" in body


def test_a_base_that_is_a_path_is_not_given_out_as_a_hub_id(tmp_path):
    head, _ = parsed(card.text(view_of(tmp_path, Spec(), base_model="/data/models/base"), "merged"))
    assert "base_model" not in head


def test_a_classifiers_card_names_its_task(tmp_path):
    spec = Spec(note={"base": "untrained head"})
    head, body = parsed(card.text(view_of(tmp_path, spec, task="sequence_classification"), "adapter"))
    assert head["pipeline_tag"] == "text-classification"
    assert "AutoModelForSequenceClassification" in body and "untrained head" in body


def test_names_can_not_break_out_of_the_metadata(tmp_path):
    view = view_of(tmp_path, Spec(name='x"\n---\nevil: true #'))
    head, _ = parsed(card.text(view, "merged"))
    assert "evil" not in head and head["model-index"][0]["results"][0]["dataset"]["name"].startswith('x"')


def test_the_card_is_written_into_the_models_folder_once(tmp_path):
    view = view_of(tmp_path, Spec())
    assert card.write(view, "merged", view.run.files.merged)
    path = view.run.files.path / "merged" / "README.md"
    assert path.read_text(encoding="utf-8") == card.text(view, "merged")
    assert not card.write(view, "merged", view.run.files.merged)


def test_a_card_that_somebody_made_their_own_is_left_as_it_is(tmp_path):
    view = view_of(tmp_path, Spec())
    card.write(view, "merged", view.run.files.merged)
    path = view.run.files.merged / "README.md"
    path.write_text(path.read_text(encoding="utf-8").replace("## Use", "## My use"), encoding="utf-8")
    assert card.write(view, "merged", view.run.files.merged)
    assert path.read_text(encoding="utf-8") == card.text(view, "merged")
    path.write_text("# Mine\n", encoding="utf-8")
    assert not card.write(view, "merged", view.run.files.merged)
    assert path.read_text(encoding="utf-8") == "# Mine\n"
