"""Attacks the box from within, before the first program of a model runs in it."""

import socket
import subprocess
from contextlib import closing
from pathlib import Path

from workbench.evaluation.code_box.box import Box
from workbench.evaluation.code_box.commands import shown_paths, tool
from workbench.evaluation.code_box.system_calls import call_number

_HARMLESS = "assert sum(range(10)) == 45"
_NETWORK = """
import socket
socket.create_connection(("127.0.0.1", {port}), 2)
"""
_WRITING = """
for path in {paths}:
    try:
        open(path, "a").close()
    except OSError:
        continue
    break
else:
    raise PermissionError
"""
_READING = """
for path in {paths}:
    try:
        open(path).read()
    except OSError:
        continue
    break
else:
    raise PermissionError
"""
_TAKING = """
import mmap, os, time
try:
    memory = mmap.mmap(-1, 3 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # takes no time: it isn't touched
except OSError:
    for _ in range(64):
        if os.fork() == 0:
            time.sleep(60)
"""
_USING_KEYS = """
import ctypes
GET_KEYRING, OWN_RING = 0, -2
if ctypes.CDLL(None).syscall({keyctl}, GET_KEYRING, OWN_RING, 1) < 0:
    raise PermissionError
"""
_REACHING_HOST = """
import socket
socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
"""
_HIDING_MEMORY = """
import os
os.memfd_create("memory")
"""
_KILLING = """
import os, signal
if os.fork() == 0:
    os.setsid()
    signal.pause()
os.kill({pid}, signal.SIGKILL)
"""
"""Leaves a process behind, and kills one outside."""


def weakness(box: Box) -> str:
    """Return which of eight attacks a box doesn't hold off, or why it runs no program; "" if it is sound."""
    harmless = box.run(_HARMLESS)
    if not harmless.passed:
        return f"it runs no program ({harmless.output or harmless.reason:.200})"
    secret, witness = box.folder / "secret", box.folder / "witness"
    secret.write_text("secret", encoding="utf-8")
    secret.chmod(0o600)
    witness.touch()
    witness.chmod(0o666)
    folders = [path for path in ("/", "/dev", *shown_paths()) if Path(path).is_dir()]
    new_files = [str(Path(path) / "written-by-a-boxed-program") for path in folders]
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        attacks = {
            "reaches the network": _NETWORK.format(port=server.getsockname()[1]),
            "writes outside": _WRITING.format(paths=[str(witness), *new_files]),
            "reads the files of others": _READING.format(paths=[str(secret), "/etc/shadow"]),
            "takes more memory and processes than its share": _TAKING,
            "uses the kernel's keys": _USING_KEYS.format(keyctl=call_number("keyctl")),
            "opens sockets of the machine": _REACHING_HOST,
            "takes memory that no limit counts": _HIDING_MEMORY,
        }
        verdicts = box.run_all(list(attacks.values()))
    successes = [attack for attack, verdict in zip(attacks, verdicts, strict=True) if verdict.passed]
    if not successes and not _holds_processes(box):
        successes = ["kills processes outside or outlives itself"]
    return f"a program in it {', '.join(successes)}" if successes else ""


def _holds_processes(box: Box) -> bool:
    """Return whether a program kills no process outside, and whether a process that it leaves behind ends."""
    with subprocess.Popen([tool("sleep"), "60"]) as victim:
        try:
            verdict = box.run(_KILLING.format(pid=victim.pid))
            return victim.poll() is None and verdict.reason != "time limit"
        finally:
            victim.kill()
