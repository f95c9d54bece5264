"""The push section: an adapter or model for the Hugging Face Hub."""

import re
from dataclasses import dataclass
from enum import Enum

from workbench.errors import ConfigError


class Pushed(Enum):
    """Folder of a run that can be sent to the Hub."""

    adapter = "adapter"
    combined = "combined"
    merged = "merged"
    model = "model"
    export = "export"


NAME = re.compile(r"([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(kw_only=True)
class PushConfig:
    r"""recipe=push: a run's adapter or model for the Hugging Face Hub. Only push.send=true sends anything.

    The token is that of HF_TOKEN or of `hf auth login`; no key contains it.

    Example:
        python -m workbench recipe=push run_dir=runs/NAME push.repo=OWNER/NAME \
            push.folder=adapter push.send=true
    """

    repo: str | None = None
    """Repository on the Hub, as OWNER/NAME; NAME alone: a repository of the token's owner."""
    folder: Pushed | None = None
    """Which folder of the run. null: the first that it has of merged, model, combined and adapter."""
    send: bool = False
    """true sends the files. false shows which files would be sent, and what is wrong with them."""
    public: bool = False
    """true makes a new repository public. false makes it private, and refuses one that is public."""
    base: str | None = None
    """Hub id of the base model, for the card and adapter_config.json that are sent, where the run has the
    base in a local folder."""
    revision: str | None = None
    """Branch to send to. null: main."""

    def __post_init__(self) -> None:
        """Refuse names of repositories that the Hub doesn't allow."""
        for key in ("repo", "base"):
            value = getattr(self, key)
            if value is not None and not (NAME.fullmatch(value) and len(value) <= 96):
                raise ConfigError(f"push.{key}: {value!r} is not a name on the Hub (OWNER/NAME)")
