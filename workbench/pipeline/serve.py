"""The serve step: a run's models behind OpenAI's interface."""

import asyncio
import logging
import signal
import socket
from dataclasses import replace

from workbench.config.adapter import AdapterBase
from workbench.config.model import Task
from workbench.config.serving.loopback import is_loopback
from workbench.config.serving.serve import ServeConfig
from workbench.errors import ConfigError, MissingStepError
from workbench.models.adapters.provenance import check_base_of
from workbench.models.ops.prepacked_linear import prepacked
from workbench.pipeline.chat.models import ChatModels
from workbench.pipeline.run_state import Run
from workbench.serving.access import Access
from workbench.serving.answering import Answerer
from workbench.serving.server import Server
from workbench.serving.worker import Worker

log = logging.getLogger("workbench")


def serve(run: Run) -> None:
    """Load the models, and answer HTTP requests until Ctrl-C or SIGTERM; then return.

    The Python interface has no function for it: `workbench.load_model` gives a model to generate with.

    Raises:
        WorkbenchError: A model can't be loaded, or the address can't be used.
    """
    config = run.config.serve
    access, names = Access(config), served_names(run)
    server = prepare(run, names, access)
    try:
        asyncio.run(serve_until_stopped(server, names, run))
    except OSError as error:
        raise unusable(config, error) from error
    log.info("serve: stopped")


async def serve_until_stopped(server: Server, names: list[str], run: Run) -> None:
    """Run a server until SIGINT or SIGTERM comes; a second signal ends the process at once.

    The address and `names`, the names of its models, are logged.
    """
    stopped, loop, config = asyncio.Event(), asyncio.get_running_loop(), run.config.serve

    def stop() -> None:
        stopped.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)

    def listening(port: int) -> None:
        host = f"[{config.host}]" if ":" in config.host else config.host
        log.info("serve: http://%s:%d/v1 has the models %s; Ctrl-C ends", host, port, ", ".join(names))
        if not is_loopback(config.host):
            log.warning(
                "serve: without TLS, others on the network can read texts and the API key; put a proxy with "
                "TLS in front (its name in serve.hosts), or use ssh -L %d:localhost:%d",
                port,
                port,
            )

    await server.run(stopped, listening)


def prepare(run: Run, names: list[str], access: Access) -> Server:
    """Load the named models, and return a server of them that doesn't listen yet.

    `names` are from `served_names`; `access` decides which requests are refused.
    """
    config = run.config
    models, lengths = ChatModels(run, config.serve.adapters), {}
    for name in names:
        log.info("serve: loading %s", name)
        with models.answering(name) as decoder:
            lengths[name] = decoder.lm.max_length
    data = replace(config.data, path="", sources={}, limit=None, unfold="")
    answerer = Answerer(models, data, config.serve)
    return Server(Worker(answerer.answer, config.serve.max_waiting, prepacked), lengths, config.serve, access)


def served_names(run: Run) -> list[str]:
    """Return the names of the models to serve: `serve.models` (empty: all of the run), then `serve.adapters`.

    Raises:
        MissingStepError: The run doesn't have one of `serve.models`.
    """
    config = run.config.serve
    present = ChatModels(run).names
    if missing := [name for name in config.models if name not in present]:
        raise MissingStepError(
            f"serve.models: the run has no {missing[0]} model (it has: {', '.join(present)})"
        )
    return [*(config.models or present), *config.adapters]


def check_servable(run: Run) -> None:
    """Check the address, the API key, the models and the adapters before a model is loaded.

    Raises:
        WorkbenchError: The address needs a key or can't be used, the model is a classifier, the run lacks a
            model, or an adapter is of another base.
    """
    config = run.config
    Access(config.serve)
    check_address(config.serve)
    if config.model.task is not Task.causal_lm:
        raise ConfigError("model.task: a classifier can't be served (recipe=predict labels texts)")
    served_names(run)
    for path in config.serve.adapters.values():
        accepts = config.adapter.base is AdapterBase.accept
        check_base_of(path, config.model, None, "", accepts=accepts)


def check_address(config: ServeConfig) -> None:
    """Check that a server can listen at the address.

    Raises:
        ConfigError: The host is unknown or not this machine's, or the port is taken or not permitted.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except UnicodeError as error:
        raise ConfigError(f"serve.host: {config.host!r} is not a host's name or address") from error
    except OSError as error:
        raise unusable(config, error) from error


def unusable(config: ServeConfig, error: OSError) -> ConfigError:
    """Return the error, to be raised, that a server can't listen at the address of `config`."""
    return ConfigError(
        f"serve.port: {config.host}:{config.port} can't be listened at: {error.strerror} (serve.port=0 takes "
        "a free one)"
    )
