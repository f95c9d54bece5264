"""Folders of lm-evaluation-harness as runs."""

import json
import math

import pytest
from imported_files import DATE, question, sample, write_harness
from sklearn.metrics import f1_score

from workbench.config.leaderboard import LeaderboardConfig
from workbench.evaluation.records import Example, prompt_hash
from workbench.evaluation.tasks.requests import item
from workbench.leaderboard.build import build
from workbench.leaderboard.imported_runs import collect_all


def only(folder):
    [run], skipped = collect_all(folder).runs, collect_all(folder).skipped
    assert skipped == []
    return run


def test_a_prompt_has_the_hash_of_this_projects_runs_of_the_same_task(tmp_path):
    write_harness(tmp_path / "a", {"quiz": [sample(0, 1.0)]})
    [prediction] = only(tmp_path).predictions("org/one", "quiz")
    prompt = f"{question(0)}\nAnswer:"
    texts = [text for letter in "ABCD" for text in (prompt, f" {letter}")]
    assert prediction.prompt_hash == prompt_hash(texts)[:16]


def test_a_prompt_also_has_the_hash_of_this_projects_own_benchmarks(tmp_path):
    write_harness(tmp_path / "a", {"quiz": [sample(0, 1.0)]})
    example = Example(
        id="0",
        delimiter=" ",
        questions=(f"{question(0)}\nAnswer:",),
        continuations=("A", "B", "C", "D"),
        target=0,
    )
    assert only(tmp_path).items["quiz"].plain_prompts == [item(example, 0).hash[:16]]


def test_arguments_of_earlier_versions_are_read_alike(tmp_path):
    write_harness(tmp_path / "new", {"quiz": [sample(0, 1.0)]})
    old = sample(0, 1.0)
    old["arguments"] = [list(request.values()) for request in old["arguments"].values()]
    old["resps"] = [[[-1.5, False]], [[-4.25, False]], [[-4.25, False]], [[-4.25, False]]]
    write_harness(tmp_path / "old", {"quiz": [old]}, model="org/two")
    first, second = collect_all(tmp_path).runs
    assert first.predictions("org/one", "quiz") == second.predictions("org/two", "quiz")


def test_documents_that_share_a_long_text_are_a_cluster(tmp_path):
    passage = "A long story of two towns and the river between them, told by an old man at the inn. " * 2
    samples = [sample(n, 1.0, passage=passage + str(n // 2)) for n in range(6)] + [sample(6, 1.0)]
    write_harness(tmp_path / "a", {"quiz": samples})
    clusters = only(tmp_path).items["quiz"].clusters
    assert clusters[0] == clusters[1] != clusters[2] == clusters[3]
    assert clusters[6] == ""


def test_the_later_of_two_results_of_a_model_stands(tmp_path):
    write_harness(tmp_path, {"quiz": [sample(0, 1.0)], "other": [sample(1, 1.0)]})
    write_harness(tmp_path, {"quiz": [sample(0, 0.0)]}, date="2026-02-02T03-04-05.678901")
    collection = collect_all(tmp_path)
    found = [(score.benchmark, score.value) for run in collection.runs for score in run.scores]
    assert sorted(found) == [("other", 1.0), ("quiz", 0.0)]
    assert [entry.reason for entry in collection.skipped] == ["a later file has the same model on quiz"]


def test_items_in_another_order_are_paired_by_their_prompts(tmp_path):
    texts = [question(number) for number in range(5)]
    write_harness(tmp_path / "a", {"quiz": [sample(n, 1.0, text=texts[n]) for n in range(5)]})
    mixed = [sample(n, float(n == 0), text=texts[4 - n]) for n in range(5)]
    write_harness(tmp_path / "b", {"quiz": mixed}, model="org/two")
    first, second = collect_all(tmp_path).runs
    assert second.items["quiz"].ids == first.items["quiz"].ids
    assert second.items["quiz"].prompts == first.items["quiz"].prompts
    assert second.items["quiz"].values["acc"] == [0.0, 0.0, 0.0, 0.0, 1.0]
    contexts = [[one.context for one in run.predictions(run.base_model, "quiz")] for run in (first, second)]
    assert contexts[0] == contexts[1]


def test_other_prompts_keep_their_own_hashes(tmp_path):
    write_harness(tmp_path / "a", {"quiz": [sample(n, 1.0) for n in range(5)]})
    other = [sample(n, 1.0, text=f"Q: {question(n)}") for n in range(5)]
    write_harness(tmp_path / "b", {"quiz": other}, model="org/two")
    first, second = collect_all(tmp_path).runs
    assert first.scores[0].prompts != second.scores[0].prompts


REFUSED = {
    "twice": (lambda samples: [*samples, samples[0]], "line 5: document 0 is there twice (first on line 1)"),
    "nan": (
        lambda samples: [*samples[:3], samples[3] | {"acc": float("nan")}],
        "line 4: acc of document 3 is nan (finite numbers only)",
    ),
    "infinite": (
        lambda samples: [samples[0] | {"acc": float("inf")}, *samples[1:]],
        "line 1: acc of document 0 is inf (finite numbers only)",
    ),
    "missing": (lambda samples: samples[:3], "has 3 of the 4 documents that were scored"),
    "falsified": (
        lambda samples: [samples[0] | {"acc": 0.0}, *samples[1:]],
        "the results say acc 1, the items 0.75",
    ),
}


@pytest.mark.parametrize("change", REFUSED)
def test_damaged_samples_are_refused_by_name(tmp_path, change):
    samples = [sample(number, 1.0) for number in range(4)]
    write_harness(tmp_path / "a", {"quiz": samples})
    path = tmp_path / "a" / f"samples_quiz_{DATE}.jsonl"
    changed, reason = REFUSED[change]
    path.write_text("".join(json.dumps(one) + "\n" for one in changed(samples)))
    collection = collect_all(tmp_path)
    assert collection.runs == []
    assert [(entry.path, entry.reason) for entry in collection.skipped] == [(f"a/{path.name}", reason)]


def test_a_results_file_without_samples_is_named_with_the_way_out(tmp_path):
    write_harness(tmp_path, {"quiz": [sample(0, 1.0)]})
    (tmp_path / f"samples_quiz_{DATE}.jsonl").unlink()
    [skipped] = collect_all(tmp_path).skipped
    assert "--log_samples" in skipped.reason


def write_total(folder, samples, **totals):
    path = write_harness(folder, {"quiz": samples})
    values = json.loads(path.read_text())
    values["results"]["quiz"] |= {f"{metric},none": total for metric, total in totals.items()}
    path.write_text(json.dumps(values))


def labelled(number, target, label):
    return sample(number, 1.0, metrics={"acc": float(target == label), "f1": [target, label]})


def test_a_total_of_all_labels_is_checked_against_them(tmp_path):
    samples = [labelled(n, n % 2, int(n % 3 == 0)) for n in range(30)]
    f1 = f1_score([n % 2 for n in range(30)], [n % 3 == 0 for n in range(30)])
    write_total(tmp_path / "sound", samples, f1=f1)
    assert [score.metric for score in only(tmp_path / "sound").scores] == ["acc", "f1"]
    write_total(tmp_path / "falsified", samples, f1=0.99)
    collection = collect_all(tmp_path / "falsified")
    assert [score.metric for score in collection.runs[0].scores] == ["acc"]
    [skipped] = collection.skipped
    assert skipped.reason == f"the results say f1 0.99, the items {f1:.6g}"


def weighed(number):
    """Return a text of 5 words that the harness counts as 9: it counts before it prepares the text."""
    nats = -20.0 - number
    text = f"the low-cost thing number {number}"
    metrics = {"word_perplexity": [nats, 9], "bits_per_byte": [nats, 40]}
    return sample(number, 1.0, metrics=metrics) | {"arguments": {"gen_args_0": {"arg_0": text}}}


def test_log_likelihoods_are_divided_by_what_the_harness_counted(tmp_path):
    samples, nats = [weighed(number) for number in range(30)], sum(20 + number for number in range(30))
    totals = {"word_perplexity": math.exp(nats / 270), "bits_per_byte": nats / 1200 / math.log(2)}
    write_total(tmp_path / "sound", samples, **totals)
    collection = collect_all(tmp_path / "sound")
    assert {score.metric: score.value for score in collection.runs[0].scores} == totals
    assert collection.skipped == [] and build(collection, LeaderboardConfig()).alarms == ()
    write_total(tmp_path / "falsified", samples, word_perplexity=1.5, bits_per_byte=0.1)
    [skipped] = collect_all(tmp_path / "falsified").skipped
    assert skipped.reason.startswith("the results say word_perplexity 1.5, the items ")


def write_group(folder, *, group=None, task=None):
    """Write two tasks of labels and log-likelihoods as a group, with totals that may be falsified."""
    sizes, samples, totals = {"law": 30, "art": 12}, {}, {}
    for name, size in sizes.items():
        right, predicted = [n % 2 for n in range(size)], [int(n % 3 == 0) for n in range(size)]
        samples[name] = [
            sample(
                n,
                1.0,
                text=question(n, name),
                metrics={"f1": [right[n], predicted[n]], "perplexity": -1.0 - n / 9},
            )
            for n in range(size)
        ]
        mean = sum(1 + n / 9 for n in range(size)) / size
        totals[name] = {"f1,none": f1_score(right, predicted), "perplexity,none": math.exp(mean)}
    means = {key: sum(totals[name][key] for name in sizes) / 2 for key in totals["law"]}
    path = write_harness(
        folder, samples, groups={"exam": {"tasks": [*sizes], "totals": means | (group or {})}}
    )
    values = json.loads(path.read_text())
    for name in sizes:
        values["results"][name] |= totals[name] | ((task or {}) if name == "art" else {})
    path.write_text(json.dumps(values))
    return means, totals


def test_totals_of_a_group_are_the_mean_of_its_tasks_totals_of_equal_weight_or_by_size(tmp_path):
    means, totals = write_group(tmp_path / "equal")
    assert {f"{score.metric},none": score.value for score in only(tmp_path / "equal").scores} == means
    by_size = {key: (30 * totals["law"][key] + 12 * totals["art"][key]) / 42 for key in means}
    write_group(tmp_path / "sizes", group=by_size)
    assert {f"{score.metric},none": score.value for score in only(tmp_path / "sizes").scores} == by_size


def test_a_falsified_total_of_a_group_or_of_a_task_in_it_is_left_out(tmp_path):
    means, _ = write_group(tmp_path / "group", group={"f1,none": 0.99})
    write_group(tmp_path / "task", task={"f1,none": 0.99})
    for name, words in (
        ("group", f"0.99 of the group, its tasks make {means['f1,none']:.6g}"),
        ("task", "0.99, the items"),
    ):
        collection = collect_all(tmp_path / name)
        assert [score.metric for score in collection.runs[0].scores] == ["perplexity"]
        assert all(f"the results say f1 {words}" in skipped.reason for skipped in collection.skipped)
        assert len(collection.skipped) == 2  # one file a task
