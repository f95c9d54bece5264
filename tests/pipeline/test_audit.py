"""An audit gives honest answers again, and finds answers, weights and means that are not as recorded."""

import json
import shutil
from pathlib import Path

import pytest

from workbench.errors import ConfigError, DataError
from workbench.pipeline.audit.audit import changed_weights
from workbench.run_dir import RunDir, read_json, write_json

SHORT = ("train.max_steps=4", "train.save_steps=4", "data.limit=300", "evaluate.models=[base,adapter]")
TWO = (
    "benchmark=[toy_choice_en,toy_exact_zh]",
    "benchmarks.toy_choice_en.limit=12",
    "benchmarks.toy_exact_zh.limit=8",
)
AUDIT = ("quickstart", *SHORT, *TWO, "steps=[audit]", "audit.seed=1")


@pytest.fixture(scope="module")
def scored_once(run_once):
    return run_once(lambda folder: None, "quickstart", *SHORT, *TWO, "steps=[train,evaluate]")


@pytest.fixture
def scored(scored_once, tmp_path):
    """A copy of a run with scores of base and adapter on two benchmarks."""
    shutil.copytree(scored_once, tmp_path, dirs_exist_ok=True)
    return RunDir(tmp_path / "runs/quickstart")


def audits(run_dir: RunDir) -> dict:
    return {audit["model"]: audit for audit in read_json(run_dir.audit_json)["audits"]}


def edit_answer(run_dir: RunDir, benchmark: str, edit) -> None:
    """Change the first recorded answer of the adapter, as somebody would who leaves no checksum behind."""
    path = run_dir.predictions("adapter", benchmark)
    first, *others = path.read_text("utf-8").split("\n")
    answer = json.loads(first)
    edit(answer)
    path.write_text("\n".join([json.dumps(answer, ensure_ascii=False), *others]), "utf-8")
    run_dir.run_json.unlink()


def test_answers_of_an_untouched_run_are_given_again_to_the_last_digit(run, scored, caplog):
    run(*AUDIT)
    for name in ("base", "adapter"):
        audit = audits(scored)[name]
        assert (audit["num_sampled"], audit["num_equal"], audit["num_total"]) == (20, 20, 20)
        assert audit["largest_nats"] == 0 and audit["most_that_differ"] == 0 and not audit["remarks"]
    assert "adapter: 20 of 20 equal; with 95% confidence at most 0 of 20 (0.0%) differ" in caplog.text


def test_a_sample_bounds_the_share_that_differs_and_its_seed_draws_it_again(run, scored):
    run(*AUDIT, "audit.items=10")
    first = audits(scored)["base"]
    # A sample of 10 misses 4 of 20 with probability C(16,10) / C(20,10) = 4.3%, and 3 with 10.5%.
    assert (first["num_equal"], first["most_that_differ"]) == (10, 4)
    run(*AUDIT, "audit.items=10")
    assert audits(scored)["base"] == first


@pytest.mark.parametrize(
    ("benchmark", "edit", "what"),
    [
        (
            "toy_choice_en",
            lambda answer: answer.update(prediction=1 - min(answer["prediction"], 1)),
            "answer",
        ),
        ("toy_choice_en", lambda answer: answer["loglikelihoods"].reverse(), "log-likelihoods"),
        ("toy_choice_en", lambda answer: answer.update(target=(answer["target"] + 1) % 4), "target"),
        ("toy_choice_en", lambda answer: answer.update(subset="easy"), "subset"),
        ("toy_choice_en", lambda answer: answer.update(cluster="one"), "cluster"),
        ("toy_choice_en", lambda answer: answer.update(prompt_hash="0" * 16), "prompt"),
        ("toy_choice_en", lambda answer: answer.update(id="999999"), "item"),
        ("toy_exact_zh", lambda answer: answer.update(generation="对"), "text"),
        ("toy_exact_zh", lambda answer: answer["scores"].update(exact_match=0.25), "score"),
    ],
)
def test_a_falsified_answer_is_named(run, scored, benchmark, edit, what):
    edit_answer(scored, benchmark, edit)
    with pytest.raises(DataError, match="1 of 40 answers asked again differ from those recorded"):
        run(*AUDIT)
    assert not audits(scored)["base"]["differences"]
    (difference,) = audits(scored)["adapter"]["differences"]
    assert (difference["benchmark"], difference["what"]) == (benchmark, what)


def test_a_score_that_is_not_the_mean_of_its_answers_is_named(run, scored):
    results = read_json(scored.results_json)
    score = next(score for score in results["scores"] if score["model"] == "adapter")
    score["value"] = 0.987
    write_json(scored.results_json, results)
    scored.run_json.unlink()
    with pytest.raises(DataError, match=r"acc is 0\.987000 in results\.json and 0\.\d+ from the recorded"):
        run(*AUDIT)


def test_answers_to_chosen_items_are_named(run, scored):
    path = scored.predictions("adapter", "toy_choice_en")
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[1:]), "utf-8")
    results = read_json(scored.results_json)
    for score in results["scores"]:
        if (score["model"], score["benchmark"]) == ("adapter", "toy_choice_en"):
            values = [json.loads(line)["scores"]["acc"] for line in path.read_text("utf-8").splitlines()]
            score |= {"num_items": 11, "value": sum(values) / 11, "num_total": 11}
    write_json(scored.results_json, results)
    scored.run_json.unlink()
    with pytest.raises(
        DataError, match="toy_choice_en: its 11 items of 300 aren't those that a limit chooses"
    ):
        run(*AUDIT)
    assert audits(scored)["adapter"]["remarks"][1] == "toy_choice_en: has 300 items, the score says 11"
    assert audits(scored)["base"]["remarks"] == []


def test_another_quantization_is_named(run, scored):
    with pytest.raises(DataError, match="another quantization: none, the scores are of nf4"):
        run(*AUDIT, "quantization=none")


def test_scores_on_benchmarks_that_are_not_named_are_said_to_be_left_out(run, scored, caplog):
    run("quickstart", *SHORT, *TWO[1:2], "benchmark=[toy_choice_en]", *AUDIT[-2:])
    assert "the run has scores on toy_exact_zh, which are not audited" in caplog.text
    assert audits(scored)["base"]["num_total"] == 12


def test_a_folder_without_results_has_nothing_to_audit(run, tmp_path):
    with pytest.raises(ConfigError, match="has nothing to audit: it has no results.json"):
        run(*AUDIT, f"run_dir={Path(tmp_path)}")


def test_an_audit_of_models_without_scores_is_refused_instead_of_passed(run, scored):
    with pytest.raises(ConfigError, match="nothing to audit, .* has no merged with scores on toy_choice_en"):
        run(*AUDIT, "evaluate.models=[merged]")
    assert not scored.audit_json.exists()


def test_a_model_without_scores_on_the_audited_benchmarks_is_left_out(run, scored):
    results = read_json(scored.results_json)
    is_left_out = {"model": "base", "benchmark": "toy_choice_en"}
    results["scores"] = [score for score in results["scores"] if not is_left_out.items() <= score.items()]
    write_json(scored.results_json, results)
    scored.run_json.unlink()
    run("quickstart", *SHORT, TWO[1], "benchmark=[toy_choice_en]", *AUDIT[-2:])
    assert list(audits(scored)) == ["adapter"]


def test_weights_known_by_their_name_on_the_hub_are_not_called_others_than_a_local_copy():
    digest, other = "a" * 64, "b" * 64
    recorded = {"weights": "org/model", "adapter": digest}
    assert changed_weights(recorded, {"weights": digest, "adapter": digest}) == []
    [remark] = changed_weights(recorded, {"weights": "org/other", "adapter": digest})
    assert remark.startswith("another weights: org/other")
    [remark] = changed_weights({"adapter": digest}, {"adapter": None})
    assert remark.startswith("another adapter: None")
    [remark] = changed_weights({"weights": digest}, {"weights": other})
    assert remark.startswith("another weights: bbbb")
