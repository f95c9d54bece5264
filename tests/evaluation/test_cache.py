"""Answers that are kept: each line has a checksum, and one that isn't as it was written is asked again."""

import json
import logging
import multiprocessing
import os
from pathlib import Path

import pytest
from test_engine import exam, run  # noqa: F401

from workbench.errors import DataError
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.records import Answer

ANSWER = Answer(loglikelihoods=(-4.14, -2.5), num_tokens=(1, 2), greedy=(False, True))


@pytest.fixture(autouse=True)
def audible(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    caplog.set_level(logging.WARNING, logger="workbench")


def filled(folder: Path, model: str = "model", count: int = 3, **options) -> Path:
    """The file of a cache with some answers."""
    cache = AnswerCache(folder, model, "rule", **options)
    with cache.writing() as writer:
        for number in range(count):
            writer.add(f"prompt {number}", ANSWER)
    assert cache.path is not None
    return cache.path


def known(folder: Path, model: str = "model", **options) -> list[str]:
    return sorted(AnswerCache(folder, model, "rule", **options).answers)


def test_answers_come_back_as_they_were_kept(tmp_path, caplog):
    path = filled(tmp_path)
    assert AnswerCache(tmp_path, "model", "rule")["prompt 1"] == ANSWER
    assert known(tmp_path) == ["prompt 0", "prompt 1", "prompt 2"] and not caplog.text
    text = Answer(generation="答案是\u2028B。\n\x85", extracted="B")
    with AnswerCache(tmp_path, "model", "rule").writing() as writer:
        writer.add("text", text)
    assert AnswerCache(tmp_path, "model", "rule")["text"] == text and not caplog.text
    cut = Answer(generation="答案", finish_reason="length")
    with AnswerCache(tmp_path, "model", "rule").writing() as writer:
        writer.add("cut", cut)
    assert AnswerCache(tmp_path, "model", "rule")["cut"] == cut and not caplog.text
    assert path.read_text().count("finish_reason") == 1  # lines of earlier versions stay as they were


def changed(text: str) -> str:
    """A line with other values and the checksum of before."""
    values = json.loads(text)
    return json.dumps({**values, "loglikelihoods": [-1.0], "num_tokens": [1], "greedy": [True]})


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line.replace("[-4.14", "[ 4.14"),
        lambda line: line.replace("prompt 1", "prompt 0"),
        lambda line: line[:-30],
        lambda line: line.replace("-2.5]", "-2.5, -1.0]"),
        changed,
        lambda line: line.replace("[false, true]", "[0, 1]"),
        lambda line: line.replace('"num_tokens": [1, 2]', '"num_tokens": "12"'),
        lambda line: line.replace('"generation": null', '"generation": "B"'),
        lambda line: "[" * 100_000,
        lambda line: "null",
        lambda line: "",
        lambda line: line.replace('"sum": "', '"sum": "0'),
        lambda line: "\x1b]0;title\x07" + line,
    ],
)
def test_a_line_that_was_changed_is_named_and_its_prompt_asked_again(tmp_path, caplog, damage):
    path = filled(tmp_path)
    lines = path.read_text().split("\n")
    assert damage(lines[1]) != lines[1]
    path.write_text("\n".join([lines[0], damage(lines[1]), *lines[2:]]))
    assert known(tmp_path) == ["prompt 0", "prompt 2"]
    [record] = caplog.records
    assert record.getMessage() == f"{path}:2: the line is damaged; asking again"


def test_every_single_flipped_bit_of_a_line_is_found(tmp_path):
    path = filled(tmp_path, count=1)
    data = path.read_bytes()
    for place in range(len(data) - 1):
        for bit in (0, 4):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            assert known(tmp_path) == [], (place, bit)


def test_a_line_of_another_model_or_rule_is_not_believed(tmp_path, caplog):
    ours, theirs = filled(tmp_path), filled(tmp_path, "other model")
    theirs.write_bytes(ours.read_bytes())
    assert known(tmp_path, "other model") == []
    assert f"{theirs}:1 and 2 further lines: the line is damaged" in caplog.text


def test_lines_of_an_earlier_version_are_said_to_have_no_checksum(tmp_path, caplog):
    path = filled(tmp_path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({k: v for k, v in one.items() if k != "sum"}) + "\n" for one in lines))
    assert known(tmp_path) == []
    assert "the line has no checksum, as in earlier versions; asking again" in caplog.text


def test_a_last_line_that_a_kill_cut_short_is_passed_over_without_a_word_and_cut_off(tmp_path, caplog):
    path = filled(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    assert known(tmp_path) == ["prompt 0", "prompt 1"]
    with AnswerCache(tmp_path, "model", "rule").writing() as writer:
        writer.add("prompt 2", ANSWER)
    assert path.read_bytes() == data and not caplog.text


def test_force_forgets_what_is_kept_and_nothing_of_others(tmp_path):
    filled(tmp_path)
    other, old_rank = filled(tmp_path, "other model"), filled(tmp_path, rank=7)
    before = other.read_bytes()
    assert known(tmp_path, renew=True) == []
    assert known(tmp_path) == [] and not old_rank.exists() and other.read_bytes() == before


def test_a_link_in_the_place_of_the_file_is_refused_and_its_target_left_alone(tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("mine\n")
    path = filled(tmp_path / "cache")
    path.unlink()
    path.symlink_to(outside)
    with pytest.raises(DataError, match="is a link where a file must be written"):
        filled(tmp_path / "cache")
    assert outside.read_text() == "mine\n"
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match="not a file, but answers are cached there"):
        filled(tmp_path / "cache")


def test_a_hard_link_elsewhere_keeps_its_content(tmp_path):
    path = filled(tmp_path / "cache")
    os.link(path, tmp_path / "backup")
    before = path.read_bytes()
    filled(tmp_path / "cache", count=5)
    assert (tmp_path / "backup").read_bytes() == before and known(tmp_path / "cache")[-1] == "prompt 4"


def add_many(folder: Path, name: str) -> None:
    with AnswerCache(folder, "model", "rule").writing() as writer:
        for number in range(200):
            writer.add(f"{name} {number}", Answer(generation=name * 9000, extracted=None))


def test_two_processes_that_keep_answers_at_once_lose_none(tmp_path, caplog):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add_many, args=(tmp_path, name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(known(tmp_path)) == 400 and not caplog.text


def add_long(folder: Path) -> None:
    with AnswerCache(folder, "model", "rule").writing() as writer:
        for number in range(30):
            writer.add(f"{number}", Answer(generation="a" * 1_000_000, extracted=None))


def test_a_command_that_opens_the_cache_while_another_adds_to_it_deletes_nothing(tmp_path, caplog):
    cache = AnswerCache(tmp_path, "model", "rule")
    process = multiprocessing.get_context("fork").Process(target=add_long, args=(tmp_path,))
    process.start()
    while process.is_alive():
        with cache.writing():
            pass
    assert len(known(tmp_path)) == 30 and not caplog.text


def test_a_damaged_answer_changes_no_score(llama, tokenizer, exam, tmp_path, caplog):  # noqa: F811
    more = {"fingerprint": "f", "cache": tmp_path}
    right = run(llama, tokenizer, exam, **more)
    [path] = tmp_path.glob("*.jsonl")
    path.write_text(path.read_text().replace("[-", "[", 4))
    again = run(llama, tokenizer, exam, **more)
    assert again.scores == right.scores and again.measured["exam"]["num_asked"] == 4
    assert "and 3 further lines: the line is damaged; asking again" in caplog.text
    assert run(llama, tokenizer, exam, renew=True, **more).measured["exam"]["num_asked"] == 16


def test_a_kept_answer_of_too_few_choices_is_asked_again(llama, tokenizer, exam, tmp_path, caplog):  # noqa: F811
    more = {"fingerprint": "f", "cache": tmp_path / "cache"}
    right = run(llama, tokenizer, exam, **more)
    [path] = (tmp_path / "cache").glob("*.jsonl")
    cache = AnswerCache(tmp_path / "cache", "f", None)
    cache.key, cache.path = path.name.split(".")[0], path
    with cache.writing() as writer:
        writer.add(json.loads(path.read_text().split("\n")[0])["prompt"], ANSWER)
    again = run(llama, tokenizer, exam, **more)
    assert again.scores == right.scores and again.measured["exam"]["num_asked"] == 1
    assert "doesn't fit the prompt; asking again" in caplog.text


def test_a_benchmark_that_is_done_is_told_before_the_next_begins(llama, tokenizer, exam):  # noqa: F811
    told = []
    run(llama, tokenizer, exam, publish=lambda *of_benchmark: told.append(of_benchmark))
    [(benchmark, scores, measured)] = told
    assert benchmark.name == "exam" and scores[0].value >= 0 and measured["num_asked"] == 16
