"""Checks of a run's configuration, data and benchmarks before the first step starts.

The checks of a step are imported only if the run has the step, because libraries of data, metrics or training
take seconds to load.
"""

from collections.abc import Mapping, Sequence

from workbench.config import Config, Step
from workbench.config.adapter import AdapterBase
from workbench.config.history import changed_values
from workbench.errors import ConfigError
from workbench.models.adapters.provenance import check_base_of
from workbench.models.loading import check_kernels, check_model, has_weights, outline
from workbench.models.tokenizers.load_tokenizer import has_tokenizer, load_tokenizer
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import asks_by_chat

WITHOUT_MODEL = {
    *(Step.leaderboard, Step.compare, Step.tokenizer),
    *(Step.diagnose, Step.extract, Step.adapter_info, Step.push),
}
"""Steps that load no model, or only read tensors from its files."""
ASK_ENDPOINT = {Step.evaluate, Step.leaderboard, Step.verify_endpoint}
"""Steps for which a model may be behind an endpoint."""
OF_WEIGHTS = {
    "adapter": ("path",),
    "quantization": ("method",),
    "model": ("dtype", "device", "attention", "fused", "compile", "tf32"),
    "evaluate": ("invariant", "shared_prefix", "batch_tokens"),
}
"""Section -> keys that decide how weights are computed here, which have no effect on an endpoint."""
OF_TOKENIZER = {"evaluate": ("max_length", "too_long", "template_arguments", "verify")}
"""Section -> keys that need a prompt's tokens, which have no effect on an endpoint that is asked by chats."""
ASK_ADAPTER = {Step.train, Step.evaluate, Step.predict, Step.chat, Step.serve, Step.resume_check}
"""Steps before which the adapter at `adapter.path` is checked to belong to the base; the merge step makes a
stricter check."""


def check(run: Run) -> None:
    """Check everything that the run's steps need, as far as that is possible before the first step.

    Raises:
        WorkbenchError: A model, data set or benchmark can't be read, or the configuration contradicts itself.
    """
    config, steps = run.config, set(run.config.steps)
    if Step.diagnose in steps:
        from workbench.pipeline.inspection.diagnose import open_folders

        open_folders(run)
    if Step.extract in steps:
        from workbench.pipeline.inspection.extract import check as check_extraction

        check_extraction(run)
    if steps - WITHOUT_MODEL or (config.model.endpoint is not None and steps - ASK_ENDPOINT):
        check_loadable(config)
    if config.adapter.path and steps & ASK_ADAPTER:
        accepts = config.adapter.base is AdapterBase.accept
        check_base_of(config.adapter.path, config.model, None, "", accepts=accepts)
    check_what_is_asked(run)
    if {Step.tokenizer, Step.extend} & steps:
        from workbench.pipeline.vocabulary import read_texts

        read_texts(run)
    if Step.predict in steps:
        from workbench.pipeline.predict.predict_input import questions

        questions(run)
    if Step.export in steps:
        from workbench.pipeline.export import check_exportable

        check_exportable(run)
    if Step.serve in steps:
        from workbench.pipeline.serve import check_servable

        check_servable(run)
    if {Step.plan, Step.train, Step.resume_check} & steps:
        from workbench.pipeline.checking.training import check_training

        check_training(run)


def check_loadable(config: Config) -> None:
    """Check, without reading weights, that the model can be loaded; to plan, a config.json is enough.

    Raises:
        WorkbenchError: The model can't be loaded.
    """
    if config.model.endpoint is None and Step.verify_endpoint in config.steps:
        raise ConfigError("model.endpoint: not given (as in model.endpoint=http://127.0.0.1:8000/v1)")
    if config.model.endpoint is not None:
        check_endpoint(config)
    elif config.steps == [Step.plan] and not (has_weights(config.model) and has_tokenizer(config.model)):
        outline(config.model)
    else:
        check_model(config.model, config.quantization)
        if config.steps != [Step.plan]:  # which may be for another machine
            check_kernels(config.model)


def check_endpoint(config: Config) -> None:
    """Check that the steps can ask `model.endpoint`, that it has the model, and that a tokenizer is here.

    Raises:
        ConfigError: A step or key needs weights.
        CheckpointError: There is no tokenizer.
        EndpointError: The endpoint can't be reached, or doesn't have the model.
    """
    from workbench.evaluation.endpoint.endpoint_model import EndpointModel

    if needing := [step.name for step in config.steps if step not in ASK_ENDPOINT]:
        raise ConfigError(f"model.endpoint: the step {needing[0]} needs weights (evaluate asks an endpoint)")
    is_scored = Step.verify_endpoint not in config.steps  # else the keys are those of the run
    if is_scored and (key := changed_key(config, OF_WEIGHTS)):
        raise ConfigError(f"{key}: not with model.endpoint, whose server decides it (leave it out)")
    if asks_by_chat(config):
        check_chats(config)
    else:
        load_tokenizer(config.model)
    assert config.model.endpoint is not None
    EndpointModel(config.model.endpoint, config.endpoint)


def check_chats(config: Config) -> None:
    """Check that nothing needs a tokenizer: an endpoint that is asked by chats has its own.

    Raises:
        ConfigError: A step or key needs one.
    """
    if Step.verify_endpoint in config.steps:
        raise ConfigError("endpoint.api: verify-endpoint needs log-probabilities (endpoint.api=completions)")
    plain = [name for name, benchmark in config.benchmarks.items() if benchmark.chat_template is False]
    key = f"benchmarks.{plain[0]}.chat_template" if plain else changed_key(config, OF_TOKENIZER)
    if key:
        raise ConfigError(f"{key}: not with endpoint.api=chat, whose endpoint renders chats (leave it out)")


def changed_key(config: Config, keys: Mapping[str, Sequence[str]]) -> str | None:
    """Return the first key, as `section.name`, whose value is not the default; None: all are.

    `keys` has the names of the keys by section.
    """
    for section, names in keys.items():
        changed = changed_values(getattr(config, section))
        for name in names:
            if name in changed:
                return f"{section}.{name}"
    return None


def check_what_is_asked(run: Run) -> None:
    """Check the benchmarks whose items the run's steps will ask: evaluate, quantization_report, merge.search.

    Raises:
        WorkbenchError: A benchmark can't be read, or isn't for the model.
    """
    config, steps = run.config, set(run.config.steps)
    searches = Step.merge in steps and bool(config.merge.search)
    if not searches and not {Step.evaluate, Step.quantization_report} & steps:
        return
    from workbench.pipeline.checking.questions import check_benchmarks_fit, check_scoring

    if Step.evaluate in steps:
        check_scoring(run)
    if Step.quantization_report in steps:
        from workbench.pipeline.inspection.quantization_ways import check_report

        check_report(run)
    if searches or Step.quantization_report in steps:
        check_benchmarks_fit(run)
