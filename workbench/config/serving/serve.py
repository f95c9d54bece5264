"""The serve section: where a server listens, which models it offers, and what it refuses."""

from dataclasses import dataclass, field

from workbench.config.names import MODELS, check_file_name
from workbench.config.ranges import check_ranges, number
from workbench.errors import ConfigError


@dataclass(kw_only=True)
class ServeConfig:
    r"""recipe=serve: models behind OpenAI's interface, for as long as the command runs.

    Requests name a model: base, adapter, merged, trained, or a name in serve.adapters.

    Example:
        python -m workbench recipe=serve run_dir=runs/NAME \
            serve.port=8000 'serve.adapters={other: runs/OTHER/adapter}'
    """

    host: str = "127.0.0.1"
    """Address to listen at. Any address but this machine's own (127.0.0.1, ::1) needs an API key of at least
    16 characters in the environment variable WORKBENCH_API_KEY. There is no TLS: put a proxy with TLS in
    front, or use an SSH tunnel."""
    port: int = number(8000, 0, 65535)
    """Port to listen at. 0: a free one, which is printed."""
    models: list[str] = field(default_factory=list)
    """Models of the run to load: base, adapter, merged, trained. Empty: all that the run has. Base and
    adapters share their weights; merged and trained have weights of their own."""
    adapters: dict[str, str] = field(default_factory=dict)
    """Name -> folder or hub id of further adapters on the same base, which share its weights."""
    hosts: list[str] = field(default_factory=list)
    """Names by which clients may call the server, besides localhost and IP addresses: the name in front of a
    proxy, for example. Requests for other names are refused, as are all from pages of a browser."""
    max_new_tokens: int = number(4096, 1, 10**6)
    """Largest max_tokens of a request; also the limit on a chat answer's tokens if the request has none."""
    max_answers: int = number(128, 1, 10**4)
    """Largest number of answers in a request: its prompts times its n."""
    max_body_bytes: int = number(2**20, 1024, 2**30)
    """Largest size of a request's body, in bytes; larger ones are refused with status 413."""
    max_waiting: int = number(64, 1, 10**4)
    """Requests that may wait while another one is computed; more are refused with status 503."""
    max_seconds: int = number(600, 1, 10**6)
    """Seconds from a request's arrival after which its computation is stopped, with status 504."""
    receive_seconds: int = number(30, 1, 3600)
    """Seconds within which a request must have arrived, and within which the client must read each part of an
    answer; then the connection is closed."""

    def __post_init__(self) -> None:
        """Refuse an empty address, unknown models, names that can't be a model's, and numbers out of range.

        Raises:
            ConfigError: A value is refused; the message has the key.
        """
        if not self.host:
            raise ConfigError("serve.host: empty (0.0.0.0 listens at all of this machine's addresses)")
        if unknown := [name for name in self.models if name not in MODELS]:
            raise ConfigError(
                f"serve.models: unknown model {unknown[0]!r} (known: {', '.join(MODELS)}; serve.adapters "
                "names further adapters)"
            )
        for name in self.adapters:
            check_file_name("serve.adapters", name)
            if name in MODELS:
                raise ConfigError(f"serve.adapters: {name!r} is a name of the run's models (choose another)")
        check_ranges(self, "serve")
