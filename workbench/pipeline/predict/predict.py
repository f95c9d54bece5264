"""The predict step: answers or labels for the user's prompts or texts."""

import logging
import math
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config import Config
from workbench.config.benchmark import GenerationConfig
from workbench.config.names import ADAPTER, BASE, MERGED, TRAINED
from workbench.config.predict import PredictModel
from workbench.contexts import evaluation_mode
from workbench.data.classification import VALUE
from workbench.data.inference_prompts import Prompt, prompts
from workbench.errors import ConfigError, DataError, MissingStepError
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.classifier import TransformersClassifier
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.inference.decoding.within_memory import tokens_within_memory
from workbench.evaluation.records import Answer
from workbench.models.ops.prepacked_linear import prepacked
from workbench.pipeline.predict.answer_file import file_text, is_table, read_answers
from workbench.pipeline.predict.predict_input import Question, format_for, input_data, questions
from workbench.pipeline.predict.predict_preview import CUT, FINISH_REASON, show
from workbench.pipeline.run_models import loaded_models, model_identities
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import is_classifier, skip_finished
from workbench.pipeline.tokenizers import tokenizer_for
from workbench.progress import Progress
from workbench.run_dir import RunDir, fingerprint, write_atomic
from workbench.run_record import RunRecord

log = logging.getLogger("workbench")

LABEL = "label"
ANSWER_COLUMNS = ("answer", FINISH_REASON, LABEL, "probabilities", VALUE)
"""Columns that an answer can have."""


def predict(run: Run) -> None:
    """Answer the rows of `predict.input` into a file, and print the first answers.

    If the file is finished, it is not made again; answers of an interrupted run are used again. The Python
    interface has no function for it: `workbench.load_model` gives a model to generate with.

    Raises:
        ConfigError: The output is a file that this step has not written.
        MissingStepError: The run has no such model.
        DataError: A row can't be read, or is too long for the model.
        CheckpointError: An adapter or model was changed since the train step.
    """
    config, run_dir = run.config, run.run_dir
    input_rows, identities = questions(run), model_identities(run)
    name = model_to_ask(config, identities).value
    rows = [question.row for question in input_rows]
    if name not in identities:
        raise MissingStepError(
            f"predict.model: {str(run_dir.path)!r} has no {name} model yet (run the steps that make it; "
            "predict.model=base asks the model at model.path)"
        )
    identity, tokenizer = identities[name], tokenizer_for(name, run)
    data = replace(input_data(config), format=format_for(rows, config.data))
    input_prompts = prompts(rows, tokenizer, data, config.model.task)
    output = output_file(config, run_dir, name)
    keys = [fingerprint([prompt.text, prompt.input_ids]) for prompt in input_prompts]
    form = ["csv"] if is_table(output) else []
    inputs = fingerprint([identity, [row.values for row in rows], keys, answer_rule(config), *form])
    step, record = f"predict/{name}/{fingerprint(str(output))[:8]}", RunRecord(run_dir.run_json)
    if skip_finished(f"predict {name}", record.is_finished(step, inputs, output), config):
        report(answers_in(output, [prompt.asked for prompt in input_prompts], config), output, config)
        return
    if output.exists() and step not in record.values["steps"] and not config.force:
        raise ConfigError(
            f"predict.output: {str(output)!r} exists (name another file, or set force=true to replace it)"
        )
    started = time.perf_counter()
    cache = AnswerCache(run_dir.cache, fingerprint(identity), answer_rule(config), renew=config.force)
    for _, model in loaded_models(run, [name]):
        answer_all(config, model, tokenizer, dict(zip(keys, input_prompts, strict=True)), cache)
        columns = [answer_columns(cache[key], model) for key in keys]
    heading = label_heading(config, output, input_rows)
    answered = [
        {**question.given, **with_heading(renamed_columns(question.given, answer), heading)}
        for question, answer in zip(input_rows, columns, strict=True)
    ]
    write_atomic(output, file_text(answered, output))
    record.finish(step, inputs, output, {"rows": len(rows), "seconds": time.perf_counter() - started})
    asked = [prompt.asked for prompt in input_prompts]
    report([{"asked": text, **answer} for text, answer in zip(asked, columns, strict=True)], output, config)


def label_heading(config: Config, output: Path, questions: Sequence[Question]) -> str:
    """Return the name of the column of predicted classes in the output.

    In a CSV it is the training data's name of the column, unless the input or the answer has such a column;
    else it is `label`.
    """
    heading = config.data.columns.get(LABEL, LABEL)
    is_taken = heading in ANSWER_COLUMNS or any(heading in question.given for question in questions)
    return LABEL if is_taken or not is_table(output) else heading


def with_heading(answer: Mapping[str, Any], heading: str) -> dict[str, Any]:
    """Return a copy of an answer's columns with `label`, the predicted class, renamed to `heading`."""
    return {heading if name == LABEL else name: value for name, value in answer.items()}


def renamed_columns(given: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of an answer's columns, all with the prefix `predicted_` if one is in the input row."""
    is_taken = any(name in given for name in answer)
    return {f"predicted_{name}" if is_taken else name: value for name, value in answer.items()}


def report(answers: Sequence[Mapping[str, Any]], output: Path, config: Config) -> None:
    """Print the first answers (see `show`), and log how many there are and how many were cut.

    Args:
        answers: As `show` takes them.
        output: The file of all answers.
        config: The configuration.
    """
    show(answers, output)
    num_cut = sum(answer.get(FINISH_REASON) == CUT for answer in answers)
    limit = config.predict.max_new_tokens
    cut = f", {num_cut:,} of them cut at predict.max_new_tokens={limit} ({FINISH_REASON}: {CUT})"
    log.info("predict: %d answers in %s%s", len(answers), output, cut if num_cut else "")


def answers_in(output: Path, asked: Sequence[str], config: Config) -> list[dict[str, Any]]:
    """Read the answers of an output file, each with the text that was asked.

    Args:
        output: The file.
        asked: The last turn of each prompt, or the text to label, in the order of the file's rows.
        config: The configuration; a CSV's column of classes may have the name that the training data's has.
    """
    heading, answers = config.data.columns.get(LABEL, LABEL), []
    for text, values in zip(asked, read_answers(output), strict=False):
        prefix = "predicted_" if any(name.startswith("predicted_") for name in values) else ""
        columns = {name: values[prefix + name] for name in ANSWER_COLUMNS if prefix + name in values}
        if "probabilities" in columns and LABEL not in columns:
            columns[LABEL] = values.get(heading, "")
        if VALUE in columns:
            columns[VALUE] = float(columns[VALUE])
        answers.append({"asked": text, **columns})
    return answers


def model_to_ask(config: Config, present: Container[str]) -> PredictModel:
    """Return `predict.model`; if it is null, the model that the run trains, else the merged, else the base.

    Whether the run has the returned model is not checked.

    Args:
        config: The configuration.
        present: Names of the models that the run has.
    """
    trained = PredictModel[TRAINED if config.adapter.is_none else ADAPTER]
    has_training = trained.name in present or bool(config.data.path or config.data.sources)
    other = PredictModel[MERGED if MERGED in present else BASE]
    return config.predict.model or (trained if has_training else other)


def output_file(config: Config, run_dir: RunDir, name: str) -> Path:
    """Return `predict.output`; if it is null, a file in the run's folder of predictions of the model `name`.

    Inputs that differ only in the file's extension, such as a.csv and a.txt, have different outputs.
    """
    path = Path(config.predict.input or "")
    input_name = path.stem if path.suffix == ".jsonl" else path.name
    default = run_dir.predictions(name, f"own-{input_name}")
    return Path(config.predict.output) if config.predict.output else default


def answer_rule(config: Config) -> dict[str, Any]:
    """Return the settings that an answer depends on, besides model and prompt, as JSON values."""
    limits = {"max_new_tokens": config.predict.max_new_tokens, "task": config.model.task.value}
    invariant = {"invariant": True} if config.evaluate.invariant else {}
    return {**limits, **invariant, "endings": 3}  # raised when an answer ends elsewhere or says more


def answer_all(
    config: Config,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    input_prompts: Mapping[str, Prompt],
    cache: AnswerCache,
) -> None:
    """Answer the prompts that have no answer in the cache, and write each answer into the cache.

    Args:
        config: The configuration.
        model: The model to ask.
        tokenizer: The model's tokenizer.
        input_prompts: Prompts by their keys in the cache.
        cache: The answers so far.

    Raises:
        DataError: A prompt is too long for the model.
    """
    unanswered = {key: prompt for key, prompt in input_prompts.items() if key not in cache}
    keys = list(unanswered)
    progress = Progress("predict", len(unanswered))
    with prepacked(), evaluation_mode(model), progress, cache.writing() as writer:
        for index, answer in generate_answers(config, model, tokenizer, list(unanswered.values())):
            writer.add(keys[index], answer)
            progress.advance(1)


def generate_answers(
    config: Config, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, unanswered: Sequence[Prompt]
) -> Iterator[tuple[int, Answer]]:
    """Yield (index in `unanswered`, answer) in the order in which answers are finished.

    Raises:
        DataError: A prompt is too long for the model; this is checked before the first answer.
    """
    texts = [prompt.text for prompt in unanswered]
    if is_classifier(config):
        classifier = TransformersClassifier(model, tokenizer, config.evaluate)
        lengths = [len(token_ids) for token_ids in classifier.encode(texts)]
        check_lengths(unanswered, lengths, classifier.max_length)
        for index, logprobs in classifier.stream(texts):
            yield index, Answer(loglikelihoods=tuple(logprobs))
        return
    limits = GenerationConfig(max_new_tokens=config.predict.max_new_tokens, stop=[])
    lm = TransformersLM(model, tokenizer, config.evaluate)
    lengths = [len(prompt.input_ids) + limits.max_new_tokens for prompt in unanswered]
    check_lengths(unanswered, lengths, lm.max_length)
    decoder = Decoder(lm, limits)
    for index, generated in tokens_within_memory(decoder, [prompt.input_ids for prompt in unanswered], texts):
        endings = decoder.endings
        yield (
            index,
            Answer(generation=endings.text(generated), finish_reason=endings.finish_reason(generated)),
        )


def check_lengths(input_prompts: Sequence[Prompt], lengths: Sequence[int], context: int) -> None:
    """Check that all prompts and answers fit into the model's context, before the first one is answered.

    Args:
        input_prompts: The prompts.
        lengths: Number of tokens of each prompt with its longest possible answer.
        context: Number of tokens in the model's context.

    Raises:
        DataError: A prompt is too long.
    """
    for prompt, length in zip(input_prompts, lengths, strict=True):
        if length > context:
            raise DataError(
                f"{prompt.where}: {length:,} tokens with the answer, but the model's context has {context:,} "
                "(shorten the text, or lower predict.max_new_tokens)"
            )


def answer_columns(answer: Answer, model: PreTrainedModel) -> dict[str, Any]:
    """Return an answer's columns: answer and finish_reason, or label and probabilities, or value.

    They are those of a causal model, a classifier, and a regression. The class names are from the
    configuration of `model`.
    """
    if answer.generation is not None:
        return {"answer": answer.generation, FINISH_REASON: answer.finish_reason}
    if len(answer.loglikelihoods) == 1:
        return {VALUE: round(answer.loglikelihoods[0], 6)}
    names = [str(name) for _, name in sorted((model.config.id2label or {}).items())]
    probabilities = {
        name: round(math.exp(value), 6) for name, value in zip(names, answer.loglikelihoods, strict=True)
    }
    return {LABEL: max(probabilities, key=lambda name: probabilities[name]), "probabilities": probabilities}
