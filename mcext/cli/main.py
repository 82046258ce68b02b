"""The command `mcext`, and `python -m mcext`: finds the verb, and makes one line and an exit status of what fails.

Exit status 0: done. 1: no (a miss, not stored, a server that failed). 2: wrong use. 130: Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from mcext.cli.output import complain
from mcext.cli.verbs import VERBS, Verb
from mcext.cli.wrong import Wrong
from mcext.errors import MemcacheError, PartialFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main"]

_INTERRUPTED = 128 + signal.SIGINT


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Wrong(f"{message} (see {self.prog} --help)")


def main(words: Sequence[str] | None = None) -> int:
    """Do what the words say, those of the command line where none are given. Returns the exit status."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # whoever started it has closed it
            setattr(sys, name, open(os.devnull, mode))
    with warnings.catch_warnings():
        warnings.showwarning = _warnings()
        try:
            status = _run(sys.argv[1:] if words is None else list(words))
            sys.stdout.flush()
            return status
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends what is left to do at once
            return _INTERRUPTED
        except BrokenPipeError:  # whoever reads has had enough
            _abandon_stdout()
            return 0
        except Wrong as wrong:
            complain(str(wrong))
            return 2
        except PartialFailure as failure:
            for error in failure.errors.values():
                complain(str(error))
            return 1
        except MemcacheError as error:
            complain(str(error))
            return 1
        except OSError as error:  # of the output: what reads files says which one itself
            complain(str(error))
            _abandon_stdout()
            return 1


def _run(words: list[str]) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if not words:
        from mcext.cli.installed import installed

        return installed()
    if words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] == "--version":
        import mcext

        print(f"mcext {mcext.__version__}")
        return 0
    for verb in VERBS:
        if verb.name == words[0]:
            return _carry_out(verb, words[1:])
    raise Wrong(f"there is no verb {words[0]!r} (see mcext --help)")


def _carry_out(verb: Verb, words: list[str]) -> int:
    from mcext.cli.options import add_common

    module = import_module(f"mcext.cli.{verb.module}")
    parser = _Parser(prog=f"mcext {verb.name}", description=f"{verb.summary[0].upper()}{verb.summary[1:]}.",
                     allow_abbrev=False)  # fmt: skip
    getattr(module, f"{verb.name}_options")(parser)
    add_common(parser)
    arguments = parser.parse_args(words)
    try:
        status: int = getattr(module, verb.name)(arguments)
    except MemcacheError:
        raise  # some are ValueErrors, too
    except ValueError as error:  # what Cache says of a key, a number of seconds, an address
        raise Wrong(str(error)) from None
    return status


def _help() -> str:
    width = max(len(verb.name) for verb in VERBS)
    return "\n".join(
        [
            "usage: mcext VERB [ARGUMENTS] [OPTIONS]",
            "",
            *(f"  {verb.name:{width}}  {verb.summary}" for verb in VERBS),
            "",
            "mcext VERB --help says more. Without a verb: what is installed, and whether `import memcache` finds it.",
        ]
    )


def _warnings() -> Callable[..., None]:
    """What shows a warning as a line, each once."""
    shown = set()

    def show(message: Warning | str, *unused: Any) -> None:
        if str(message) not in shown:
            shown.add(str(message))
            complain(f"warning: {message}")

    return show


def _abandon_stdout() -> None:
    """What is still to be written goes nowhere: the interpreter would try it again at its end."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
