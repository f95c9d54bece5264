"""Values that would do nothing, the wrong thing or end in a traceback are refused when they are composed."""

import errno

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from workbench.cli.user_errors import users_error
from workbench.errors import WorkbenchError
from workbench.run_dir import check_folder


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["steps=[]"], "steps: empty (name some of plan, train, "),
        (["steps=[train,train]"], "steps: 'train' is listed twice"),
        (
            ["steps=[leaderboard,train]"],
            "steps: 'leaderboard' comes before 'train', whose",
        ),
        (["steps=[evaluate,merge]"], "steps: 'evaluate' comes before 'merge'"),
        (["steps=[train,export,merge]"], "steps: 'export' comes before 'merge'"),
        (["leaderboard.folder="], "leaderboard.folder: empty"),
        (["leaderboard.folder=' '"], "leaderboard.folder: empty"),
        (["train.score_on=[toy_text_en,toy_text_en]"], "train.score_on: 'toy_text_en' is listed twice"),
        (["evaluate.models=[base,base]"], "evaluate.models: 'base' is listed twice"),
        (["adapter.target_modules=[q_proj,q_proj]"], "adapter.target_modules: 'q_proj' is listed twice"),
        (["benchmarks.toy_text_en.metrics=[acc,acc]"], "benchmarks.toy_text_en.metrics: 'acc' is"),
        (["benchmarks.toy_text_en.language=fr"], "benchmarks.toy_text_en.language: 'fr' (known: zh, en)"),
        (["run_dir=" + "a" * 300], "run_dir: a name of 300 bytes, 'aaaa"),
        (["run_dir=" + "名" * 90], "run_dir: a name of 270 bytes"),
        (["run_dir=" + "a/" * 3000], "run_dir: a name of 5999 bytes"),
        (["leaderboard.folder=" + "a" * 300], "leaderboard.folder: a name of 300 bytes"),
        (["run_dir=a\x1b[31mb"], "run_dir: 'a\\x1b[31mb' has control characters"),
    ],
)
def test_a_value_that_nobody_can_mean_is_refused_before_anything_is_loaded(command, tmp_path, words, answer):
    assert command("recipe=quickstart", "benchmark=[toy_text_en]", *words).startswith(f"error: {answer}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("section", ["train", "model", "quantization", "data"])
def test_a_section_cannot_be_taken_away(command, tmp_path, section):
    assert f"{section}: null is not an option" in command("recipe=quickstart", f"{section}=null")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(f"{section}: null\n")
    assert f"field '{section}' is not Optional" in command("recipe=mine")


def test_a_name_as_long_as_file_systems_take_is_no_mistake(tmp_path):
    check_folder("run_dir", tmp_path / ("a" * 255))


def test_a_file_that_cannot_be_used_is_the_user_s_mistake_and_any_other_error_of_the_system_ours():
    error = users_error(PermissionError(errno.EACCES, "Permission denied", "runs/a\x1b.json"))
    assert isinstance(error, WorkbenchError)
    assert str(error) == "runs/a\x1b.json: can't be read or written (Permission denied)"
    for other in (OSError(errno.EBADF, "Bad file descriptor", "a"), OSError(errno.EACCES, "no file named")):
        assert users_error(other) is None


@pytest.mark.parametrize(
    "ask", [lambda: bytearray(2**62), lambda: torch.empty(2**50)], ids=["python", "torch"]
)
def test_memory_that_has_run_out_is_the_user_s_to_mend(ask):
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        ask()
    assert str(users_error(caught.value)).startswith("memory: not enough, ")


def test_a_library_of_rust_that_gives_up_on_a_file_ends_in_one_line():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.FixedLength(0)
    with pytest.raises(BaseException) as caught:
        tokenizer.encode("a")
    assert str(users_error(caught.value)).startswith(
        "model: its tokenizer or weights are damaged, chunk size"
    )


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), KeyError("a"), SystemExit(1)])
def test_a_fault_of_ours_keeps_its_traceback(error):
    assert users_error(error) is None
