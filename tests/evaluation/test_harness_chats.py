"""Tasks of lm-evaluation-harness asked in chats, with options of its command line, as it asks them itself."""

import pytest
from harness_tasks import assert_same_answers, write_tasks
from test_harness import TASKS, lm_eval
from tiny_llama import make_llama, make_tokenizer

from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.engine import evaluate
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.run_dir import RunDir

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("lm_eval")
    return write_tasks(tmp_path_factory.mktemp("harness") / "tasks")


def chat_tokenizer():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TURNS
    return tokenizer


def theirs(folder, **options) -> dict:
    """Score the tasks with the harness's own model class."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    lm = HFLM(pretrained=make_llama(), tokenizer=chat_tokenizer(), batch_size=4, device="cpu")
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    tasks = [task for task in TASKS if task != "own_law"]
    return simple_evaluate(lm, tasks=tasks, task_manager=manager, bootstrap_iters=0, **options)


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"chat_template": True}, {"apply_chat_template": True, "fewshot_as_multiturn": True}),
        (
            {"chat_template": True, "fewshot_as_turns": False, "system": "Be short."},
            {
                "apply_chat_template": True,
                "fewshot_as_multiturn": False,
                "system_instruction": "Be short.",
            },
        ),
        ({"system": "Be short.\n"}, {"system_instruction": "Be short.\n", "fewshot_as_multiturn": False}),
    ],
)
def test_tasks_have_the_harnesses_prompts_and_answers_in_chats_and_after_a_system_text(
    folder, tmp_path, settings, options
):
    run_dir, config = RunDir(tmp_path), EvaluateConfig(**settings)
    prepared = prepare_benchmarks({"lm_eval": lm_eval(*TASKS, include_path=str(folder))}, config)
    tokenizer = chat_tokenizer()
    evaluate(make_llama(), tokenizer, prepared, config, model_name="base", predictions=run_dir.predictions)
    expected = theirs(folder, **options)
    assert_same_answers(TASKS[1:], run_dir, expected["samples"])
