"""How models are scored: which ones, in which pieces, and how sure the numbers are."""

from dataclasses import dataclass, field

from workbench.config.ranges import check_ranges, number
from workbench.errors import ConfigError

MODELS = ("base", "adapter", "merged", "trained")
"""What can be scored: the base in the recipe's quantization, the adapter on it, the merged model, and with
`adapter=none` the trained model itself."""


@dataclass(kw_only=True)
class EvaluateConfig:
    """How models are scored."""

    models: list[str] = field(default_factory=lambda: list(MODELS))
    """Which of them are scored, where the run has them."""
    batch_tokens: int | None = number(None, 1, 10**9)
    """Tokens computed in one forward pass. None: 512 on a CPU, 4096 on a GPU. In float32 results stay the
    same up to rounding. In bfloat16, NF4 and int8 a log-likelihood can differ by 0.12 nats between values,
    unless `invariant` is set."""
    shared_prefix: bool = True
    """Compute what prompts have in common once. False: every prompt on its own, for comparison."""
    invariant: bool = False
    """Bit-identical results whatever the batch size, the processes and the point of resume; slower, by the
    factor that the log and run.json (`invariant_cost`) tell."""
    verify: int = number(0, 0, 10**9)
    """Items that are scored again one by one, to report the largest difference."""
    chat_template: bool = False
    """Wrap prompts in the tokenizer's chat template."""
    max_length: int | None = number(None, 1, 2**24)
    """Longest prompt with answer, in tokens. None: what the model can hold."""
    fewshot_seed: int = number(1234, 0, 2**63 - 1)
    """Seed of random few-shot examples and of sampled answers; apart from `seed`, so that runs compare."""
    permutations: int = number(1, 1, 26)
    """Orders of the options that lettered questions are asked in; their average cancels letter bias."""
    confidence: float = number(0.95, 0, 1, above=True, below=True)
    """Coverage of the intervals."""
    bootstrap_samples: int = number(2000, 2, 10**6)
    """Resamples of bootstrap intervals; of scores that are no mean (F1, BLEU, perplexity) 200 at most."""
    cache: bool = True
    """Reuse answers to the same prompts by the same model."""

    def __post_init__(self) -> None:
        """Refuse unknown models and numbers out of range."""
        if not self.models:
            raise ConfigError(f"evaluate.models: none (some of {', '.join(MODELS)})")
        unknown = [name for name in self.models if name not in MODELS]
        if unknown:
            raise ConfigError(f"evaluate.models: unknown model {unknown[0]!r} (known: {', '.join(MODELS)})")
        check_ranges(self, "evaluate")
