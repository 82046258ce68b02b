"""What a call of mcext.Cache raises where it failed. All derive from MemcacheError, and mcext has them all by name.

    try:
        cache.incr("visits")
    except mcext.MemcacheError as error:
        if error.may_have_run:
            ...  # the server may have counted this visit, or not

A miss is no error, nor is a value that was not stored because another one was there. Arguments of the wrong kind raise
TypeError or ValueError.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, TypeVar

    _Error = TypeVar("_Error", bound="MemcacheError")

__all__ = [
    "AuthenticationError",
    "ConflictError",
    "ConnectionLost",
    "DecodeError",
    "LeaseTimeout",
    "MemcacheError",
    "Overloaded",
    "PartialFailure",
    "ProtocolError",
    "ServerError",
    "ServerTimeout",
    "ServerUnavailable",
    "ValueTooLarge",
]


def _restored(kind: type[_Error], args: tuple[object, ...], attributes: dict[str, object]) -> _Error:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error


class MemcacheError(Exception):
    """A call failed.

    server: the address as it was given, or None where no single server is to blame.
    command: what was asked for ("get"), or None.
    may_have_run: False where the server certainly did not carry it out, True where nobody can know.
    """

    server: str | None
    command: str | None
    may_have_run: bool

    def __init__(
        self, message: str, *, server: str | None = None, command: str | None = None, may_have_run: bool = False
    ) -> None:
        super().__init__(message)
        self.server = server
        self.command = command
        self.may_have_run = may_have_run

    def __str__(self) -> str:
        about = [self.command] if self.command else []
        if self.server:
            about.append(f"server {self.server}")
        if self.may_have_run:
            about.append("it may have been carried out")
        message = str(self.args[0]) if self.args else ""
        return f"{message} ({', '.join(about)})" if about else message

    # That of OSError makes new arguments of its own fields, and none knows keywords.
    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)


class ServerUnavailable(MemcacheError, ConnectionError):
    """No server took the call: it refuses connections, its name is not found, or it is marked dead."""


class ServerTimeout(MemcacheError, TimeoutError):
    """The server did not answer in time."""


class ConnectionLost(MemcacheError, ConnectionError):
    """The connection ended before the whole answer had come."""


class ProtocolError(MemcacheError):
    """The server answered what no memcached answers to this command."""


class ServerError(MemcacheError):
    """The server answered with an error. message: its words."""

    @property
    def message(self) -> str:
        return str(self.args[0])


class ValueTooLarge(ServerError):
    """The value is larger than the cache or the server takes. Nothing is stored under its key any more."""


class AuthenticationError(MemcacheError):
    """The server does not take the name or the password, or asks for them where none were given."""


class DecodeError(MemcacheError, ValueError):
    """The stored bytes cannot be made a value. flags: those that they are stored with."""

    flags: int

    def __init__(
        self,
        message: str,
        *,
        flags: int = 0,
        server: str | None = None,
        command: str | None = None,
        may_have_run: bool = False,
    ) -> None:
        super().__init__(message, server=server, command=command, may_have_run=may_have_run)
        self.flags = flags


class LeaseTimeout(MemcacheError):
    """Another caller's computation of the value was waited for, and did not come in time."""


class ConflictError(MemcacheError):
    """Others changed the item each time before this call could store its own."""


class Overloaded(MemcacheError):
    """More calls are under way than this cache takes at a time; this one was not sent."""


class PartialFailure(MemcacheError):
    """A call for many keys failed for some of them.

    result: what the call would have returned, of the keys that were done.
    errors: the error of each server that failed, by its address.
    keys: those not done, or not known to be.
    """

    result: Any
    errors: dict[str, Exception]
    keys: list[str | bytes]

    def __init__(
        self,
        message: str,
        *,
        result: object = None,
        errors: Mapping[str, Exception] | None = None,
        keys: Iterable[str | bytes] = (),
        server: str | None = None,
        command: str | None = None,
        may_have_run: bool = False,
    ) -> None:
        super().__init__(message, server=server, command=command, may_have_run=may_have_run)
        self.result = result
        self.errors = dict(errors or {})
        self.keys = list(keys)


def partial_failure(
    command: str, result: object, errors: Mapping[str, MemcacheError], keys: list[str | bytes]
) -> PartialFailure:
    """The PartialFailure of a call that failed at these servers."""
    reasons = "; ".join(f"{server}: {error.args[0]}" for server, error in errors.items())
    what = f"{len(keys)} {'key was' if len(keys) == 1 else 'keys were'} not done; " if keys else ""
    return PartialFailure(
        f"{what}{reasons}",
        result=result,
        errors=errors,
        keys=keys,
        command=command,
        may_have_run=any(error.may_have_run for error in errors.values()),
    )
