"""Runs commands of `von` for the fault tests in a process with all imports done, to save their time.

    python driver.py           a JSON list of arguments on a line in, a result on a line out; all in this process
    python driver.py --fork    each command in a fork of this process, which has imported everything: a line with its
                               process id comes at once, one with its exit code and output when it has ended

With `--fork` a line in is {"arguments": [...], "end_before": [call, number, folder] or null, "temporary": folder or
null}: the process ends itself by SIGKILL before the n-th call of a kind on a file below the folder, and has its
temporary files in the other one.
"""

import builtins
import importlib
import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from voncli.main import main

PRELOADED = (
    "voncli.train",
    "vonmodel.training.loop",
    "vonmodel.projection.fused_cpu",
    "vonmodel.api",
    "voncli.prepare",
    "torch.utils.tensorboard",
    "vondata.api",
)


def answer(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def run_here() -> None:
    for line in sys.stdin:
        result = CliRunner().invoke(main, json.loads(line))
        failed = result.exception is not None and not isinstance(result.exception, SystemExit)
        trace = "".join(traceback.format_exception(result.exception)) if failed else ""
        answer(code=result.exit_code, output=result.output, trace=trace)


def run_in_forks() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    answer(ready=True)
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile() as output:
            child = os.fork()
            if child == 0:
                run_child(request, output.fileno())
            answer(pid=child)
            _, status = os.waitpid(child, 0)
            output.seek(0)
            answer(code=os.waitstatus_to_exitcode(status), output=output.read().decode("utf-8", "replace"))


def run_child(request: dict[str, Any], output: int) -> None:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if request["temporary"]:
        os.environ["TMPDIR"] = request["temporary"]
        tempfile.tempdir = None  # asks for it anew
    if request["end_before"]:
        end_before(*request["end_before"])
    code = 1
    try:
        main(request["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter would print it
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end_before(call: str, number: int, folder: str) -> None:
    """Ends this process before the n-th call of a kind on a file below a folder."""
    left = [number]
    top = os.path.realpath(folder)

    def count_down(place: Any) -> None:
        try:
            path = f"/proc/self/fd/{place}" if isinstance(place, int) else os.fspath(place)
        except TypeError:
            return
        if os.path.realpath(path).startswith(top):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def watched(real: Any) -> Any:
        def counted(place: Any, *more: Any, **named: Any) -> Any:
            count_down(place)
            return real(place, *more, **named)

        return counted

    if call == "write":  # opening to write counts, since what follows happens in C
        real = builtins.open

        def opened(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
            if set(mode) & set("wax+"):
                count_down(file)
            return real(file, mode, *more, **named)

        builtins.open = opened
        Path.open = lambda self, mode="r", *more, **named: opened(self, mode, *more, **named)  # type: ignore[method-assign]
        return
    for name in {"rename": ("rename", "replace"), "unlink": ("unlink", "rmdir", "remove")}.get(call, (call,)):
        setattr(os, name, watched(getattr(os, name)))


if __name__ == "__main__":
    run_in_forks() if "--fork" in sys.argv else run_here()
