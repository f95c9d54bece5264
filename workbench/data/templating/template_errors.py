"""Describes errors that templates raise: the message in one line, with the template's line."""


def template_line(error: BaseException) -> int | None:
    """Return the line number of the template in which an error was raised; None if it is unknown."""
    line = getattr(error, "lineno", None)
    trace = error.__traceback__
    while trace is not None:
        if "__jinja_exception__" in trace.tb_frame.f_globals:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def reason(error: BaseException) -> str:
    """Return an error's message in one printable line of about 300 characters, with the template's line."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = "".join(character if character.isprintable() else "�" for character in text)
    if isinstance(error, RecursionError):
        text = "calls itself without end, or is nested too deeply"
    elif isinstance(error, MemoryError):
        text = "needs more memory than there is"
    text = text if len(text) <= 300 else text[:300] + "..."
    line = template_line(error)
    return text if line is None else f"{text} (line {line} of the template)"
