"""Base class of all errors that a user can act on."""

from __future__ import annotations

from typing import Any, ClassVar


class VonError(Exception):
    """An error with a message that names the value or path, and a hint.

    Subclasses may set the two class attributes; the command line and the studio catch only this class.

    Args:
        message: what is wrong.
        hint: what to do about it; None if the message already says so.

    Attributes:
        exit_code: of a command that ends with this error: 1 failed, 2 wrong usage.
        http_status: of a response of the studio that fails with it.
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 409

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles independently of the subclass's arguments, as errors are sent between processes."""
        return _unpickled, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}; {self.hint}"


def _unpickled(kind: type[VonError], arguments: tuple[Any, ...], state: dict[str, Any]) -> VonError:
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(state)
    return error
