"""The train step."""

import logging
import shutil
from dataclasses import asdict
from typing import Any

from peft import PeftModel
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from workbench.config import Config
from workbench.data.report import data_report
from workbench.evaluation import engine
from workbench.evaluation.benchmark import check_benchmarks
from workbench.models import adapters
from workbench.models.loading import load_model
from workbench.models.quiet import quiet_transformers
from workbench.models.tokenizer import token_ids
from workbench.pipeline.examples import encoded_examples
from workbench.pipeline.inputs import shown, skipped, trained_from, trains_whole_model
from workbench.pipeline.planning import foresee
from workbench.ranks import is_first
from workbench.run_dir import RunDir, RunRecord, fingerprint, new_folder, write_json
from workbench.training.fit import fit
from workbench.training.trainer import Score

log = logging.getLogger("workbench")


def train(config: Config, run_dir: RunDir) -> None:
    """Train the adapter, or with `adapter=none` the model itself, on the rows of `data.path`."""
    output = run_dir.model if trains_whole_model(config) else run_dir.adapter
    inputs, record = fingerprint(trained_from(config)), RunRecord(run_dir.run_json)
    if skipped("train", record.is_finished("train", inputs, output), config):
        return
    if config.force and is_first():
        shutil.rmtree(run_dir.checkpoints, ignore_errors=True)
    examples = encoded_examples(config, run_dir)
    training, validation, labels = examples.training, examples.validation, examples.labels
    tokenizer = examples.tokenizer
    log.info("data: %s", training.account)
    if is_first():
        Console(soft_wrap=True).print(data_report(training, examples.rows, tokenizer))
    foresee(config, examples)
    set_seed(config.seed)
    model: Any = load_model(config.model, config.quantization, len(labels) or None)
    if labels:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {name: index for index, name in enumerate(labels)}
    if not trains_whole_model(config):
        ids = token_ids(tokenizer, config.adapter.trainable_tokens, "adapter.trainable_tokens")
        model = adapters.attach(model, config.adapter, config.seed, ids)
    held_out_dataset = validation.dataset if validation else None
    report = fit(
        model,
        tokenizer,
        training.dataset,
        held_out_dataset,
        config.train,
        run_dir.path,
        config.seed,
        inputs=inputs,
        score=scorer(config, tokenizer),
    )
    if not is_first():
        return
    if trains_whole_model(config):
        with new_folder(output) as temporary, quiet_transformers():
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
    else:
        adapters.check_did_something(model)
        adapters.save(model, output, shown(config.model.path))
    account = {**vars(training.account), "dropped": dict(training.account.dropped)}
    write_json(run_dir.train_json, {"schema_version": 1, "labels": labels, "data": account})
    record.finish("train", inputs, output, asdict(report))


def scorer(config: Config, tokenizer: PreTrainedTokenizerBase) -> Score | None:
    """What gives a model its score on the benchmark of `train.score_on`; None: there is none."""
    name = config.train.score_on
    if name is None:
        return None
    benchmarks = check_benchmarks({name: config.benchmarks[name]}, config.evaluate)

    def score(model: PreTrainedModel | PeftModel) -> float:
        base = adapters.base_model(model) if isinstance(model, PeftModel) else model
        found = engine.evaluate(base, tokenizer, benchmarks, config.evaluate, model_name="training")
        return found.scores[0].value

    return score
