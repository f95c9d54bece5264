"""The predict step: the user's own prompts or texts in, answers or labels out."""

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config import Config
from workbench.config.benchmark import GenerationConfig
from workbench.config.predict import PredictModel
from workbench.data.classification import VALUE
from workbench.data.inference_prompts import Prompt, prompts
from workbench.errors import ConfigError, DataError, MissingStepError
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.inference.causal_lm import TransformersLM, evaluation_mode
from workbench.evaluation.inference.classifier import TransformersClassifier
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.records import Answer
from workbench.models.ops.prepacked_linear import prepacked
from workbench.pipeline.evaluate import loaded_models, model_identities
from workbench.pipeline.predict_input import format_for, input_data, questions
from workbench.pipeline.predict_preview import show
from workbench.pipeline.step_inputs import is_classifier, skipped, trains_whole_model
from workbench.pipeline.tokenizers import tokenizer_for
from workbench.progress import Progress
from workbench.run_dir import RunDir, RunRecord, fingerprint, write_atomic

log = logging.getLogger("workbench")


def predict(config: Config, run_dir: RunDir) -> None:
    """Answer the rows of `predict.input` into a JSONL file; an interrupted run goes on where it stopped.

    Raises:
        ConfigError: the output is a file that this step has not written.
        MissingStepError: the run has no such model.
    """
    asked_rows, name = questions(config, run_dir), answering(config).value
    rows = [question.row for question in asked_rows]
    data = replace(input_data(config), format=format_for(rows, config.data))
    config = replace(config, evaluate=replace(config.evaluate, models=[name]), data=data)
    try:
        identity = model_identities(config, run_dir)[name]
    except MissingStepError as error:
        raise MissingStepError(
            f"predict.model: {str(run_dir.path)!r} has no {name} model yet (run the steps that make it; "
            "predict.model=base asks the model of model.path)"
        ) from error
    tokenizer = tokenizer_for(name, config, run_dir)
    asked = prompts(rows, tokenizer, config.data, config.model.task)
    output = output_file(config, run_dir, name)
    keys = [fingerprint([prompt.text, prompt.input_ids]) for prompt in asked]
    inputs = fingerprint([identity, [row.values for row in rows], keys, rule(config)])
    step, record = f"predict/{name}/{fingerprint(str(output))[:8]}", RunRecord(run_dir.run_json)
    if skipped(f"predict {name}", record.is_finished(step, inputs, output), config):
        show_again(output, [prompt.text for prompt in asked])
        return
    if output.exists() and step not in record.values["steps"] and not config.force:
        raise ConfigError(
            f"predict.output: {str(output)!r} exists (another file, or force=true to replace it)"
        )
    started = time.perf_counter()
    kept = AnswerCache(run_dir.cache, fingerprint(identity), rule(config), renew=config.force)
    for _, model in loaded_models(config, run_dir, [name]):
        answer_all(config, model, tokenizer, dict(zip(keys, asked, strict=True)), kept)
        found = [shown_answer(kept[key], model) for key in keys]
    lines = [
        json.dumps({**question.given, **beside(question.given, answer)}, ensure_ascii=False, default=str)
        for question, answer in zip(asked_rows, found, strict=True)
    ]
    write_atomic(output, "\n".join(lines) + "\n")
    record.finish(step, inputs, output, {"rows": len(rows), "seconds": time.perf_counter() - started})
    show([{"asked": prompt.text, **answer} for prompt, answer in zip(asked, found, strict=True)], output)
    log.info("predict: %d answers in %s", len(lines), output)


def beside(given: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer's columns, called `predicted_label` and so on where the row has a `label` itself."""
    taken = any(name in given for name in answer)
    return {f"predicted_{name}" if taken else name: value for name, value in answer.items()}


def show_again(output: Path, prompts_shown: Sequence[str]) -> None:
    """Print the first answers of a file that was written before."""
    lines = [line for line in output.read_text(encoding="utf-8").split("\n") if line]
    answers = []
    for text, line in zip(prompts_shown, lines, strict=False):
        values = json.loads(line)
        prefix = "predicted_" if any(name.startswith("predicted_") for name in values) else ""
        names = ("answer", "label", "probabilities", VALUE)
        found = {name: values[prefix + name] for name in names if prefix + name in values}
        answers.append({"asked": text, **found})
    show(answers, output)
    log.info("predict: %d answers in %s", len(lines), output)


def answering(config: Config) -> PredictModel:
    """The model that answers: what was trained, unless another is named."""
    trained = PredictModel.trained if trains_whole_model(config) else PredictModel.adapter
    return config.predict.model or trained


def output_file(config: Config, run_dir: RunDir, name: str) -> Path:
    """Where the answers go: `predict.output`, else a file beside the run's own predictions.

    Inputs that differ in the kind of file alone, a.csv and a.txt, have outputs of their own.
    """
    given = Path(config.predict.input or "")
    own = given.stem if given.suffix == ".jsonl" else given.name
    return Path(config.predict.output) if config.predict.output else run_dir.predictions(name, f"own-{own}")


def rule(config: Config) -> dict[str, Any]:
    """What besides model and prompt decides an answer."""
    limits = {"max_new_tokens": config.predict.max_new_tokens, "task": config.model.task.value}
    return {**limits, "endings": 2}  # raised where answers end otherwise than before


def answer_all(
    config: Config,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Mapping[str, Prompt],
    kept: AnswerCache,
) -> None:
    """Put an answer to every prompt into `kept`, those that are there already left as they are."""
    waiting = {key: prompt for key, prompt in asked.items() if key not in kept}
    keys = list(waiting)
    progress = Progress("predict", len(waiting))
    with prepacked(), evaluation_mode(model), progress, kept.writing() as writer:
        for index, answer in answers(config, model, tokenizer, list(waiting.values())):
            writer.add(keys[index], answer)
            progress.advance(1)


def answers(
    config: Config, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Prompt]
) -> Iterator[tuple[int, Answer]]:
    """Number and answer of each prompt, as soon as it is known."""
    if is_classifier(config):
        classifier = TransformersClassifier(model, tokenizer, config.evaluate)
        lengths = [len(tokens) for tokens in classifier.encode([prompt.text for prompt in asked])]
        check_lengths(asked, lengths, classifier.max_length)
        for index, logprobs in classifier.stream([prompt.text for prompt in asked]):
            yield index, Answer(loglikelihoods=tuple(logprobs))
        return
    limits = GenerationConfig(max_new_tokens=config.predict.max_new_tokens, stop=[])
    lm = TransformersLM(model, tokenizer, config.evaluate)
    lengths = [len(prompt.input_ids) + limits.max_new_tokens for prompt in asked]
    check_lengths(asked, lengths, lm.max_length)
    decoder = Decoder(lm, limits)
    for index, text in decoder.stream(
        [prompt.input_ids for prompt in asked], [prompt.text for prompt in asked]
    ):
        yield index, Answer(generation=text)


def check_lengths(asked: Sequence[Prompt], lengths: Sequence[int], longest: int) -> None:
    """Refuse prompts that the model was not made for, before the first one is answered.

    Args:
        asked: The prompts.
        lengths: Tokens of each, its longest answer included.
        longest: Tokens that fit.

    Raises:
        DataError: one is too long.
    """
    for prompt, length in zip(asked, lengths, strict=True):
        if length > longest:
            raise DataError(
                f"{prompt.where}: {length:,} tokens with the answer are more than the {longest:,} that the "
                "model can hold (a shorter text, or a smaller predict.max_new_tokens)"
            )


def shown_answer(answer: Answer, model: PreTrainedModel) -> dict[str, Any]:
    """The columns that are added to a row: `answer`; or `label` and `probabilities`; or `value`."""
    if answer.generation is not None:
        return {"answer": answer.generation}
    if len(answer.loglikelihoods) == 1:
        return {VALUE: round(answer.loglikelihoods[0], 6)}
    names = [str(name) for _, name in sorted((model.config.id2label or {}).items())]
    probabilities = {
        name: round(math.exp(value), 6) for name, value in zip(names, answer.loglikelihoods, strict=True)
    }
    return {"label": max(probabilities, key=lambda name: probabilities[name]), "probabilities": probabilities}
