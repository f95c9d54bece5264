"""The configuration of a run: one dataclass for each section, with the standard library only."""

from dataclasses import dataclass, field
from enum import Enum

from workbench.config.adapter import AdapterConfig
from workbench.config.audit import AuditConfig
from workbench.config.benchmark import BenchmarkConfig, check_benchmark
from workbench.config.chat import ChatConfig
from workbench.config.compare import CompareConfig
from workbench.config.data import DataConfig
from workbench.config.evaluate import EvaluateConfig, check_chat_settings, with_template_arguments
from workbench.config.inspection.adapter_info import AdapterInfoConfig
from workbench.config.inspection.extract import ExtractConfig
from workbench.config.inspection.merged import MergedConfig
from workbench.config.inspection.quantization_report import QuantizationReportConfig
from workbench.config.leaderboard import LeaderboardConfig
from workbench.config.merge import MergeConfig
from workbench.config.model import Device, ModelConfig
from workbench.config.names import check_file_name, check_once, check_order
from workbench.config.plan import PlanConfig
from workbench.config.predict import PredictConfig
from workbench.config.publishing.export import ExportConfig
from workbench.config.publishing.push import PushConfig
from workbench.config.quantization import QuantizationConfig
from workbench.config.ranges import check_ranges, number
from workbench.config.serving.endpoint import EndpointApi, EndpointConfig
from workbench.config.serving.serve import ServeConfig
from workbench.config.tokenizer import TokenizerConfig
from workbench.config.train import NOT_LEARNED, TrainConfig
from workbench.errors import ConfigError

__all__ = [
    "HOW_COMPUTED",
    "IDENTITY",
    "AdapterConfig",
    "AdapterInfoConfig",
    "AuditConfig",
    "BenchmarkConfig",
    "ChatConfig",
    "CompareConfig",
    "Config",
    "DataConfig",
    "EndpointConfig",
    "EvaluateConfig",
    "ExportConfig",
    "ExtractConfig",
    "LeaderboardConfig",
    "MergeConfig",
    "MergedConfig",
    "ModelConfig",
    "PlanConfig",
    "PredictConfig",
    "PushConfig",
    "QuantizationConfig",
    "QuantizationReportConfig",
    "ServeConfig",
    "Step",
    "TokenizerConfig",
    "TrainConfig",
]

IDENTITY = ("model", "quantization", "adapter", "data", "train", "seed")
"""Sections that decide what a run trains; with other values a command is another run."""

SAME_RUN = {"train": NOT_LEARNED, "adapter": ("base",)}
"""Section in IDENTITY -> its keys that don't decide what is trained, and so may differ within a run."""

HOW_COMPUTED = {"model": ("device", "attention", "fused", "compile", "tf32", "loss")}
"""Section in IDENTITY -> its keys that change results by rounding alone; a command that trains nothing may
set them otherwise than the run in its folder."""


class Step(Enum):
    """A step of a run, by its name in the key `steps`; see there what each does."""

    plan = "plan"
    train = "train"
    merge = "merge"
    evaluate = "evaluate"
    predict = "predict"
    chat = "chat"
    resume_check = "resume_check"
    export = "export"
    leaderboard = "leaderboard"
    compare = "compare"
    tokenizer = "tokenizer"
    extend = "extend"
    audit = "audit"
    verify_endpoint = "verify_endpoint"
    diagnose = "diagnose"
    extract = "extract"
    adapter_info = "adapter_info"
    push = "push"
    quantization_report = "quantization_report"
    serve = "serve"


WORKS_ON = {
    "extend": ("tokenizer",),
    "train": ("tokenizer", "extend"),
    "resume_check": ("tokenizer", "extend"),
    "merge": ("train",),
    "evaluate": ("train", "merge"),
    "predict": ("train", "merge"),
    "chat": ("train", "merge"),
    "serve": ("train", "merge"),
    "export": ("train", "merge", "extend"),
    "leaderboard": ("train", "merge", "evaluate"),
    "compare": ("train", "merge", "evaluate"),
    "diagnose": ("train", "merge"),
    "push": ("train", "merge", "export", "extract", "leaderboard"),
    "quantization_report": ("train", "merge"),
}
"""Step -> steps whose output it uses if the run has them; in `steps` they must come before it."""


@dataclass(kw_only=True)
class Config:
    """Keys without a section: what a run does, its seed and its folder.

    Example:
        python -m workbench recipe=quickstart seed=1 run_dir=runs/mine force=true
    """

    description: str = ""
    """One line about the recipe, which `python -m workbench` prints."""
    recipe_name: str = ""
    """Name of the recipe. The command line fills it in."""
    steps: list[Step] = field(default_factory=list)
    """What the run does, in this order. plan: forecast memory and time. train, merge, evaluate, predict,
    export: as named. leaderboard: compare all runs. compare: compare two models' results. resume_check:
    prove that a stopped training resumes exactly. tokenizer: learn a vocabulary. extend: add tokens to a
    model. audit: ask recorded items again. verify_endpoint: compare an
    endpoint with what was scored. diagnose: find faults of a merged model. extract:
    a LoRA from two checkpoints or an adapter. adapter_info: show an adapter. push: send a model to the Hub.
    quantization_report: what 8 and 4 bits cost. serve: answer requests over HTTP. Name fewer to repeat single
    steps."""
    seed: int = number(42, 0, 2**32 - 1)
    """Seed of row order, new weights and dropout. Another seed is another run. Few-shot
    examples and sampled answers have a seed of their own: evaluate.fewshot_seed."""
    run_dir: str | None = None
    """Folder of the run. null: runs/RECIPE, with 8 hex digits appended when model, quantization, adapter,
    data, train or seed differ from the recipe's. Name the folder of a finished run to evaluate, merge, export
    or predict with it."""
    continues: bool = False
    """For a recipe of yours: true takes model, quantization, adapter, data, train and seed from the finished
    run in `run_dir`, except keys that the command line gives."""
    force: bool = False
    """true repeats steps whose inputs are unchanged, and replaces their files. A training then starts from
    step 0. false skips finished steps."""
    trust_code: bool = False
    """true runs Python code of files that the configuration names: metrics, functions of
    lm-evaluation-harness tasks, modelling code of a model. Only for files that you trust. Programs that a
    model writes run, too, in a box, for the metric `pass@1`. Valid on the command line and in Python; a YAML
    that sets it is refused."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The model to load."""
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    """Number format of the model's weights."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """The adapter that is trained on the model."""
    data: DataConfig = field(default_factory=DataConfig)
    """The training rows."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How the model is trained."""
    merge: MergeConfig = field(default_factory=MergeConfig)
    """How adapter and base become one model."""
    merged: MergedConfig = field(default_factory=MergedConfig)
    """The merged model that is compared with model.path."""
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    """How models are scored."""
    benchmarks: dict[str, BenchmarkConfig] = field(default_factory=dict)
    """The benchmarks to score, by name. `'benchmark=[NAME]'` fills this mapping; `benchmarks.NAME.limit=20`
    then changes one key."""
    plan: PlanConfig = field(default_factory=PlanConfig)
    """For which machine a training is planned."""
    predict: PredictConfig = field(default_factory=PredictConfig)
    """The user's prompts or texts to answer or label."""
    chat: ChatConfig = field(default_factory=ChatConfig)
    """A conversation in the terminal."""
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    """How a model behind an HTTP interface is asked."""
    serve: ServeConfig = field(default_factory=ServeConfig)
    """A server of the run's models."""
    export: ExportConfig = field(default_factory=ExportConfig)
    """How the model is written for other tools."""
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    """How a LoRA is extracted from two checkpoints, or from an adapter of another method."""
    push: PushConfig = field(default_factory=PushConfig)
    """What goes to the Hugging Face Hub."""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    """A vocabulary learned from text."""
    leaderboard: LeaderboardConfig = field(default_factory=LeaderboardConfig)
    """How all runs are compared."""
    audit: AuditConfig = field(default_factory=AuditConfig)
    """A random sample of recorded answers, asked again."""
    adapter_info: AdapterInfoConfig = field(default_factory=AdapterInfoConfig)
    """What is shown about an adapter."""
    quantization_report: QuantizationReportConfig = field(default_factory=QuantizationReportConfig)
    """Which quantizations of a model are compared."""
    compare: CompareConfig = field(default_factory=CompareConfig)
    """Which two models are compared, and when the comparison stops."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range, duplicates, steps in a wrong order, and contradicting sections."""
        check_ranges(self)
        check_once("steps", self.steps)
        check_order(self.steps, WORKS_ON)
        for name in self.data.sources:
            check_file_name("data.sources", name)
        for name, benchmark in self.benchmarks.items():
            check_benchmark(name, benchmark)
        if self.model.endpoint is None or self.endpoint.api is not EndpointApi["chat"]:
            check_chat_settings(self.evaluate, self.benchmarks.values())
        self.evaluate = with_template_arguments(self.evaluate, self.data, self.benchmarks.values())
        check_once("train.score_on", self.train.score_on)
        check_once("train.report_to", self.train.report_to)
        check_once("evaluate.models", self.evaluate.models)
        check_once("chat.models", self.chat.models)
        check_once("serve.models", self.serve.models)
        for key in ("target_modules", "modules_to_save", "trainable_tokens"):
            check_once(f"adapter.{key}", getattr(self.adapter, key))
        check_once("quantization.skip_modules", self.quantization.skip_modules)
        if self.plan.gpu is not None and self.model.device is Device.cpu:
            raise ConfigError(
                f"plan.gpu: {self.plan.gpu.value!r}, together with model.device='cpu' (plan.gpu=null "
                "plans for this machine's processor, model.device=auto for the GPU)"
            )
        if unknown := [name for name in self.merge.guard if name not in self.benchmarks]:
            raise ConfigError(
                f"merge.guard: {unknown[0]!r} is not one of the chosen benchmarks "
                f"({', '.join(self.benchmarks) or 'none is chosen'})"
            )
        if self.merge.search and len(self.merge.guard) == len(self.benchmarks):
            raise ConfigError(
                "merge.search: no benchmark to gain on (choose one in benchmark=[...] besides merge.guard's)"
            )
        if self.merge.adapters and self.adapter.path is not None:
            raise ConfigError(
                f"adapter.path: {self.adapter.path!r}, together with merge.adapters (give one of them; "
                "merge.adapters lists all adapters of a combination)"
            )
