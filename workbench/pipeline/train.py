"""The train step."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from workbench.config import Config
from workbench.config.adapter import ALL_LINEAR
from workbench.config.model import Dtype
from workbench.config.names import ADAPTER, BASE, TRAINED
from workbench.contexts import quiet_transformers
from workbench.data.account import Account
from workbench.data.chat.saved_template import end_ids, templates_of
from workbench.data.report import data_report
from workbench.distributed import is_rank0
from workbench.errors import ConfigError
from workbench.evaluation import engine
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import lower_is_better
from workbench.evaluation.result_checksums import ADAPTER_DIGEST
from workbench.models.adapters import adapter_config, attach
from workbench.models.adapters.targets import check_saved, check_targets
from workbench.models.checkpoints.generation_config import end_at
from workbench.models.loading import load_model, outline
from workbench.models.tokenizers.load_tokenizer import take_template, token_ids
from workbench.pipeline import stop_rate
from workbench.pipeline.held_out.rows_file import write_rows
from workbench.pipeline.plan import foresee
from workbench.pipeline.run_results import scored_from
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import autocast_dtype, shown, skipped, trained_from, trains_whole_model
from workbench.pipeline.stop_rate import counted, sample
from workbench.pipeline.training_rows import (
    Examples,
    encoded_examples,
    limits_of_comparison,
    trained_on_chats,
)
from workbench.run_dir import fingerprint, new_folder, write_json
from workbench.run_record import RunRecord
from workbench.training.fit import fit
from workbench.training.memory_release import keep_few_kernels
from workbench.training.resume import delete_checkpoints
from workbench.training.trainer import Score

log = logging.getLogger("workbench")


def train(run: Run) -> None:
    """Train the adapter, or with `adapter=none` the model itself, on the rows of `data.path`."""
    config, run_dir = run.config, run.run_dir
    output = run_dir.model if trains_whole_model(config) else run_dir.adapter
    scored = scored_on(run)
    inputs, record = fingerprint(made_from(config, scored)), RunRecord(run_dir.run_json)
    if skipped("train", record.is_finished("train", inputs, output), config):
        return
    if config.force and is_rank0():
        delete_checkpoints(run_dir.checkpoints)
    examples = encoded_examples(run)
    tokenizer, held_out = examples.tokenizer, shown_examples(run, examples)
    asked = sample(run, examples.hold_out.held_out, examples.rows, tokenizer) if is_rank0() else None
    take_trained_template(tokenizer, examples.training.account)
    keep_few_kernels()  # `foresee` multiplies, to know this machine's rate
    foresee(run, examples)
    set_seed(config.seed)
    model = loaded_to_train(run, examples.labels)
    answers: dict[str, dict[str, int]] = {}
    if asked and not config.model.init:
        answers[BASE] = counted(model, tokenizer, asked, config.evaluate)
    model = with_adapter(run, model, examples)
    report = fit(
        model,
        tokenizer,
        examples.training.dataset,
        examples.validation.dataset if examples.validation else None,
        config.train,
        run_dir.path,
        config.seed,
        inputs=inputs,
        score=scorer(config, tokenizer, scored) if scored else None,
        autocast=autocast_dtype(run),
    )
    if not is_rank0():
        return
    save(model, examples, config, output, autocast_dtype(run))
    if asked:
        name = TRAINED if trains_whole_model(config) else ADAPTER
        answers[name] = counted(model, tokenizer, asked, config.evaluate)
    about = {
        "schema_version": 1,
        "labels": examples.labels,
        "data": examples.training.account.as_json(),
        "held_out": held_out,
        "is_chat": trained_on_chats(config, examples.rows),
        "answers": stop_rate.account(asked, answers) if asked else None,
    }
    write_json(run_dir.train_json, about)
    files = [run_dir.train_json, run_dir.train_jsonl, run_dir.loss_svg, run_dir.held_out_jsonl]
    made = [file for file in files if file.exists()]
    digests = {} if trains_whole_model(config) else {ADAPTER_DIGEST: adapter_config.fingerprint(output)}
    record.finish("train", inputs, output, asdict(report), files=made, digests=digests)


def shown_examples(run: Run, examples: Examples) -> dict[str, Any]:
    """Say what is trained on, and write the held-out rows; returns what train.json says of these."""
    config, training, validation = run.config, examples.training, examples.validation
    log.info("data: %s", training.account)
    if config.data.validation_fraction != 0 and str(examples.hold_out):
        log.info("data: %s", examples.hold_out)
    for line in limits_of_comparison(config.data, bool(config.benchmarks)) if validation is not None else ():
        log.info("%s", line)
    if validation is not None and (validation.account.dropped or validation.account.num_cut):
        log.info("data: held out: %s", validation.account)
    if not is_rank0():
        return {}
    held_out = write_rows(examples.hold_out, run.run_dir)
    Console(soft_wrap=True).print(data_report(training, examples.rows, examples.tokenizer))
    return held_out


def loaded_to_train(run: Run, labels: Sequence[str]) -> Any:
    """The model to be trained or to put an adapter on, with the names of a classifier's labels."""
    config = run.config
    held = replace(config.model, dtype=Dtype.float32) if autocast_dtype(run) else config.model
    model = load_model(held, config.quantization, len(labels) or None)
    if labels:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {name: index for index, name in enumerate(labels)}
    return model


def with_adapter(run: Run, model: Any, examples: Examples) -> Any:
    """The model with the run's adapter, if there is one; its answers end as the training rows' do."""
    config, tokenizer = run.config, examples.tokenizer
    if not trains_whole_model(config):
        ids = token_ids(tokenizer, config.adapter.trainable_tokens, "adapter.trainable_tokens")
        model = attach.attach(model, config.adapter, config.seed, ids)
    base = model if trains_whole_model(config) else attach.base_model(model)
    end_at(base, end_ids(tokenizer, examples.training.account.forms))  # also where it is scored on the way
    return model


def save(model: Any, examples: Examples, config: Config, output: Path, autocast: torch.dtype | None) -> None:
    """Write the trained model or adapter."""
    tokenizer = examples.tokenizer
    if not trains_whole_model(config):
        attach.check_did_something(model)
        attach.save(model, output, shown(config.model.path), tokenizer)
        return
    model.to(autocast or model.dtype)
    with new_folder(output) as temporary, quiet_transformers():
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def take_trained_template(tokenizer: PreTrainedTokenizerBase, account: Account) -> None:
    """Give the tokenizer, which is saved with the model, the chat template that the rows were written by."""
    templates = templates_of(account.forms)
    take_template(tokenizer, next(iter(templates), None))
    if len(templates) > 1:
        log.warning("data.sources: written by %d templates, of which the first is saved", len(templates))


def check_adapter(run: Run) -> None:
    """Find a mistake in the adapter section, without the model's weights.

    Raises:
        WorkbenchError: no adapter at `adapter.path`, or no such layer or token in the model.
    """
    config, adapter = run.config, run.config.adapter
    if adapter.path is not None:
        adapter_config.read_config(adapter.path)
    elif not trains_whole_model(config):
        token_ids(run.tokenizer, adapter.trainable_tokens, "adapter.trainable_tokens")
        if adapter.target_modules != [ALL_LINEAR] or adapter.modules_to_save or adapter.rank_pattern:
            empty = outline(config.model)
            check_targets(empty, adapter)
            check_saved(empty, adapter, config.quantization)


def scored_on(run: Run) -> dict[str, PreparedBenchmark]:
    """The benchmarks of `train.score_on`, ready to be asked; empty: there are none.

    Raises:
        WorkbenchError: one is none of this run's, or can't be read, or their scores have no mean.
    """
    config, names = run.config, run.config.train.score_on or []
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"train.score_on: {twice[0]!r} stands twice, and would count twice (once)")
    for name in names:
        if name not in config.benchmarks:
            known = ", ".join(config.benchmarks) or "none"
            raise ConfigError(f"train.score_on: {name!r} is no benchmark of this run (benchmark={known})")
    scored = run.benchmarks(names)
    check_mean({name: each.interviewer.main_metric(each) for name, each in scored.items()})
    return scored


def check_mean(metrics: Mapping[str, str]) -> None:
    """Refuse benchmarks, named with their metrics, whose mean score would tell no better model.

    Raises:
        ConfigError: a metric of which less is better stands beside another one.
    """
    first = next(iter(metrics), "")
    for name, metric in metrics.items():
        if metric != metrics[first] and (lower_is_better(metric) or lower_is_better(metrics[first])):
            raise ConfigError(
                f"train.score_on: {first!r} ({metrics[first]}) and {name!r} ({metric}) have no mean that "
                "would tell the better model (choose such where more is better, or of one metric)"
            )


def made_from(config: Config, scored: Mapping[str, PreparedBenchmark]) -> dict[str, Any]:
    """What decides the trained weights, the items included by which the best of them are told."""
    chosen_by = [scored_from({}, each, config) for each in scored.values()] if config.train.chooses else []
    return trained_from(config) | ({"score_on": chosen_by} if chosen_by else {})


def scorer(
    config: Config, tokenizer: PreTrainedTokenizerBase, scored: Mapping[str, PreparedBenchmark]
) -> Score:
    """What gives a model its scores on the benchmarks of `train.score_on`, and their mean.

    Of a perplexity and the like that is the negative, so that the higher score is the better one.
    """

    def score(model: PreTrainedModel | PeftModel) -> dict[str, float]:
        base = attach.base_model(model) if isinstance(model, PeftModel) else model
        found = engine.evaluate(base, tokenizer, scored, config.evaluate, model_name="training")
        main = {each.benchmark: each for each in reversed(found.scores)}  # of each the first metric
        check_mean({name: main[name].metric for name in scored})  # a harness names it only now
        mean = math.fsum(main[name].value for name in scored) / len(scored)
        sign = -1 if lower_is_better(main[next(iter(scored))].metric) else 1
        return {"score": sign * mean, **{f"score/{name}": main[name].value for name in scored}}

    return score
