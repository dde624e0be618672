"""Collectives of the processes that train one model together, and the averaging of their gradients.

Without a process group every function here is a no-op. Every process must make the same calls in the same order.
"""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.distributed import GradBucket  # type: ignore[attr-defined]  # exported without saying so
from torch.nn.parallel import DistributedDataParallel

from vondata.errors import VonError

TIMEOUT = timedelta(minutes=20)
"""How long a process waits for another one: a sample sheet or a checkpoint on a slow disk takes minutes at most."""

Value = TypeVar("Value")


class LostProcessError(VonError, RuntimeError):
    """Another process of this training ended or does not answer."""


class DisagreementError(VonError):
    """Processes of one training see different configurations, checkpoints or data."""


@dataclass(frozen=True)
class Part:
    """The part of every batch that one process computes in one pass; all parts together are the batch.

    Attributes:
        index: which part, from 0.
        of: number of parts: processes times micro-batches of each.
    """

    index: int = 0
    of: int = 1

    def rows(self, count: int) -> range:
        """The items of a batch of `count` that belong to this part.

        Raises:
            ValueError: they cannot be divided evenly.
        """
        share, rest = divmod(count, self.of)
        if rest or not share:
            raise ValueError(
                f"a batch of {count} cannot be divided evenly into {self.of} parts (devices times compute.accumulate)"
            )
        return range(self.index * share, (self.index + 1) * share)


WHOLE = Part()


def rank() -> int:
    """The index of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def process_count() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_writer() -> bool:
    """Whether this process is the one that writes files (rank 0)."""
    return rank() == 0


def is_launched() -> bool:
    """Whether a launcher such as torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def processes_joined(device: torch.device, timeout: timedelta = TIMEOUT) -> Iterator[None]:
    """Initialises the process group of a launcher's processes and destroys it at the end; a no-op for a single one.

    Args:
        device: where this process computes; tensors that are not on a GPU are exchanged through the host.
        timeout: how long a process waits for another one, here and in all collectives.

    Raises:
        LostProcessError: the other processes did not join, or the port is in use.
    """
    if not is_launched() or distributed.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        distributed.init_process_group(backend, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise LostProcessError(f"{_describe_process()} did not find the others: {reason}") from error
    try:
        with warnings.catch_warnings():
            # DDP also compares strides of axes of length one, which are meaningless.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            yield
    finally:
        # Wrapped networks are reference cycles. One that is left until the interpreter ends can abort the process.
        gc.collect()
        distributed.destroy_process_group()


def wait_for_all() -> None:
    """A barrier; on the host, so that no GPU is synchronised."""
    any_everywhere(False)


def any_everywhere(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    if process_count() == 1:
        return flag
    flags = torch.tensor(int(flag))
    with _naming_lost_processes():
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
    return bool(flags)


def gather_objects(value: Value) -> list[Value]:
    """The values of all processes, by rank; for small objects, not for tensors."""
    if process_count() == 1:
        return [value]
    gathered: list[Any] = [None] * process_count()
    with _naming_lost_processes():
        distributed.all_gather_object(gathered, value)
    return gathered


def same_everywhere(things: Mapping[str, str]) -> None:
    """Checks that values are equal in all processes.

    Args:
        things: the values by their name in errors.

    Raises:
        DisagreementError: names what differs, and in which processes.
    """
    gathered = gather_objects(dict(things))
    for name, value in gathered[0].items():
        others = [index for index, each in enumerate(gathered) if each[name] != value]
        if others:
            listed = ", ".join(f"{index}: {gathered[index][name]}" for index in (0, *others))
            raise DisagreementError(
                f"the processes of this training see a different {name} (process {listed})",
                hint="start all of them with the same options, on a run folder and a dataset that all of them see",
            )


def mean_everywhere(values: Tensor) -> Tensor:
    """The mean over the processes, without gradient."""
    if process_count() == 1:
        return values
    return _summed(values.detach()) / process_count()


def joined_everywhere(values: Float[Tensor, "n ..."]) -> Float[Tensor, "m ..."]:
    """The rows of all processes by rank, without gradient; all must have equally many."""
    if process_count() == 1:
        return values
    values = values.detach().contiguous()
    everyone = [torch.empty_like(values) for _ in range(process_count())]
    with _naming_lost_processes():
        distributed.all_gather(everyone, values)
    return torch.cat(everyone)


def sum_everywhere(values: Tensor) -> Tensor:
    """The sum over the processes; its gradient is the sum of the gradients in all processes."""
    if process_count() == 1:
        return values
    total: Tensor = _SumEverywhere.apply(values)  # type: ignore[no-untyped-call]
    return total


def stacked_everywhere(values: Tensor) -> Float[Tensor, "p ..."]:
    """The tensors of all processes stacked by rank, with gradient; for small tensors."""
    mine = torch.zeros(process_count(), *values.shape, dtype=values.dtype, device=values.device)
    return sum_everywhere(torch.cat([mine[: rank()], values.unsqueeze(0), mine[rank() + 1 :]]))


def averaging_gradients(module: nn.Module) -> nn.Module:
    """The module with gradients averaged over the processes, overlapping with the backward pass.

    One backward pass must follow each forward pass, and reach all parameters that need a gradient now. The result
    must live as long as the parameters are trained.
    """
    if process_count() == 1:
        return module
    with _naming_lost_processes():
        parallel = DistributedDataParallel(module, gradient_as_bucket_view=True)
    if process_count() > 2 and all(each.device.type == "cpu" for each in module.parameters()):
        parallel.register_comm_hook(None, averaged_in_order)
    return parallel


def own_gradients(module: nn.Module) -> AbstractContextManager[None]:
    """A context in which a module of `averaging_gradients` accumulates gradients in this process alone.

    The next pass after it averages the accumulated gradients.
    """
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def backward(loss: Float[Tensor, ""]) -> None:
    """The backward pass from a loss, in which processes exchange gradients."""
    with _naming_lost_processes():
        loss.backward()  # type: ignore[no-untyped-call]


class _SumEverywhere(torch.autograd.Function):
    """The differentiable sum: torch.distributed.nn's is deprecated and its successor private."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """The sum over the processes."""
        return _summed(values)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        """The sum of the gradients of all processes."""
        return _summed(upstream[0])


def _summed(values: Tensor) -> Tensor:
    """The sum over the processes, in new memory."""
    total = values.clone(memory_format=torch.contiguous_format)
    with _naming_lost_processes():
        distributed.all_reduce(total)
    return total


def _describe_process() -> str:
    """This process, described by the variables of its launcher."""
    names = ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    variables = ", ".join(f"{name} {os.environ.get(name, 'not set')}" for name in names)
    return f"training process {os.environ.get('RANK', '?')} ({variables})"


@contextmanager
def _naming_lost_processes() -> Iterator[None]:
    """Turns the errors of collectives into `LostProcessError`."""
    try:
        yield
    except (LostProcessError, torch.OutOfMemoryError):
        raise
    except RuntimeError as error:
        if process_count() == 1:
            raise
        raise LostProcessError(f"another process of this training ended or does not answer: {error}") from error


def averaged_in_order(_: None, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """The mean of a bucket over the processes, as a communication hook of `DistributedDataParallel`.

    A ring all-reduce starts its sum at another process in each part of a bucket, and buckets are rearranged after the
    first step: three addends or more would be summed in another order after resuming than without an interruption.
    Here every process gathers and sums in rank order, for (n - 1) instead of 2 (n - 1) / n times the traffic.
    """
    everyone = [torch.empty_like(bucket.buffer()) for _ in range(distributed.get_world_size())]
    gathering = distributed.all_gather(everyone, bucket.buffer(), async_op=True)
    assert gathering is not None

    def mean(gathered: torch.futures.Future[list[Tensor]]) -> Tensor:
        gathered.wait()  # raises the error of the collective
        total = everyone[0]
        for each in everyone[1:]:
            total += each
        return total.div_(len(everyone))

    averaged: torch.futures.Future[Tensor] = gathering.get_future().then(mean)
    return averaged
