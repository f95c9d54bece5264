from pathlib import Path

import pytest

from workbench.errors import ConfigError, WorkbenchError

TOY = (
    "model.path=${toy:base}",
    "data.path=${toy:data/instruct.jsonl}",
    "data.limit=40",
    "data.max_length=64",
)


def test_a_plan_names_the_parts_and_leaves_no_folder(run, caplog):
    run("plan", *TOY, "train.num_epochs=2")
    said = caplog.text
    for part in ("GiB at the peak (process", "activations", "on cpu", "plan: 20 steps, ", "about "):
        assert part in said
    assert "does not fit" not in said
    assert not Path("runs").exists()


def test_what_does_not_fit_is_said_with_what_to_change(run, caplog):
    run("plan", *TOY, "plan.memory_gib=0.001")
    ways = [record.message for record in caplog.records if "plan:   " in record.message]
    assert "train.gradient_checkpointing=true" in ways[0]
    assert "train.per_device_batch_size=2 and 2 x train.gradient_accumulation_steps" in ways[1]
    assert "quantization=nf4" in ways[-1]


def test_a_named_gpu_is_planned_for_without_having_it(run, caplog):
    run("plan", *TOY, "plan.gpu=l4", "quantization=nf4")
    assert "of 22.4 on l4" in caplog.text
    assert "about " in caplog.text


def test_every_training_begins_with_its_plan(run, caplog):
    run("quickstart", "steps=[train]", "train.max_steps=2", "data.limit=40")
    messages = [record.message for record in caplog.records]
    planned = next(number for number, said in enumerate(messages) if said.startswith("plan:"))
    loaded = next(number for number, said in enumerate(messages) if "parameters" in said)
    assert planned < loaded


@pytest.mark.parametrize(
    ("override", "words"),
    [("plan.memory_gib=0", "plan.memory_gib"), ("data.path=nothing.jsonl", "nothing.jsonl")],
)
def test_a_plan_finds_the_mistakes_that_the_training_would(run, override, words):
    with pytest.raises((ConfigError, WorkbenchError), match=words):
        run("plan", *TOY, override)
