"""The train step."""

import logging
import shutil
from dataclasses import asdict
from typing import Any

from transformers import set_seed

from workbench.config import Config
from workbench.models import adapters
from workbench.models.loading import load_model
from workbench.pipeline.examples import encoded_examples
from workbench.pipeline.inputs import shown, skipped, trained_from, trains_whole_model
from workbench.pipeline.planning import foresee
from workbench.ranks import is_first
from workbench.run_dir import RunDir, RunRecord, fingerprint, new_folder, write_json
from workbench.training.fit import fit

log = logging.getLogger("workbench")


def train(config: Config, run_dir: RunDir) -> None:
    """Train the adapter, or with `adapter=none` the model itself, on the rows of `data.path`."""
    output = run_dir.model if trains_whole_model(config) else run_dir.adapter
    inputs, record = fingerprint(trained_from(config)), RunRecord(run_dir.run_json)
    if skipped("train", record.is_finished("train", inputs, output), config):
        return
    if config.force and is_first():
        shutil.rmtree(run_dir.checkpoints, ignore_errors=True)
    examples = encoded_examples(config)
    training, validation, labels = examples.training, examples.validation, examples.labels
    log.info("data: %s", training.account)
    foresee(config, examples)
    set_seed(config.seed)
    model: Any = load_model(config.model, config.quantization, len(labels) or None)
    if labels:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {name: index for index, name in enumerate(labels)}
    if not trains_whole_model(config):
        model = adapters.attach(model, config.adapter, config.seed)
    held_out_dataset = validation.dataset if validation else None
    report = fit(
        model,
        examples.tokenizer,
        training.dataset,
        held_out_dataset,
        config.train,
        run_dir.path,
        config.seed,
        inputs=inputs,
    )
    if not is_first():
        return
    if trains_whole_model(config):
        with new_folder(output) as temporary:
            model.save_pretrained(temporary)
            examples.tokenizer.save_pretrained(temporary)
    else:
        adapters.check_did_something(model)
        adapters.save(model, output, shown(config.model.path))
    account = {**vars(training.account), "dropped": dict(training.account.dropped)}
    write_json(run_dir.train_json, {"schema_version": 1, "labels": labels, "data": account})
    record.finish("train", inputs, output, asdict(report))
