"""Protocols that change the way of answering: a benchmark of choices is answered with a text in a chat."""

from pathlib import Path

import pytest
from five_rows import ROWS
from layouts import ALIKE, LAYOUTS
from test_shipped_benchmarks import CONF, load
from test_targets import judged
from tiny_llama import make_tokenizer

from workbench.config import Config
from workbench.config.benchmark import BenchmarkConfig, OutputType, ProtocolConfig
from workbench.config.evaluate import EvaluateConfig, takes_chat_template
from workbench.errors import ConfigError
from workbench.evaluation.benchmarks.protocols import resolve
from workbench.evaluation.engine import evaluate
from workbench.evaluation.model_checks import check_prompting
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Answer
from workbench.evaluation.tasks.generation import extracted
from workbench.evaluation.tasks.requests import chat_format, item

TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
NAMES = ("cmmlu", "ceval", "mmlu", "arc_easy", "arc_challenge", "agieval_zh", "agieval_en")


def prepared(name: str, folder: Path, evaluate: EvaluateConfig | None = None, **changes) -> PreparedBenchmark:
    """Write a benchmark's made-up rows, and render them; without other keys by the protocol chat."""
    subset, _, files = ROWS[name] if name in ROWS else LAYOUTS[ALIKE.get(name, name)]
    for file, text in files.items():
        path = folder / file.replace("Easy", "Challenge" if "challenge" in name else "Easy")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    only = {"only": [subset]} if subset else {}
    benchmark = load(name, **{"path": str(folder), "protocol": "chat", **only, **changes})
    return prepare_benchmarks({name: benchmark}, evaluate or EvaluateConfig())[name]


def prompt(benchmark: PreparedBenchmark, index: int = 0, **settings) -> str:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TURNS
    chat = chat_format(tokenizer, benchmark.config, EvaluateConfig(**settings))
    return item(benchmark.examples[index], 0, chat).contexts[0]


def test_a_chat_protocol_asks_in_one_turn_of_the_chat_template(tmp_path):
    letters = "太阳从哪边升起？\nA. 东\nB. 西\nC. 南\nD. 北"
    assert prompt(prepared("cmmlu", tmp_path)) == (
        f"<user>以下是关于农学的单项选择题，请直接给出正确答案的选项。\n\n题目：{letters}\n答案是：<assistant>"
    )
    assert prompt(prepared("ceval", tmp_path, protocol="chat-cot")) == (
        "<user>以下是中国关于法学考试的单项选择题。请一步一步地思考，最后另起一行写“答案：”和正确选项的字母。"
        f"\n\n{letters}<assistant>"
    )
    assert prompt(prepared("mmlu", tmp_path)) == (
        "<user>The following is a multiple choice question about anatomy. Reply with the letter of the right "
        "answer only.\n\nWhere is the heart?\nA. chest\nB. head\nC. foot\nD. hand\nAnswer:<assistant>"
    )
    assert prompt(prepared("arc_challenge", tmp_path)).endswith(
        "only.\n\nWhy?\nA. so\nB. no\nC. oh\nAnswer:<assistant>"
    )
    agieval = prepared("agieval_zh", tmp_path)
    assert (
        prompt(agieval, 4)
        == "<user>问题：最小的是？ 选项：(A)一 (B)二 (C)三\n答案：从A到C, 我们应选择<assistant>"
    )
    steps = prepared("agieval_zh", tmp_path, protocol="chat-cot")
    assert prompt(steps, 4).startswith(
        "<user>问题：最小的是？ 选项：(A)一 (B)二 (C)三\n请一步一步地思考，最后"
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("protocol", ["chat", "chat-cot"])
def test_the_letter_that_a_chat_states_is_right_where_it_is_the_targets(name, protocol, tmp_path):
    benchmark = prepared(name, tmp_path, protocol=protocol)
    assert benchmark.config.output_type is OutputType.generation
    right = [str(example.target) for example in benchmark.examples]
    predictions, [score] = judged(benchmark, [f"嗯。所以答案是{letters}。" for letters in right])
    assert [each.prediction for each in predictions] == right and score.value == 1.0
    assert score.metric == "exact_match" and score.protocol == protocol
    _, [score] = judged(benchmark, ["我不知道。" for _ in right])
    assert score.value == 0.0


def test_all_of_several_right_options_are_needed_in_a_chat(tmp_path):
    benchmark = prepared("agieval_zh", tmp_path)
    assert [example.target for example in benchmark.examples] == ["B", "AB", "AC", "A", "A"]
    predictions, [score] = judged(benchmark, ["B", "A", "A、C", "AB", "A"])
    assert [each.scores["exact_match"] for each in predictions] == [1.0, 0.0, 1.0, 0.0, 1.0]
    # One letter at random of four, four, three: never right where two letters are needed.
    sizes = [len(example.choices) for example in benchmark.examples]
    single = [len(str(example.target)) == 1 for example in benchmark.examples]
    expected = sum(is_single / size for size, is_single in zip(sizes, single, strict=True)) / 5
    assert score.chance == pytest.approx(expected) and 0 < score.chance < 0.25


def test_chance_is_one_of_the_letters_that_a_chat_may_state(tmp_path):
    _, [score] = judged(prepared("arc_easy", tmp_path), ["B"])
    assert score.chance == pytest.approx(1 / 3) and score.value == 1.0
    _, [score] = judged(prepared("mmlu", tmp_path), ["C"])
    assert score.chance == 0.25 and score.majority == 1.0
    whole = {"extract": "verbatim", "stop": [], "max_new_tokens": 8}
    _, [score] = judged(prepared("mmlu", tmp_path, generation=whole), ["A"])
    assert score.chance is None and score.value == 1.0
    _, [score] = judged(prepared("gsm8k", tmp_path, protocol="fixed", num_fewshot=0), ["1004"])
    assert score.chance is None


def test_the_users_word_on_the_chat_template_precedes_the_protocols(tmp_path):
    asked = prepared("mmlu", tmp_path, chat_template=False)
    assert prompt(asked).startswith("The following") and asked.config.chat_template is False
    assert prompt(asked, chat_template=True).startswith("The following")
    likelihoods = prepared("mmlu", tmp_path, protocol="lm-eval")
    assert prompt(likelihoods).startswith("The following")
    assert prompt(likelihoods, chat_template=True).startswith("<system>The following")
    chosen = load("mmlu", protocol="chat")
    assert takes_chat_template(chosen, EvaluateConfig())
    assert not takes_chat_template(load("mmlu", protocol="chat", chat_template=False), EvaluateConfig())


def test_few_shot_examples_are_turns_with_the_letter_as_the_answer(tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/anatomy_dev.csv").write_text("Where is the toe?,chest,head,foot,hand,C\n")
    text = prompt(prepared("mmlu", tmp_path, num_fewshot=1))
    assert text.count("<user>The following is a multiple choice question about anatomy.") == 2
    assert "D. hand\nAnswer:<assistant>C<user>" in text


def shown(name: str, folder: Path, **changes) -> PreparedBenchmark:
    """The same with few-shot examples, whose questions differ from those of the items by a word."""
    asked = prepared(name, folder, **changes)
    config = asked.config
    file = config.local.files[config.split].replace("{subset}", (config.only or [""])[0])
    text = (folder / file).read_text(encoding="utf-8")
    for word, other in {
        "太阳": "月亮",
        "Where": "When",
        "二加": "三加",
        "Why": "How",
        '"question": "': '"question": "So, ',
    }.items():
        text = text.replace(word, other)
    (folder / "shown").mkdir()
    (folder / "shown" / Path(file).name).write_text(text, encoding="utf-8")
    files = {"local": {"files": {"shown": f"shown/{Path(file).name}"}}, "fewshot_split": "shown"}
    return prepared(name, folder, num_fewshot=len(asked.examples), **files, **changes)


def test_all_exams_with_steps_are_tested():
    assert sorted(NAMES) == sorted(f.stem for f in CONF.glob("*.yaml") if "\n  chat-cot:" in f.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_an_example_of_chat_cot_has_its_answer_in_the_form_that_the_instruction_asks_for(name, tmp_path):
    benchmark = shown(name, tmp_path, protocol="chat-cot")
    right, mark = [str(each.target) for each in benchmark.examples], "Answer: "
    if benchmark.config.language == "zh":
        mark = "答案："
    for example in benchmark.examples:
        lines = [shot.answer for shot in example.shots]
        assert lines == [f"\n{mark}{letters}" for letters in right]
        pairs = zip(lines, benchmark.examples, strict=True)
        read = [
            extracted(Answer(generation=line), asked, benchmark.config).extracted for line, asked in pairs
        ]
        assert read == right and mark.strip() in example.questions[0]
    turns, one_turn = prompt(benchmark), prompt(benchmark, fewshot_as_turns=False)
    assert all(f"<assistant>{mark}{letters}<user>" in turns for letters in right)
    assert one_turn.count("<user>") == 1
    assert all(f"\n{mark}{letters}\n\n" in one_turn for letters in right)
    alone = prepared(name, tmp_path, protocol="chat-cot")
    assert prompt(alone).endswith(f"{benchmark.examples[0].questions[0]}<assistant>")


def test_an_example_of_a_word_problem_has_its_number_where_the_instruction_asks_for_it(tmp_path):
    benchmark = shown("mgsm_zh", tmp_path, protocol="chinese")
    [first, *_] = benchmark.examples
    assert first.shots and all(shot.answer.startswith("答案是") for shot in first.shots)
    read = [extracted(Answer(generation=s.answer), first, benchmark.config).extracted for s in first.shots]
    assert set(read) <= {each.target for each in benchmark.examples}


def test_the_system_text_precedes_the_description_and_is_the_system_message_of_a_chat(tmp_path):
    polite = EvaluateConfig(system="You {{ never }} guess.")
    chat = prepared("mmlu", tmp_path, polite)
    assert prompt(chat).startswith("<system>You {{ never }} guess.<user>The following is a multiple")
    described = prepared("mmlu", tmp_path, polite, protocol="lm-eval")
    head = (
        "You {{ never }} guess.\n\nThe following are multiple choice questions (with answers) about anatomy."
    )
    assert prompt(described).startswith(f"{head}\n\nWhere is")
    assert prompt(described, chat_template=True).startswith(f"<system>{head}<user>Where is")
    spaced = prepared("mmlu", tmp_path, EvaluateConfig(system="Say A.\n"), protocol="lm-eval")
    assert prompt(spaced).startswith("Say A.\nThe following are")
    orders = prepared("mmlu", tmp_path, EvaluateConfig(system="S", permutations=2), protocol="lm-eval")
    [rotation] = orders.examples[0].rotations
    assert (
        rotation.description
        == orders.examples[0].description
        == "S\n\n" + described.examples[0].description.removeprefix("You {{ never }} guess.\n\n")
    )


def test_few_shot_examples_can_precede_the_question_in_the_users_turn(tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/anatomy_dev.csv").write_text("Where is the toe?,chest,head,foot,hand,C\n")
    asked = prepared("mmlu", tmp_path, protocol="lm-eval", num_fewshot=1)
    described = "The following are multiple choice questions (with answers) about anatomy."
    options = "A. chest\nB. head\nC. foot\nD. hand\nAnswer:"
    turn = f"Where is the toe?\n{options} C\n\nWhere is the heart?\n{options}"
    assert prompt(asked, chat_template=True, fewshot_as_turns=False) == (
        f"<system>{described}<user>{turn}<assistant>"
    )
    with pytest.raises(ConfigError, match=r"evaluate\.fewshot_as_turns: false has no effect without a chat"):
        Config(evaluate=EvaluateConfig(fewshot_as_turns=False), benchmarks={"mmlu": load("mmlu")})
    Config(
        evaluate=EvaluateConfig(fewshot_as_turns=False), benchmarks={"mmlu": load("mmlu", protocol="chat")}
    )


def test_a_chat_protocol_without_a_chat_template_is_refused_by_its_key(tmp_path):
    benchmark = prepared("mmlu", tmp_path)
    with pytest.raises(ConfigError, match=r"benchmarks\.mmlu\.chat_template: the model's tokenizer has no"):
        check_prompting(512, make_tokenizer(), {"mmlu": benchmark}, EvaluateConfig())


def test_template_arguments_have_an_effect_where_a_protocol_takes_the_chat_template():
    quick = EvaluateConfig(template_arguments={"enable_thinking": False})
    chosen = {"mmlu": load("mmlu", protocol="chat")}
    assert Config(evaluate=quick, benchmarks=chosen).evaluate.template_arguments == {"enable_thinking": False}
    with pytest.raises(ConfigError, match="enable_thinking has no effect without a chat template"):
        Config(evaluate=quick, benchmarks={"mmlu": load("mmlu")})


def test_a_protocol_can_not_ask_another_kind_of_model():
    for own, other in (("multiple_choice", "classification"), ("perplexity", "generation")):
        protocols = {"other": ProtocolConfig(output_type=OutputType[other])}
        benchmark = BenchmarkConfig(
            language="en", output_type=OutputType[own], protocol="other", protocols=protocols
        )
        with pytest.raises(ConfigError, match=rf"benchmarks\.x\.protocols\.other\.output_type: '{other}' in"):
            resolve("x", benchmark)


def test_option_orders_have_no_effect_on_a_chat_which_is_said(tmp_path):
    benchmark = prepared("mmlu", tmp_path, EvaluateConfig(permutations=4))
    assert not benchmark.examples[0].rotations
    assert any("answers are generated in one order only" in warning for warning in benchmark.warnings)


def test_a_model_is_scored_by_what_it_writes_in_its_chat_template(tmp_path, llama):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TURNS
    generation = {"max_new_tokens": 6, "stop": [], "extract": "letter"}
    benchmark = prepared("mmlu", tmp_path, generation=generation)
    files = {"mmlu": tmp_path / "predictions.jsonl"}
    [score] = evaluate(
        llama,
        tokenizer,
        {"mmlu": benchmark},
        EvaluateConfig(),
        model_name="base",
        predictions=lambda _, name: files[name],
    ).scores
    assert (score.metric, score.chance, score.num_fewshot) == ("exact_match", 0.25, 0)
    assert set(score.letters) == set("ABCD") and sum(score.letters.values()) <= 1
    assert '"context": "<user>The following' in files["mmlu"].read_text()
