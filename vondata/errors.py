"""The one base of all errors that a user can do something about."""

from __future__ import annotations

from typing import Any, ClassVar


class VonError(Exception):
    """What is wrong, with the value or path it is wrong about, and what helps.

    Subclasses set the two class attributes; the command line and the studio catch this class alone.

    Args:
        message: what is wrong, for people.
        hint: what to do about it; None where the message says so already.

    Attributes:
        exit_code: of a command that ends with this error: 1 failed, 2 wrong usage.
        http_status: of an answer of the studio that failed with it.
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 409

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles whatever the arguments of the subclass are, as errors travel between processes."""
        return _unpickled, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}; {self.hint}"


def _unpickled(kind: type[VonError], arguments: tuple[Any, ...], state: dict[str, Any]) -> VonError:
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(state)
    return error
