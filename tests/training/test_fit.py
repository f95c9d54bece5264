import json
import logging
import math
import resource
import signal
from contextlib import nullcontext

import pytest
import torch
from tiny_training import causal_rows, class_rows, load, load_with_lora

from workbench import progress
from workbench.config.train import Keep, Scheduler, TrainConfig
from workbench.data.collate import Collator
from workbench.errors import ConfigError, TrainingError
from workbench.models.adapters import attach
from workbench.training import build_trainer
from workbench.training.callbacks import StepCallback
from workbench.training.fit import fit
from workbench.training.reporting.journal import journal_lines

TASKS = {"causal_lm": causal_rows, "sequence_classification": class_rows}


def settings(**changes):
    return TrainConfig(
        **{
            "num_epochs": 1.0,
            "per_device_batch_size": 4,
            "learning_rate": 1e-2,
            "logging_steps": 2,
            "save_steps": 4,
            **changes,
        }
    )


def weights(model):
    """The trained weights, copied."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_training_lowers_the_loss_and_counts_what_it_saw(tmp_path, base, tokenizer):
    rows = causal_rows()
    report = fit(
        load_with_lora(base), tokenizer, rows, None, settings(num_epochs=20, logging_steps=6), tmp_path, 7
    )
    assert report.steps == 120
    assert report.epochs == 20
    assert report.loss_last < report.loss_first - 0.1
    assert report.tokens == 20 * sum(rows["length"])
    assert report.trained_tokens == 20 * sum(
        sum(label != -100 for label in labels) for labels in rows["labels"]
    )
    assert report.tokens_per_second == pytest.approx(report.tokens / report.seconds)
    assert report.resumed_from is None
    assert report.validation_loss is None
    assert report.peak_bytes > 2**20


def test_the_folder_holds_checkpoints_and_the_journal_and_nothing_else(tmp_path, base, tokenizer, capfd):
    fit(load_with_lora(base), tokenizer, causal_rows(), None, settings(report_to=[]), tmp_path, 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "loss.svg", "train.jsonl"]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "checkpoint-4",
        "checkpoint-6",
    ]
    assert capfd.readouterr() == ("", "")


def test_tensorboard_reads_the_losses_of_the_journal(tmp_path, base, tokenizer):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fit(load_with_lora(base), tokenizer, causal_rows(), None, settings(), tmp_path, 7)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train/loss")]
    lines = journal_lines(tmp_path / "train.jsonl")
    assert shown == [(line["step"], pytest.approx(line["loss"])) for line in lines]


def test_a_training_without_tensorboard_says_what_to_install(tmp_path, base, tokenizer, caplog, monkeypatch):
    monkeypatch.setattr(build_trainer, "is_tensorboard_available", lambda: False)
    with caplog.at_level(logging.INFO, "workbench"):
        fit(load_with_lora(base), tokenizer, causal_rows(), None, settings(max_steps=1), tmp_path, 7)
    assert "pip install tensorboard" in caplog.text
    assert not (tmp_path / "tensorboard").exists()


def test_the_journal_has_a_line_a_logged_step_and_one_for_the_last(tmp_path, base, tokenizer):
    fit(load_with_lora(base), tokenizer, causal_rows(), None, settings(logging_steps=4), tmp_path, 7)
    lines = journal_lines(tmp_path / "train.jsonl")
    assert [line["step"] for line in lines] == [4, 6]
    assert set(lines[0]) >= {"epoch", "loss", "learning_rate", "grad_norm", "tokens", "seconds"}
    assert lines[0]["learning_rate"] > lines[1]["learning_rate"] > 0


@pytest.mark.parametrize("architecture", ["auto", "native"])
@pytest.mark.parametrize("task", TASKS)
def test_accumulated_micro_batches_train_like_one_batch(tmp_path, base, tokenizer, task, architecture):
    found = []
    for size, accumulated in ((4, 1), (2, 2), (1, 4)):
        model = load_with_lora(base, task, "none", architecture, dropout=0.0)
        train = settings(
            per_device_batch_size=size,
            gradient_accumulation_steps=accumulated,
            max_grad_norm=0.0,
            max_steps=3,
        )
        report = fit(model, tokenizer, TASKS[task](), None, train, tmp_path / str(size), 7)
        found.append((weights(model), report.loss_first))
    for others, loss in found[1:]:
        assert loss == pytest.approx(found[0][1], rel=1e-5)
        for name, weight in found[0][0].items():
            # Adam divides by the gradient's size, which makes much of the last bit of a tiny gradient.
            torch.testing.assert_close(others[name], weight, rtol=1e-3, atol=1e-4)


def test_validation_changes_nothing_in_what_is_trained(tmp_path, base, tokenizer):
    found = []
    for name, validation in (("without", None), ("with", causal_rows(5))):
        model = load_with_lora(base)
        fit(model, tokenizer, causal_rows(), validation, settings(save_steps=2), tmp_path / name, 7)
        found.append(weights(model))
    assert same(*found)


@pytest.mark.parametrize("task", TASKS)
def test_the_validation_loss_counts_every_trained_token_alike(tmp_path, base, tokenizer, task):
    model, rows = load_with_lora(base, task), TASKS[task](7)
    report = fit(model, tokenizer, TASKS[task](), rows, settings(), tmp_path, 7)
    total, count = 0.0, 0
    for row in rows:
        batch = Collator(0)([row])
        labels = batch.pop("labels")[0]
        del batch["row"]
        with torch.no_grad():
            logits = model(**batch).logits[0].float()
        if task == "causal_lm":
            logits, labels = logits[:-1], labels[1:]
        losses = torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), reduction="none"
        )
        total, count = total + losses.sum().item(), count + int((labels != -100).sum())
    assert report.validation_loss == pytest.approx(total / count, rel=1e-5)


def test_the_order_of_rows_depends_on_the_seed_and_on_nothing_else(tmp_path, base, tokenizer):
    found = {}
    for name, seed, changes in (
        ("one", 7, {}),
        ("logged otherwise", 7, {"logging_steps": 3, "save_steps": 5}),
        ("other seed", 8, {}),
    ):
        torch.manual_seed(len(name))
        model = load_with_lora(base, dropout=0.3)
        fit(model, tokenizer, causal_rows(), None, settings(**changes), tmp_path / name, seed)
        found[name] = weights(model)
    assert same(found["one"], found["logged otherwise"])
    assert not same(found["one"], found["other seed"])


@pytest.mark.parametrize("lora", [True, False])
def test_a_finished_training_is_loaded_and_not_repeated(tmp_path, base, tokenizer, lora):
    make = load_with_lora if lora else load
    first = make(base)
    fit(first, tokenizer, causal_rows(), None, settings(num_epochs=1.5), tmp_path, 7)
    journal = (tmp_path / "train.jsonl").read_text()
    second = make(base)
    assert not same(weights(first), weights(second))
    report = fit(second, tokenizer, causal_rows(), None, settings(num_epochs=1.5), tmp_path, 7)
    assert same(weights(first), weights(second))
    assert report.resumed_from == report.steps == 9
    assert (tmp_path / "train.jsonl").read_text() == journal


def test_checkpoints_of_other_rows_or_settings_are_neither_gone_on_from_nor_lost(tmp_path, base, tokenizer):
    fit(load_with_lora(base), tokenizer, causal_rows(), None, settings(), tmp_path, 7)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for rows, train, seed, inputs in (
        (causal_rows(20), settings(), 7, ""),
        (causal_rows(), settings(learning_rate=1e-3), 7, ""),
        (causal_rows(), settings(), 8, ""),
        (causal_rows(), settings(), 7, "other base"),
    ):
        with pytest.raises(ConfigError, match="-[46]: belongs to a training with other rows, settings or nu"):
            fit(load_with_lora(base), tokenizer, rows, None, train, tmp_path, seed, inputs=inputs)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    train = settings(logging_steps=1)
    assert fit(load_with_lora(base), tokenizer, causal_rows(), None, train, tmp_path, 7).resumed_from == 6


def test_a_loss_that_is_no_number_stops_with_the_step_the_rows_and_what_is_kept(tmp_path, base, tokenizer):
    rows = causal_rows()
    model = load_with_lora(base)
    with torch.no_grad():
        model.get_input_embeddings().weight[rows[9]["input_ids"][0]] = math.nan
    poisoned = {row["where"] for row in rows if rows[9]["input_ids"][0] in row["input_ids"][:-1]}
    with pytest.raises(TrainingError) as caught:
        fit(model, tokenizer, rows, None, settings(per_device_batch_size=1, save_steps=1), tmp_path, 7)
    message = str(caught.value)
    place, step = message.split("rows ")[1].split(" ")[0], int(message.split("step ")[1].split(",")[0])
    assert place in poisoned
    assert message.startswith("train: the loss is nan at step ")
    kept = f"checkpoint-{step - 1}" if step > 1 else "nothing yet"
    assert f"(kept: {kept};" in message


def interrupt_at_step_5(monkeypatch):
    """From now on a training ends there as by Ctrl-C."""
    original = StepCallback.on_step_end

    def interrupting(self, args, state, *rest, **options):
        if state.global_step == 5:
            raise KeyboardInterrupt
        return original(self, args, state, *rest, **options)

    monkeypatch.setattr(StepCallback, "on_step_end", interrupting)


def test_an_interrupted_training_says_how_to_go_on_and_goes_on(
    tmp_path, base, tokenizer, monkeypatch, caplog
):
    through = load_with_lora(base)
    fit(through, tokenizer, causal_rows(), None, settings(save_steps=2), tmp_path / "through", 7)
    interrupt_at_step_5(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        fit(load_with_lora(base), tokenizer, causal_rows(), None, settings(save_steps=2), tmp_path / "cut", 7)
    assert "train: stopped after step 5; the same command resumes from checkpoint-4" in caplog.text
    monkeypatch.undo()
    model = load_with_lora(base)
    report = fit(model, tokenizer, causal_rows(), None, settings(save_steps=2), tmp_path / "cut", 7)
    assert report.resumed_from == 4
    assert same(weights(model), weights(through))


def test_the_model_comes_back_in_the_modes_that_it_came_in(tmp_path, base, tokenizer):
    model = load_with_lora(base)
    model.base_model.model.model.layers[0].train()
    before = {name: module.training for name, module in model.named_modules()}
    fit(model, tokenizer, causal_rows(), causal_rows(5), settings(gradient_checkpointing=True), tmp_path, 7)
    assert {name: module.training for name, module in model.named_modules()} == before
    assert model.config.use_cache
    assert not model.base_model.model.is_activation_checkpointing


def test_gradient_checkpointing_trains_the_same(tmp_path, base, tokenizer):
    found = []
    for name, checkpointing in (("off", False), ("on", True)):
        model = load_with_lora(base)
        fit(
            model,
            tokenizer,
            causal_rows(),
            None,
            settings(gradient_checkpointing=checkpointing),
            tmp_path / name,
            7,
        )
        found.append(weights(model))
    for name, weight in found[0].items():
        torch.testing.assert_close(found[1][name], weight, rtol=1e-4, atol=1e-6)


def test_rows_of_like_length_come_together_when_asked(tmp_path, base, tokenizer, monkeypatch):
    widths = []
    original = Collator.__call__
    monkeypatch.setattr(
        Collator,
        "__call__",
        lambda self, rows: widths.append({len(row["input_ids"]) for row in rows}) or original(self, rows),
    )
    fit(load_with_lora(base), tokenizer, causal_rows(96), None, settings(group_by_length=True), tmp_path, 7)
    assert sum(len(found) for found in widths) / len(widths) < 2.5


def test_without_a_terminal_progress_is_a_line_now_and_then(tmp_path, base, tokenizer, monkeypatch, caplog):
    monkeypatch.setattr(progress, "LINE_SECONDS", -1.0)
    caplog.set_level("INFO", logger="workbench")
    fit(load_with_lora(base), tokenizer, causal_rows(), None, settings(), tmp_path, 7)
    lines = [record.getMessage() for record in caplog.records if " steps, loss " in record.getMessage()]
    assert len(lines) == 6
    assert lines[-1].startswith("train: 6 of 6 steps, loss ")
    assert "tokens/s, 0:00 left" in lines[-1]


@pytest.mark.parametrize("method", ["nf4", "int8"])
@pytest.mark.parametrize("task", TASKS)
def test_a_quantized_base_is_trained_through_its_adapter_and_stays_as_it_is(
    tmp_path, base, tokenizer, task, method
):
    model = load_with_lora(base, task, method)
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    report = fit(model, tokenizer, TASKS[task](), TASKS[task](5), settings(num_epochs=8), tmp_path, 7)
    assert report.loss_last < report.loss_first
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)
    attach.check_did_something(model)


def test_lora_plus_trains_b_faster_than_a(tmp_path, base, tokenizer):
    """At a first step of Adam a weight moves by its rate, whatever the size of the gradient."""
    moved = {}
    for ratio in (1.0, 16.0):
        model = load_with_lora(base, dropout=0.0)
        before = weights(model)
        train = settings(
            max_steps=1, learning_rate=1e-3, lora_plus_ratio=ratio, lr_scheduler=Scheduler.constant
        )
        fit(model, tokenizer, causal_rows(), None, train, tmp_path / str(ratio), 7)
        moved[ratio] = {
            half: max(
                (weights(model)[name] - before[name]).abs().max().item() for name in before if half in name
            )
            for half in ("lora_A", "lora_B")
        }
    assert moved[1.0]["lora_B"] == pytest.approx(1e-3, rel=0.01)
    assert moved[16.0]["lora_B"] == pytest.approx(16e-3, rel=0.01)
    assert moved[16.0]["lora_A"] == moved[1.0]["lora_A"] == 0.0


@pytest.mark.parametrize("steps", [1, 2])
def test_a_share_of_warmup_leaves_steps_with_a_rate(tmp_path, base, tokenizer, steps):
    model = load_with_lora(base)
    before = weights(model)
    train = settings(max_steps=steps, warmup_steps=0.03)
    fit(model, tokenizer, causal_rows(), None, train, tmp_path, 7)
    assert not same(before, weights(model))


def test_a_warmup_as_long_as_the_training_is_said(tmp_path, base, tokenizer, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    train = settings(max_steps=3, warmup_steps=3)
    fit(load_with_lora(base), tokenizer, causal_rows(), None, train, tmp_path, 7)
    assert "train.warmup_steps: 3 of 3 steps, so the rate never reaches train.learning_rate" in caplog.text


def test_lora_plus_needs_an_adapter(tmp_path, base, tokenizer):
    with pytest.raises(ConfigError, match="train.lora_plus_ratio: the model has no adapter"):
        fit(load(base), tokenizer, causal_rows(), None, settings(lora_plus_ratio=4.0), tmp_path, 7)


OVERFITTING = {
    "num_epochs": 48.0,
    "learning_rate": 0.05,
    "save_steps": 6,
    "lr_scheduler": Scheduler.constant,
    "max_grad_norm": 0.0,
}
"""Four rows of six words and a high rate: the validation loss rises after the first checkpoint."""


def in_six_words(row):
    """The row with tokens 2 to 7 only."""
    fewer = {key: [id if id < 0 else 2 + id % 6 for id in row[key]] for key in ("input_ids", "labels")}
    return {**row, **fewer}


def overfitted(tmp_path, base, tokenizer, **changes):
    model, rows = load_with_lora(base), causal_rows().map(in_six_words)
    train = settings(**OVERFITTING, **changes)
    report = fit(model, tokenizer, rows.select(range(4)), rows.select(range(16, 24)), train, tmp_path, 7)
    losses = {
        line["step"]: line["validation_loss"]
        for line in journal_lines(tmp_path / "train.jsonl")
        if "validation_loss" in line
    }
    return model, report, losses


def test_the_best_checkpoint_is_kept_and_loaded_when_asked(tmp_path, base, tokenizer):
    model, report, losses = overfitted(tmp_path / "best", base, tokenizer, keep=Keep.best)
    best = min(losses, key=losses.get)
    assert best < report.steps
    assert report.kept_step == best
    assert report.validation_loss == losses[best]
    checkpoints = tmp_path / "best" / "checkpoints"
    kept = {int(path.name.removeprefix("checkpoint-")) for path in checkpoints.iterdir()}
    assert kept == {best, 42, 48}
    last, report, _ = overfitted(tmp_path / "last", base, tokenizer)
    assert report.kept_step == report.steps
    assert len(list((tmp_path / "last" / "checkpoints").iterdir())) == 2
    assert not same(weights(model), weights(last))
    (checkpoints / "checkpoint-48" / "manifest.json").unlink()
    again, report, _ = overfitted(tmp_path / "best", base, tokenizer, keep=Keep.best)
    assert same(weights(model), weights(again))
    assert (report.kept_step, report.resumed_from) == (best, 42)


@pytest.mark.parametrize(
    ("how", "refused"), [({}, False), ({"patience": 9}, True), ({"keep": Keep.best}, True)]
)
def test_when_is_saved_belongs_to_a_training_that_its_checkpoints_decide(
    tmp_path, base, tokenizer, how, refused
):
    rows = causal_rows(12), causal_rows(5)
    fit(load_with_lora(base), tokenizer, *rows, settings(**how), tmp_path, 7)
    with pytest.raises(ConfigError) if refused else nullcontext():
        fit(load_with_lora(base), tokenizer, *rows, settings(**how, save_steps=2), tmp_path, 7)


def test_a_training_that_patience_ends_before_its_first_line_has_a_line(tmp_path, base, tokenizer):
    scores = iter([0.2, 0.1])
    train = settings(num_epochs=9, save_steps=2, logging_steps=50, patience=1)
    how = {"score": lambda model: {"score": next(scores)}}
    report = fit(load_with_lora(base), tokenizer, causal_rows(), None, train, tmp_path, 7, **how)
    assert report.steps == 4
    assert 0 < report.loss_first == report.loss_last < 20
    assert (tmp_path / "loss.svg").is_file()


def test_how_often_is_saved_and_logged_may_change_in_the_middle(tmp_path, base, tokenizer, monkeypatch):
    interrupt_at_step_5(monkeypatch)
    before = settings(num_epochs=2, save_steps=4, logging_steps=4)
    with pytest.raises(KeyboardInterrupt):
        fit(load_with_lora(base), tokenizer, causal_rows(), None, before, tmp_path, 7)
    monkeypatch.undo()
    after = settings(num_epochs=2, save_steps=2, logging_steps=1, save_total_limit=9)
    fit(load_with_lora(base), tokenizer, causal_rows(), None, after, tmp_path, 7)
    steps = sorted(int(path.name.split("-")[1]) for path in (tmp_path / "checkpoints").iterdir())
    assert steps == [4, 6, 8, 10, 12]
    assert [line["step"] for line in journal_lines(tmp_path / "train.jsonl")] == [4, *range(5, 13)]


@pytest.mark.parametrize("seed", [18_446_744, 2**32 - 1])
def test_every_seed_can_be_trained_with(tmp_path, base, tokenizer, seed):
    report = fit(load_with_lora(base), tokenizer, causal_rows(), None, settings(), tmp_path, seed)
    assert report.steps == 6


def test_patience_ends_a_training_that_gets_no_better_and_a_repeated_call_leaves_it_so(
    tmp_path, base, tokenizer
):
    model, report, losses = overfitted(tmp_path, base, tokenizer, patience=2)
    steps = list(losses)
    best = min(losses, key=losses.get)
    assert report.steps == steps[steps.index(best) + 2] < 48
    again, repeated, _ = overfitted(tmp_path, base, tokenizer, patience=2)
    assert repeated.resumed_from == repeated.steps == report.steps
    assert same(weights(model), weights(again))


def test_a_score_instead_of_a_loss_tells_the_best_checkpoint(tmp_path, base, tokenizer):
    scores = iter([0.1, 0.9, 0.9, 0.5])
    seen = []

    def score(model):
        seen.append(model.training)
        torch.rand(3)
        return {"score": (found := next(scores)), "score/quiz": found}

    train = settings(num_epochs=2, save_steps=3, keep=Keep.best)
    model = load_with_lora(base)
    report = fit(model, tokenizer, causal_rows(), None, train, tmp_path / "a", 7, score=score)
    assert (report.kept_step, report.score, report.validation_loss) == (6, 0.9, None)
    assert report.scores == {"quiz": 0.9}
    assert seen == [False] * 4
    plain = load_with_lora(base)
    fit(plain, tokenizer, causal_rows(), None, settings(num_epochs=2, save_steps=6), tmp_path / "b", 7)
    first = tmp_path / "b" / "checkpoints" / "checkpoint-6" / "adapter_model.safetensors"
    assert (
        first.read_bytes()
        == (tmp_path / "a" / "checkpoints" / "checkpoint-6" / "adapter_model.safetensors").read_bytes()
    )


@pytest.mark.parametrize(("key", "value"), [("keep", Keep.best), ("patience", 2)])
def test_what_needs_validation_says_so(tmp_path, base, tokenizer, key, value):
    with pytest.raises(ConfigError, match=f"train.{key}: there are no validation rows"):
        fit(load_with_lora(base), tokenizer, causal_rows(), None, settings(**{key: value}), tmp_path, 7)


def test_a_loss_that_explodes_ends_the_training(tmp_path, base, tokenizer):
    train = settings(num_epochs=50, learning_rate=9.0, lr_scheduler=Scheduler.constant, max_grad_norm=0.0)
    with pytest.raises(
        TrainingError,
        match=r"exploded, \d+\.\d at step \d+, high for 10 steps, rows (a.jsonl:\d+,? ){4}\(kept: c",
    ):
        fit(load(base), tokenizer, causal_rows(), None, train, tmp_path, 7)


@pytest.mark.parametrize("value", [math.inf, math.nan, 5e28, -1e5])
def test_weights_that_are_no_numbers_or_absurd_are_never_sealed(
    tmp_path, base, tokenizer, monkeypatch, value
):
    def poisoned(self, args, state, control, **said):
        if state.global_step == 4:
            next(p for p in said["model"].parameters() if p.requires_grad).data.fill_(value)

    monkeypatch.setattr(StepCallback, "on_log", poisoned, raising=False)
    with pytest.raises(
        TrainingError, match=r"lora_A.* holds a weight of \S+ at step 4 \(.*\(kept: checkpoint-2;"
    ):
        fit(load_with_lora(base), tokenizer, causal_rows(), None, settings(save_steps=2), tmp_path, 7)


def test_a_loss_worse_than_blind_guessing_at_the_last_step_is_refused(tmp_path, base, tokenizer):
    train = settings(learning_rate=9.0, max_steps=4, lr_scheduler=Scheduler.constant, max_grad_norm=0.0)
    with pytest.raises(TrainingError, match=r"exploded, \d+\.\d at step 4, high for \d steps"):
        fit(load(base), tokenizer, causal_rows(), None, train, tmp_path, 7)


@pytest.mark.parametrize("torn", ["a checkpoint", "a line of the journal"])
def test_a_full_disk_costs_no_more_than_the_newest_checkpoint(tmp_path, base, tokenizer, monkeypatch, torn):
    """A limit on the size of files stands for the full disk; both end a write in the middle."""
    journal = tmp_path / "full" / "train.jsonl"
    through = load_with_lora(base)
    fit(through, tokenizer, causal_rows(), None, settings(save_steps=2), tmp_path / "through", 7)
    original = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def filled(self, args, state, control, **said):
        if state.global_step == 4:
            room = 4096 if torn == "a checkpoint" else journal.stat().st_size + 20
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, original[1]))

    monkeypatch.setattr(StepCallback, "on_log", filled, raising=False)
    try:
        with pytest.raises(TrainingError) as caught:
            fit(
                load_with_lora(base),
                tokenizer,
                causal_rows(),
                None,
                settings(save_steps=2),
                tmp_path / "full",
                7,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, original)
        signal.signal(signal.SIGXFSZ, ignored)
    place = "checkpoint-4" if torn == "a checkpoint" else "full"
    assert f"{place}: can't be written, " in str(caught.value)
    assert journal.read_text().endswith("\n") is (torn == "a checkpoint")
    assert "(kept: checkpoint-2; free space and repeat the command)" in str(caught.value)
    assert not (tmp_path / "full" / "checkpoints" / "checkpoint-4").exists()
    monkeypatch.undo()
    model = load_with_lora(base)
    report = fit(model, tokenizer, causal_rows(), None, settings(save_steps=2), tmp_path / "full", 7)
    assert report.resumed_from == 2
    assert same(weights(model), weights(through))
    assert [json.loads(line)["step"] for line in journal.read_text().splitlines()] == [2, 4, 6]
