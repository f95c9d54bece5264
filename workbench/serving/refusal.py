"""Defines the error that is sent to a client."""

import logging
import traceback
from typing import Any

log = logging.getLogger("workbench")


class Refusal(Exception):
    """Raised for a request that isn't answered; has the HTTP status and the reason for the client."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        """Create a refusal.

        Args:
            status: HTTP status, such as 400.
            message: What is wrong, and what is allowed.
            param: The request's field that is wrong.
            code: OpenAI's name of the error, such as `model_not_found`.
        """
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def body(self) -> dict[str, Any]:
        """Return the JSON object to send to the client: the error in OpenAI's fields."""
        kinds = {401: "authentication_error", 403: "permission_error"}
        kind = kinds.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def failure(error: Exception) -> Refusal:
    """Log an unexpected error's type and traceback, without its message, which may contain a prompt.

    Returns:
        The refusal for the client, with status 500.
    """
    kind, places = type(error).__name__, "".join(traceback.format_tb(error.__traceback__))
    log.error("serve: a request failed with %s\n%s", kind, places)
    return Refusal(500, f"the server failed with {kind} (its log says where)")
