"""A conversation through a pipe: the texts of the predict step, whole characters, turns, commands."""

import csv
import io
import json
import logging
import re
import sys
from pathlib import Path

import pytest
import torch
from run_recipe import run_recipe
from test_saved_chat import BASE, chat_base
from transformers import TopKLogitsWarper, TopPLogitsWarper

from workbench.config import ChatConfig, Config, ModelConfig
from workbench.config.benchmark import GenerationConfig
from workbench.config.data import DataConfig
from workbench.config.model import Task
from workbench.data.encode import Encoding, encode
from workbench.data.rows import load_rows
from workbench.errors import ConfigError, DataError, MissingStepError
from workbench.evaluation.inference.sampling import nucleus
from workbench.evaluation.inference.stop_rules import stable_prefix
from workbench.models.tokenizers.load_tokenizer import load_tokenizer
from workbench.pipeline.chat.session import Session
from workbench.pipeline.chat.terminal import read_request, show_lines
from workbench.pipeline.run_state import Run
from workbench.run_dir import RunDir
from workbench.shown import clean

ANSWER = "饕餮很好🐼"
"""None of the toy tokenizer's tokens is one of the rarer characters."""
ASKED = ["早上好", "2 + 2", "小军说什么？"]
OPTIONS = (
    "model.path=base",
    "data.path=rows.jsonl",
    "data.template=chatml",
    "data.validation_fraction=0",
    "quantization=none",
    "train.max_steps=200",
    "train.learning_rate=5e-3",
    "adapter.rank=32",
    "train.warmup_steps=0",
    "train.sample_answers=0",
    "run_dir=run",
)
LENGTH = 40


def prepare(folder: Path) -> None:
    chat_base(folder / "base")
    messages = [{"role": "user", "content": "早上好"}, {"role": "assistant", "content": ANSWER}]
    (folder / "rows.jsonl").write_text((json.dumps({"messages": messages}) + "\n") * 4)


@pytest.fixture(scope="module")
def folder(run_once) -> Path:
    return run_once(prepare, "sft", *OPTIONS, "steps=[train,merge]")


@pytest.fixture
def talk(folder, monkeypatch, capsys):
    """What the chat writes when these lines come through a pipe."""
    monkeypatch.chdir(folder)

    def talk(*said: str, options=()) -> str:
        piped = "".join(f"{line}\n" for line in said).encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped)))
        capsys.readouterr()
        run_recipe("chat", *OPTIONS, f"chat.max_new_tokens={LENGTH}", *options)
        return without_halves(capsys.readouterr().out)

    return talk


@pytest.fixture
def session(folder, monkeypatch) -> Session:
    monkeypatch.chdir(folder)
    data = DataConfig(path="rows.jsonl", template="chatml")
    return Session(Run(Config(model=ModelConfig(path="base"), data=data), RunDir(Path("run"))))


def predicted(name: str, file: str, rows: str, *untrained: str) -> list[str]:
    """The predict step's answers to a file."""
    Path(file).write_text(rows, encoding="utf-8")
    options = (f"predict.input={file}", f"predict.model={name}", f"predict.max_new_tokens={LENGTH}")
    run_dir = run_recipe("predict", *OPTIONS, *options, *untrained)
    stem = file.removesuffix(".jsonl")
    found = run_dir.predictions(name, f"own-{stem}").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["answer"] for line in found]


def without_halves(text: str) -> str:
    """A text without the half characters that the longest length leaves of an answer in the predict step."""
    return re.sub("\ufffd+\n", "\n", text)


def as_shown(answer: str) -> str:
    """An answer of the predict step as a line of the chat."""
    return without_halves(clean(answer) + "\n")


def test_base_adapter_and_merged_model_say_what_the_predict_step_writes_whatever_was_asked_before(talk):
    turns = [line for text in ASKED for line in ("/clear", text)]
    out = talk(*turns, "/model base", *turns, "/model merged", *turns, "/model adapter", *turns, "/bye", "x")
    said = {name: predicted(name, "ask.txt", "\n".join(ASKED)) for name in ("adapter", "base", "merged")}
    assert said["adapter"] != said["base"] and said["adapter"][0] == ANSWER
    expected = [as_shown(text) for name in ("adapter", "base", "merged", "adapter") for text in said[name]]
    assert out == "".join(expected)


def test_an_invariant_answer_is_not_one_that_a_batch_gave_before(folder, monkeypatch):
    monkeypatch.chdir(folder)
    predicted("base", "often.txt", "早上好\n早安")
    kept = len(list(Path("run/cache").iterdir()))
    predicted("base", "often.txt", "早上好\n早安", "evaluate.invariant=true")
    assert len(list(Path("run/cache").iterdir())) == kept + 1


def test_predict_asks_the_model_at_model_path_where_nothing_was_trained(folder, monkeypatch):
    monkeypatch.chdir(folder)
    Path("plain.txt").write_text("早上好\n", encoding="utf-8")
    asked = ("model.path=base", "predict.input=plain.txt", "predict.max_new_tokens=2", "run_dir=new")
    new = run_recipe("predict", *asked)
    assert new.predictions("base", "own-plain.txt").is_file()


def test_predict_shows_what_was_asked_without_the_words_of_the_template(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for _ in range(2):  # the second time from the file of answers
        predicted("base", "shown.txt", "早上好\n")
        out = capsys.readouterr().out
        assert "早上好" in out and "im_start" not in out and "assistant" not in out


def test_an_answer_says_whether_the_model_ended_it_or_the_limit_cut_it(folder, monkeypatch, capsys, caplog):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    caplog.set_level(logging.INFO, logger="workbench")
    Path("ends.txt").write_text("早上好\n", encoding="utf-8")
    asked = (*OPTIONS, "predict.input=ends.txt", "predict.output=ends.csv", "force=true")
    for limit, reason, said in ((LENGTH, "stop", 0), (2, "length", 1)):
        for again in ((), ("force=false",)):  # the second time from the file of answers
            caplog.clear()
            run_recipe("predict", *asked, f"predict.max_new_tokens={limit}", *again)
            assert capsys.readouterr().out.count("(cut)") == said
            assert caplog.text.count("1 of them cut at predict.max_new_tokens=2") == said
        with Path("ends.csv").open(encoding="utf-8-sig", newline="") as file:
            [row] = csv.DictReader(file)
        assert row["finish_reason"] == reason and (row["answer"] == ANSWER) is (reason == "stop")


def test_each_line_of_a_pipe_is_a_turn_and_a_text_between_triple_quotes_is_one_turn(talk):
    out = talk("早上好", '"""a', '/b"""', "/system Be brief.", "早上好")
    turns = [{"role": "user", "content": "早上好"}, {"role": "assistant", "content": ANSWER}]
    turns.append({"role": "user", "content": "a\n/b"})
    (second,) = predicted("adapter", "two.jsonl", json.dumps({"messages": turns}))
    turns += [{"role": "assistant", "content": second}, {"role": "user", "content": "早上好"}]
    turns.insert(0, {"role": "system", "content": "Be brief."})
    (third,) = predicted("adapter", "three.jsonl", json.dumps({"messages": turns}))
    assert out == as_shown(ANSWER) + as_shown(second) + as_shown(third)


def test_both_models_answer_side_by_side_each_with_its_own_replies_before(talk):
    out = talk("/both", "早上好", options=["chat.models=[merged]"])
    assert [line.split(":")[0] for line in out.splitlines() if line.startswith(("base:", "adapter:"))] == [
        "base",
        "adapter",
    ]
    assert f"adapter: {ANSWER}\n" in out


def test_a_growing_reply_shows_whole_characters_only(session):
    heard: list[str] = []
    reply = session.ask("早上好", "adapter", heard.append)
    assert reply.text == ANSWER and not reply.note
    assert len(heard) > len(ANSWER) and {"", "饕", "饕餮", "饕餮很", "饕餮很好", ANSWER} <= set(heard)
    assert all(ANSWER.startswith(text) for text in heard)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\ufffd\ufffd", "a"),
        ("a \ufffd", "a"),
        ("a<", "a"),
        ("a</", "a"),
        ("a\ufffdb", "a\ufffdb"),
        ("a", "a"),
    ],
)
def test_what_a_later_token_may_change_is_not_shown_yet(text, shown):
    assert stable_prefix(text, ["</s>"]) == shown


def interrupt_after(count: int):
    heard: list[str] = []

    def on_text(text: str) -> None:
        heard.append(text)
        if len(heard) == count:
            raise KeyboardInterrupt

    return on_text


def test_a_stopped_reply_stays_in_the_conversation_and_is_saved_untrained(session, tmp_path):
    session.add("早上好", {"adapter": session.ask("早上好", "adapter", interrupt_after(8))})
    stopped = session.exchanges[0].reply("adapter")
    assert stopped.note == "stopped" and ANSWER.startswith(stopped.text) and 0 < len(stopped.text) < 4
    session.exchanges.clear()
    session.add("再说", {"adapter": stopped})
    session.add("早上好", {"adapter": session.ask("早上好", "adapter", str)})
    session.system = "Be brief."
    file = tmp_path / "saved.jsonl"
    assert session.save(file) == 1
    data = DataConfig(path=str(file))
    tokenizer = load_tokenizer(ModelConfig(path="base"))
    example = encode(load_rows(data, 0), Encoding(tokenizer, data, Task.causal_lm)).dataset[0]
    answer = [token for token in example["labels"] if token >= 0]
    assert tokenizer.decode(answer, skip_special_tokens=True) == session.exchanges[1].reply("adapter").text
    session.save(file)
    with pytest.raises(ConfigError, match="/save: 'run/config.yaml' exists"):
        session.save(Path("run/config.yaml"))


def test_a_conversation_without_room_for_an_answer_is_refused(session):
    with pytest.raises(
        DataError, match=r"leave no room for a reply in the model's context .* \(/clear starts"
    ):
        session.ask("好" * 5000, "adapter", str)


def test_control_characters_are_shown_as_pictures(capsys):
    with show_lines(["adapter"]) as show:
        show("adapter", "\x1b[2Jred\r[bold]x[/bold]\n", is_last=True)
    assert capsys.readouterr().out == "␛[2Jred␍[bold]x[/bold]\n\n"


def test_a_model_without_a_chat_template_is_refused_unless_its_lines_are_bare_prompts(talk):
    said = predicted(
        "base", "bare.jsonl", '{"prompt": "Count: 1 2 3"}', "run_dir=other", "data.template=auto"
    )
    bare = ("data.template=auto", "run_dir=null", f"model.path={BASE}")
    with pytest.raises(ConfigError, match=r"has no chat template \(data.template=.*chat.turns=false"):
        talk("Count: 1 2 3", options=bare)
    assert not Path("runs").exists(), "a chat leaves nothing"
    plain = ("data.template=auto", "chat.turns=false", "chat.models=[base]")
    twice = talk("Count: 1 2 3", "Count: 1 2 3", options=plain)
    assert twice == 2 * as_shown(said[0])


def test_what_can_not_be_meant_is_said(talk):
    with pytest.raises(ConfigError, match="/sytem hello: unknown command"):
        talk("/sytem hello")
    with pytest.raises(
        MissingStepError, match=r"the run has no trained model \(it has: adapter, merged, base\)"
    ):
        talk("/model trained")
    with pytest.raises(ConfigError, match="chat.models: unknown model 'x'"):
        ChatConfig(models=["x"])
    with pytest.raises(DataError, match="stdin: not UTF-8"):
        read_request(lambda prompt: "你好".encode("gbk").decode("utf-8"))


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (3, 1.0), (0, 0.6), (4, 0.5), (1, 1.0), (0, 1e-9)])
def test_tokens_are_drawn_from_those_that_transformers_draws_from(top_k, top_p):
    logits = torch.randn(5, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ids = torch.zeros(5, 1, dtype=torch.long)
    expected = TopKLogitsWarper(top_k)(ids, logits) if top_k else logits
    expected = TopPLogitsWarper(top_p)(ids, expected) if top_p < 1 else expected
    weights = nucleus(logits.softmax(-1), GenerationConfig(top_k=top_k, top_p=top_p))
    torch.testing.assert_close(weights / weights.sum(-1, keepdim=True), expected.softmax(-1))


def test_a_seed_repeats_what_is_drawn_and_another_draws_otherwise(talk):
    options = ("chat.temperature=2", "chat.models=[base]", "chat.seed=5")
    first = talk("小", options=options)
    assert (
        talk("/seed 7", "小", options=options) != first == talk("/seed 7", "/seed 5", "小", options=options)
    )
