"""Templates of lm-evaluation-harness's tasks: rendered as it does, in a sandbox and within bounds."""

import json

import pytest

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import DataError
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.patterns import matching as patterns

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

TASK = """
task: own_hostile
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: {template}
doc_to_target: "{{{{a}}}}"
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


def prompts(folder, template: str) -> list[str]:
    pytest.importorskip("lm_eval")
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text('{"text": "x [y] [z]", "a": "b"}\n')
    (folder / "own.yaml").write_text(TASK.format(folder=folder, template=json.dumps(template)))
    config = BenchmarkConfig(
        language="en",
        output_type=OutputType["lm-eval"],
        tasks=["own_hostile"],
        metrics=[],
        include_path=str(folder),
    )
    (found,) = prepare_benchmarks({"lm_eval": config}, EvaluateConfig()).values()
    return [example.questions[0] for example in found.examples]


def test_a_sound_template_is_rendered_as_the_harness_renders_it(tmp_path):
    template = "{{ text|upper }} {{ [text, a]|join('-') }} {{ text|regex_replace('\\\\[.\\\\]', '', 1) }}\n"
    assert prompts(tmp_path / "tasks", template) == ["X [Y] [Z] x [y] [z]-b x  [z]\n"]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "takes more than 100,000",
        ),
        ("{{ 'a' * 10**11 }}", "makes a value of more than"),
        ("{{ ('a' * 5000 ~ '!')|regex_replace('(a|aa)+$', '') }}", "takes more than"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ self.__init__.__globals__ }}", "unsafe"),
        ("{{ nothing }}", "'nothing' is undefined"),
    ],
)
def test_a_template_that_would_never_end_or_leave_the_sandbox_is_one_line(
    tmp_path, monkeypatch, template, words
):
    monkeypatch.setattr(patterns, "MAX_SECONDS", 0.3)
    patterns._usage.cache_clear()
    with pytest.raises(DataError, match="own_hostile") as caught:
        prompts(tmp_path / "tasks", template)
    assert words in str(caught.value) and "\n" not in str(caught.value)
