"""Programs that a model wrote run in a box: what they attack stays as it was, and only their items fail."""

import os
import platform
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from textwrap import indent

import psutil
import pytest

from workbench.errors import ConfigError
from workbench.evaluation.code_box import sound_box
from workbench.evaluation.code_box.attacks import weakness
from workbench.evaluation.code_box.box import Box, Verdict
from workbench.evaluation.code_box.commands import Enclosure, Limits, enclosures, interpreter, shown_paths
from workbench.evaluation.code_box.system_calls import call_filter, call_number
from workbench.evaluation.metrics.lookup import metric_named
from workbench.trust import trusting

REPOSITORY = Path(__file__).parents[2]
GOOD = "def double(x):\n    return 2 * x\nassert double(2) == 4"
LIMITS = Limits(processor_seconds=1, seconds=5, file=(16 << 20) + os.getpid())
"""The limit on files is this run's alone, and tells its boxes from others on the machine."""


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    """The box of this machine, with a short limit on time."""
    sound = sound_box._search()
    if isinstance(sound, str):
        pytest.skip(f"no sound box here: {sound}")
    [enclosure] = [each for each in enclosures(LIMITS) if each.name == sound.enclosure.name]
    with Box(enclosure, LIMITS) as short:
        yield short


def left_over() -> list[str]:
    """The names of the processes of this run's boxes: those that enclose a program, and the program's."""
    return [process.info["name"] for process in psutil.process_iter(["name"]) if is_boxed(process)]


def is_boxed(process: psutil.Process) -> bool:
    """Whether the limit on files is on the command line of a process, or holds for it."""
    folder = Path("/proc") / str(process.pid)
    try:
        words = (folder / "cmdline").read_bytes().split(b"\0")
        limits = (folder / "limits").read_text(encoding="utf-8").split()
    except OSError:  # it has ended
        return False
    return f"--fsize={LIMITS.file}".encode() in words or str(LIMITS.file) in limits


def test_the_processes_of_a_box_are_seen_while_it_runs(box):
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(box.run, "import time; time.sleep(1000)")
        while not any(name.startswith("python") for name in left_over()):
            assert not ending.done()
        assert ending.result().reason == "time limit"
    assert left_over() == []


DOUBLE_FORK = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            time.sleep(1)
os._exit(0)
"""
THREE_GIGABYTES = """
data = bytearray(3 << 30)
for i in range(0, len(data), 4096):
    data[i] = 1
"""
CALL = """
import ctypes, os
def call(*arguments):
    if ctypes.CDLL(None, use_errno=True).syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
"""
REFUSED = """
try:
    call({number}, {values})
except PermissionError:
    pass
else:
    os._exit(1)
"""
OLD_CALL = """
import ctypes, mmap
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
memory.write(bytes.fromhex("b8 14000000 cd80 c3"))  # eax = 20, the getpid of 32 bits; int 0x80; return
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
assert ctypes.CFUNCTYPE(ctypes.c_int)(start)() == -38
"""
SOCKETS = """
import socket, sys
refused = 0
for name in dir(socket):
    if name.startswith("AF_") and name not in ("AF_UNIX", "AF_INET", "AF_INET6"):
        for make in (socket.socket, socket.socketpair):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
                try:
                    make(getattr(socket, name), kind)
                except OSError as error:
                    assert error.errno == 97, (name, error)
                    refused += 1
                else:
                    sys.exit(name)
assert refused
for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
    socket.socket(family).close()
socket.socketpair()
"""
NAMED_BY_METACLASS = """
class M(type):
    __name__ = property(lambda self: "")
class E(Exception, metaclass=M):
    pass
raise E
"""
ATTACKS = {
    "endless": ("while True: pass", None),
    "sleeping": ("import time; time.sleep(1000)", "time limit"),
    "endless, ignoring the signal": (
        "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        None,
    ),
    "forking": ("import os\nwhile True: os.fork()", "BlockingIOError"),
    "daemon": (DOUBLE_FORK, "no result"),
    "socket": ("import socket; socket.create_connection(('192.0.2.1', 80), 1)", "OSError"),
    "writing outside": ("open('/usr/written', 'w')", "OSError"),
    "/etc/shadow": ("open('/etc/shadow').read()", "FileNotFoundError"),
    "kill(-1)": ("import os; os.kill(-1, 9)", None),
    "3 GB": (THREE_GIGABYTES, "MemoryError"),
    "3 GB in files": ("for i in range(300):\n  open(f'/tmp/{i}', 'wb').write(bytes(10 << 20))", "OSError"),
    "a large file": ("open('/tmp/f', 'wb').write(bytes(17 << 20))", "OSError"),
    "much output": ("import os\nwhile True: os.write(3, b'x' * 65536)", None),
    "wrong": ("assert 1 == 2", "AssertionError"),
    "no code": ("This is the answer:", "SyntaxError"),
    "ends early": ("import sys; sys.exit(0)", "SystemExit"),
    "ends the process": ("import os; os._exit(0)", "no result"),
    "a copy that passes": ("import os\nif os.fork():\n  os.wait()\n  raise ValueError", "ValueError"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "no result"),
    "an exception without a name": ("raise type('', (Exception,), {})()", "an exception without a name"),
    "a name of a line break": ("raise type('\\n', (Exception,), {})()", "an exception without a name"),
    "a name of two lines": ("raise type('A\\npassed', (Exception,), {})()", "A"),
    "a name for screens": ("raise type('\\033[2J', (Exception,), {})()", "[2J"),
    "a metaclass with a name": (NAMED_BY_METACLASS, "E"),
    "too deep": ("f = lambda: f()\nf()", "RecursionError"),
    "reads its input": ("input()", "EOFError"),
    "a surrogate": ("x = '\ud800'", "SyntaxError"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_program_that_attacks_fails_alone_and_leaves_nothing_behind(name, box):
    program, reason = ATTACKS[name]
    attacked, good = box.run_all([program, GOOD])
    assert not attacked.passed
    assert reason in (None, attacked.reason)
    assert good == Verdict(True)
    assert left_over() == []
    assert sorted(path.name for path in box.folder.iterdir()) == ["root"]
    assert list(box.root.iterdir()) == []


def test_a_program_reaches_no_server_of_this_machine(box):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), 5):
            pass
        server.accept()[0].close()
        connect = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
        assert box.run(connect).reason == "OSError"


@pytest.mark.parametrize(
    "arguments",
    [
        ("add_key", "b'user', b'workbench:attack', b'x', 1, ctypes.c_int(-3)"),
        ("request_key", "b'user', b'workbench:attack', None, 0"),
        ("keyctl", "1, b'workbench'"),
        ("memfd_create", "b'x', 0"),
        ("shmget", "0x1234, 4096, 0o1666"),
        ("semget", "0x1234, 1, 0o1666"),
        ("msgget", "0x1234, 0o1666"),
        ("io_uring_setup", "4, ctypes.create_string_buffer(120)"),
    ],
)
def test_a_program_has_none_of_what_no_namespace_encloses(arguments, box):
    name, values = arguments
    refused = REFUSED.format(number=call_number(name), values=values)
    assert box.run(CALL + refused) == Verdict(True)
    in_child = "child = os.fork()\nif child == 0:\n" + indent(refused, "    ")
    assert box.run(f"{CALL}{in_child}\nelse:\n    assert os.wait()[1] == 0") == Verdict(True)


def test_a_program_has_sockets_of_its_own_network_only(box):
    assert box.run(SOCKETS) == Verdict(True)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86_64 has three kinds of system calls")
def test_a_program_makes_no_calls_by_the_numbers_of_another_abi(box):
    for number in (39, 250):  # getpid and keyctl
        x32 = (
            f"try:\n    call({number} | 0x40000000)\nexcept OSError as error:\n    assert error.errno == 38\n"
        )
        assert box.run(CALL + x32 + "else:\n    raise SystemExit") == Verdict(True)
    assert box.run(OLD_CALL) in (Verdict(True), Verdict(False, "no result"))  # a kernel without these calls


def test_a_machine_with_other_call_numbers_runs_no_program(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "ppc64le")
    assert call_filter() == b""
    assert "memory that no limit counts" in sound_box._search.__wrapped__()


def test_a_program_sees_the_interpreter_and_empty_folders_and_nobody(box):
    program = """
import os, sys
top = set(os.listdir("/"))
hidden = {"home", "root", "var", "run", "srv", "proc", "sys", "work"}
assert not top & hidden - set(sys.base_prefix.split("/")), top
assert os.listdir("/tmp") == os.listdir("/dev/shm") == []
open("/tmp/mine", "w").write("x")
assert dict(os.environ) == {} and os.getuid() > 0 and os.getgroups() in ([], [os.getgid()])
assert sys.flags.no_site and "site" not in sys.modules and sys.path[0] != ""
"""
    assert box.run(program) == Verdict(True)
    assert box.run(program) == Verdict(True)  # the file of the first is gone


def test_a_program_sees_of_the_interpreters_folder_its_libraries_only(box):
    if Path(sys.base_prefix).resolve().is_relative_to("/usr"):
        pytest.skip("the system's interpreter")
    program = """
import os, sys
assert set(os.listdir(sys.base_prefix)) <= {"bin", "lib", "lib64"}, os.listdir(sys.base_prefix)
assert os.listdir(sys.base_prefix + "/bin") == [os.path.basename(sys.executable)]
import ctypes, decimal, hashlib, json, sqlite3, ssl, zlib
"""
    assert box.run(program) == Verdict(True)


def test_an_interpreter_installed_in_the_home_shows_nothing_else_of_it(tmp_path, monkeypatch):
    home = tmp_path.resolve()
    python = home / "lib" / "python3"
    python.mkdir(parents=True)
    (home / "bin").mkdir()
    (home / "bin" / "python3").touch()
    monkeypatch.setattr(sys, "base_prefix", str(home))
    monkeypatch.setattr(sys, "_base_executable", str(home / "bin" / "python3"))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(python))
    own = [path for path in shown_paths() if Path(path).is_relative_to(home)]
    assert own == [str(home / "lib"), str(home / "bin" / "python3")]
    monkeypatch.setenv("HOME", str(home))
    own = [path for path in shown_paths() if Path(path).is_relative_to(home)]
    assert own == [str(python), str(home / "bin" / "python3")]


KILLED = """
import os, signal
from workbench.evaluation.code_box.box import Box
from workbench.evaluation.code_box.commands import Enclosure, Limits
box = Box(Enclosure("none", lambda root, number: []), Limits())
print(box.folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_folder_of_a_killed_process_is_removed_by_a_later_one_and_others_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True, text=True)
    left = Path(killed.stdout.strip())
    assert left.is_dir() and left.parent == tmp_path, killed
    none = Enclosure("none", unboxed)
    with Box(none, LIMITS) as used:
        assert left.is_dir()  # it might be another process's, not locked yet
        for folder in (left, used.folder):
            os.utime(folder, (0, 0))
        with Box(none, LIMITS):
            assert used.folder.is_dir() and not left.exists()


def test_a_set_of_words_has_the_same_order_in_each_run(box):
    program = "assert list({'a', 'b', 'c', 'd', 'e', 'f', 'g'}) == WORDS"
    orders = [
        subprocess.run(
            [sys.executable, "-c", "print(list({'a', 'b', 'c', 'd', 'e', 'f', 'g'}))"],
            env={"PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    ]
    assert box.run(program.replace("WORDS", orders[0])) == Verdict(True)


def test_a_program_cannot_get_capabilities_by_a_user_namespace(box):
    program = "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0  # CLONE_NEWUSER"
    assert box.run(program).reason == "AssertionError"


def unboxed(root: Path, number: int) -> list[str]:
    """The interpreter alone."""
    script = REPOSITORY / "workbench/evaluation/code_box/run_program.py"
    return [interpreter(), "-c", script.read_text(encoding="utf-8"), ""]


def test_the_attacks_succeed_without_a_box():
    with Box(Enclosure("none", unboxed), LIMITS) as none:
        reason = weakness(none)
    for success in ("reaches the network", "writes outside", "reads the files", "takes more memory"):
        assert success in reason
    for success in ("kernel's keys", "memory that no limit counts"):
        assert success in reason


@pytest.mark.parametrize(
    ("word", "success"),
    [
        ("--net", "reaches the network"),
        ("prlimit", "takes more memory and processes"),
        (call_filter().hex(), "uses the kernel's keys"),
    ],
)
def test_a_box_that_lacks_a_wall_is_found_unsound(word, success, box):
    if "namespace" not in box.enclosure.name:
        pytest.skip("the box here is bubblewrap's")

    def without_wall(root: Path, number: int) -> list[str]:
        command = box.enclosure.command(root, number)
        if word == "prlimit":
            start = next(i for i, part in enumerate(command) if part.endswith("/prlimit"))
            return command[:start] + command[command.index("--", start) + 1 :]
        return [
            "" if word == part == command[-1] else part
            for part in command
            if part != word or part == command[-1]
        ]

    with Box(Enclosure("weak", without_wall), LIMITS) as weak:
        assert success in weakness(weak)


def test_programs_are_refused_in_one_line_where_no_box_is_sound(monkeypatch):
    fails = ["/bin/sh", "-c", "echo not permitted; exit 1"]
    broken = Enclosure("a user namespace", lambda root, number: fails)
    monkeypatch.setattr(sound_box, "enclosures", lambda limits: [broken])
    sound_box._search.cache_clear()
    try:
        with trusting(True), pytest.raises(ConfigError) as error:
            metric_named("pass@1", "benchmarks.mine.metrics")
        assert str(error.value) == (
            "benchmarks.mine.metrics: 'pass@1' runs programs in a box only, and none is sound here: a user "
            "namespace: it runs no program (not permitted) (use a Linux that lets you make namespaces or has "
            "bubblewrap, or leave the metric out)"
        )
    finally:
        sound_box._search.cache_clear()


def test_programs_are_refused_without_trust():
    with trusting(False), pytest.raises(ConfigError, match="'pass@1' runs the programs that a model writes"):
        metric_named("pass@1")


AS_USER = """
import sys
from workbench.evaluation.code_box.attacks import weakness
from workbench.evaluation.code_box.box import Box
from workbench.evaluation.code_box.commands import Limits, enclosures
limits = Limits(processor_seconds=1, seconds=5)
for enclosure in enclosures(limits):
    with Box(enclosure, limits) as box:
        print(enclosure.name, repr(weakness(box)), box.run("open('/etc/shadow')").reason)
"""


def test_an_ordinary_user_has_a_sound_box(tmp_path):
    """As root: another user, with the system's interpreter, if that user can read it and this repository."""
    command = [sys.executable]
    if os.geteuid() == 0:
        user = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]
        command = [*user, shutil.which("python3", path="/usr/bin") or sys.executable]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": "/tmp",
    }
    readable = "import sys, workbench.trust; assert sys.version_info >= (3, 11)"
    if subprocess.run([*command, "-c", readable], env=environment, capture_output=True).returncode:
        pytest.skip("another user can't read an interpreter or this repository")
    made = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    if subprocess.run([*command[:-1], *made], env=environment, capture_output=True).returncode:
        pytest.skip("this machine lets users make no namespaces")
    done = subprocess.run([*command, "-c", AS_USER], env=environment, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert "a user namespace '' FileNotFoundError" in lines, done
    assert ("bubblewrap '' FileNotFoundError" in lines) == (shutil.which("bwrap") is not None)
