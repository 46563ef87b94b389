"""Python finds this at its start in child processes of tests: from then on much is as on Windows. The rules hold below SD_TESTS_FOLDER.

Workers are started afresh; text files without an encoding, and what packages open so, are read in SD_TESTS_CODEC; what only POSIX systems
have is not there for the suite's own code; files in use cannot be replaced (`tests/windows_rules.py`).
"""

import builtins
import importlib.util
import io
import multiprocessing
import os
import signal
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POSIX_MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog")
POSIX_NAMES = {
    os: "fork forkpty getuid geteuid getgid getegid getpgid setsid killpg statvfs fstatvfs chown uname nice mkfifo getloadavg "
    "sched_getaffinity sched_setaffinity sched_yield sysconf sync posix_fadvise posix_fallocate wait4 O_DIRECTORY O_NOFOLLOW O_CLOEXEC",
    signal: "SIGKILL SIGHUP SIGQUIT SIGALRM SIGUSR1 SIGUSR2 SIGCHLD SIGSTOP SIGPIPE alarm pause setitimer pthread_kill sigwait",
}


def _is_ours(frame) -> bool:
    """Whether the code that asks is the suite's, and neither a package's nor a test's."""
    file = os.path.abspath(frame.f_code.co_filename)  # noqa: PTH100
    return file.startswith(f"{ROOT}{os.sep}") and not file.startswith(f"{ROOT / 'tests'}{os.sep}") and "site-packages" not in file


def _hide(module, names: str) -> None:
    hidden = {name: module.__dict__.pop(name) for name in names.split() if name in module.__dict__}

    def asked(name: str):
        if name not in hidden or _is_ours(sys._getframe(1)):
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r} on Windows")
        return hidden[name]

    module.__getattr__ = asked


def _hide_modules() -> None:
    real = builtins.__import__

    def imported(name, *more, **named):
        if name in POSIX_MODULES and _is_ours(sys._getframe(1)):
            raise ModuleNotFoundError(f"No module named {name!r} on Windows", name=name)
        return real(name, *more, **named)

    builtins.__import__ = imported


def _open_in(codec: str) -> None:
    real = io.open

    def opened(file, mode="r", buffering=-1, encoding=None, *more, **named):
        if "b" not in mode and encoding in (None, "locale"):
            encoding = codec
        return real(file, mode, buffering, encoding, *more, **named)

    builtins.open = io.open = opened


def _keep_rules(folder: str) -> None:
    """`tests` itself may not be importable yet."""
    spec = importlib.util.spec_from_file_location("windows_rules", ROOT / "tests" / "windows_rules.py")
    rules = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rules)
    rules.keep(Path(folder))


if "SD_TESTS_FOLDER" in os.environ:
    for _module, _names in POSIX_NAMES.items():
        _hide(_module, _names)
    _hide_modules()
    _open_in(os.environ["SD_TESTS_CODEC"])
    _keep_rules(os.environ["SD_TESTS_FOLDER"])
    multiprocessing.set_start_method("spawn", force=True)
    warnings.filterwarnings("error", category=EncodingWarning, module=r"library|networks|finetune|tools|examples|train_|fine_tune|__main__")
