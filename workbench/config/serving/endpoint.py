"""The endpoint section: how a model behind an HTTP interface is asked."""

from dataclasses import dataclass
from enum import Enum

from workbench.config.names import MODELS
from workbench.config.ranges import check_ranges, number
from workbench.errors import ConfigError

EndpointApi = Enum("EndpointApi", {"completions": "completions", "chat": "chat"})
"""Path of OpenAI's interface at which a model is asked."""


@dataclass(kw_only=True)
class EndpointConfig:
    r"""A model behind an endpoint of OpenAI's interface, at model.endpoint.

    Its key is read from the environment variable WORKBENCH_ENDPOINT_KEY, and written nowhere.

    Example:
        python -m workbench recipe=verify-endpoint run_dir=runs/NAME \
            model.endpoint=http://127.0.0.1:8000/v1 endpoint.model=merged
    """

    model: str | None = None
    """Name of the model at the endpoint. null: its only model."""
    api: EndpointApi = EndpointApi.completions
    """completions: prompts are sent as tokens, as this project renders them. chat: messages are sent, which
    the endpoint renders by its own template; only benchmarks of generated answers, whose scores get a
    protocol of their own. model.path isn't needed then."""
    serves: str | None = None
    """For verify-endpoint: the run's model that the endpoint should have (base, adapter, merged, trained).
    null: endpoint.model if it is such a name, else the first of merged, trained, adapter, base with
    scores."""
    tolerance: float | None = number(None, 0, 100)
    """For verify-endpoint: largest allowed difference of a log-likelihood, in nats. null: 5e-4 if float32
    was scored, 0.15 for 16 bits; quantized models are never called equal. 0.05 suits llama.cpp, whose cache
    has 16 bits. Also for a kept item that evaluate asks again before it continues a scoring; null: 0.15."""
    concurrency: int = number(4, 1, 1024)
    """Number of requests that are sent at the same time."""
    requests_per_minute: int | None = number(None, 1, 10**6)
    """Most requests in a minute. null: any number."""
    retries: int = number(5, 0, 100)
    """Times that a request is sent again after a failed connection, a reply that is cut off, or a status such
    as 429 or 503, also if a gateway names it within a reply of status 200. The server's Retry-After is waited
    for, at most 60 seconds."""
    timeout_seconds: int = number(600, 1, 10**5)
    """Seconds within which the reply to a request must come."""
    plain_http: bool = False
    """true allows http to another machine, which sends texts and the key unencrypted."""

    def __post_init__(self) -> None:
        """Refuse unknown models and numbers out of range.

        Raises:
            ConfigError: A value is refused; the message has the key.
        """
        if self.serves is not None and self.serves not in MODELS:
            raise ConfigError(f"endpoint.serves: unknown model {self.serves!r} (known: {', '.join(MODELS)})")
        check_ranges(self, "endpoint")
