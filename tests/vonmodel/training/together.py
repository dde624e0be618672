"""Runs functions in several real processes that train together, forked from one that has imported torch already."""

import multiprocessing
import os
import warnings
from collections.abc import Callable
from datetime import timedelta

import torch

from tests.harness import TIMEOUT_S, free_port
from vonmodel.distributed import processes_joined

CPU = torch.device("cpu")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["vonmodel.training.loop", "vonmodel.run_folder", "torch.utils.tensorboard"])


def run_together(count: int, function: Callable[..., None], *arguments: object, patience_s: float = 300) -> list[int]:
    """Calls an importable function in `count` processes that have joined, and returns how each one ended.

    Returns:
        Exit codes by rank: 0 where the function returned, 1 where it raised, -9 where the process was killed.
    """
    port = free_port()
    processes = [
        FORKS.Process(target=_join, args=(rank, count, port, patience_s, function, arguments))
        for rank in range(count)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(TIMEOUT_S)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [process.exitcode if process.exitcode is not None else -9 for process in processes]


def _join(
    rank: int, count: int, port: int, patience_s: float, function: Callable[..., None], arguments: tuple[object, ...]
) -> None:
    variables = {"RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in variables.items()})
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    with processes_joined(CPU, timedelta(seconds=patience_s)):
        function(*arguments)
