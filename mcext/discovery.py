"""Servers that are found by asking: "elasticache://host:port" and "dns+host:port", which docs/fleets.md explains.

A watch is what a client has of its sources (mcext.sources), and one thread in each process that asks them again and
again. Client and Cache use it; it is imported where such an address is given.
"""

from __future__ import annotations

import queue
import random
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any

from mcext import _core
from mcext.sources import Found, Settings, Source, take_apart
from mcext.warn import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Server = Any  # as users give one: an address, (address, weight), an mcext.Server
    Client = Any  # a Client or a Cache

__all__ = ["Settings", "Watch", "watch"]

EARLY = 5.0
"""Seconds between two looks that somebody's failure asks for: the first of them is at once."""
JITTER = 0.1
"""By how much of it an interval may be longer or shorter: the processes of an application do not ask all at once."""
PATIENCE = 0.1
"""Seconds beyond the time of a look for which a call waits for its end."""

_END = None
_HINT = object()


class _Runner:
    """What one process has of a watch: its thread, when that looks next, and what it is asked to do before."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.lock = threading.RLock()  # held while a client gets its servers
        self.thread: threading.Thread | None = None
        self.due = dict.fromkeys(sources, 0.0)
        self.hinted = -EARLY  # when the last look is, or was, that a hint asked for
        self.has_looked = threading.Event()
        self.is_hinted = False
        # Put to by what drops a client, and by signal handlers: this queue is made for that.
        self.wishes: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def take(self) -> list[Source]:
        """Those whose time has come."""
        if self.is_hinted:
            self.is_hinted = False
            if self.hinted <= monotonic():
                self.hinted = max(self.hinted + EARLY, monotonic())
            self.due = {source: min(time, self.hinted) for source, time in self.due.items()}
        return [source for source, time in self.due.items() if time <= monotonic()]

    def look_at_all(self) -> None:
        self.due = dict.fromkeys(self.due, 0.0)

    def wait(self) -> list[threading.Event] | None:
        """Until there is something to do: what is to be set when it is done; None: the thread is to end."""
        try:
            wish = self.wishes.get(timeout=max(0.0, min(self.due.values()) - monotonic()))
        except queue.Empty:
            return []
        if wish is _END:
            return None
        if wish is _HINT:
            return []
        self.look_at_all()
        return [wish]


class Watch:
    """The servers of one client as its sources tell them, and those that stand beside them.

    given: what set_servers was given. take: called with the client and a list of servers, which it has from then on.
    settings: called with the client. report: called with the client and a text, behind a look that failed.

    The client refers to the watch, and the watch not to the client, so that the thread ends when that is dropped.
    ready, hint and why are used by the calls of the client (binding/watch.c).
    """

    def __init__(
        self,
        given: list[Server],
        take: Callable[[Client, list[Server]], object],
        settings: Callable[[Client], Settings],
        report: Callable[[Client, str], object],
    ) -> None:
        self.given = given
        self._take, self._settings, self._report = take, settings, report
        self._rows = [take_apart(one) for one in given]
        self._sources = [what for what, _ in self._rows if isinstance(what, Source)]
        self._known: dict[Source, Found] = {}
        self._failed: dict[Source, str] = {}  # those whose last look failed
        self._is_tried = False  # all sources were asked once
        self._runners: dict[int, _Runner] = {}  # that of this process, by its generation

    @property
    def why(self) -> str:
        """Why the last look failed; "": it did not."""
        return "; ".join(f"{source}: {text}" for source, text in [*self._failed.items()])

    # ---- used by the client

    def ready(self, client: Client) -> None:
        """A call begins, or, once a second, one ends: the thread shall run. The first call waits until it has looked,
        within the time for connects."""
        runner = self._runner()
        if runner.thread is threading.current_thread():
            return  # what it does may call the client
        if not self._begin(runner, client):
            self._look_at_due(runner, lambda: client)
        elif not self._is_tried:
            runner.has_looked.wait(self._patience(client))

    def hint(self) -> None:
        """A server was marked dead: the sources may know of another one."""
        runner = self._runners.get(_core._generation())
        if runner is not None and not runner.is_hinted:
            runner.is_hinted = True
            if runner.thread is not None:
                runner.wishes.put(_HINT)

    def refresh(self, client: Client) -> str:
        """Look now, within the time for connects. Why that failed; "": it did not."""
        runner = self._runner()
        if self._begin(runner, client):
            done = threading.Event()
            runner.wishes.put(done)
            if not done.wait(self._patience(client)):
                return self.why or f"{self._sources[0]}: timed out"
        else:
            runner.look_at_all()
            self._look_at_due(runner, lambda: client)
        return self.why

    def end(self) -> None:
        """The thread ends; a later call begins another one."""
        generation = _core._generation()
        runner = self._runners.get(generation)
        if runner is not None:
            with runner.lock:
                self._runners.pop(generation, None)
            runner.has_looked.set()  # nobody waits for it any more
            runner.wishes.put(_END)

    def replace(self, client: Client, given: list[Server]) -> None:
        """From now on the client has these servers, and no watch. What take raises comes out: nothing is changed."""
        with self._runner().lock:
            self._take(client, given)
            _core._set_watch(client, None)
            self.end()

    def _patience(self, client: Client) -> float:
        return self._settings(client).seconds + PATIENCE

    # ---- the thread

    def _runner(self) -> _Runner:
        generation = _core._generation()
        runner = self._runners.get(generation)
        if runner is None:
            runner = self._runners.setdefault(generation, _Runner(self._sources))
            for other in [*self._runners]:
                if other != generation:  # the parent's: nothing of it runs here
                    self._runners.pop(other, None)
        return runner

    def _begin(self, runner: _Runner, client: Client) -> bool:
        """Whether the thread runs. A sub-interpreter has none, for it could not be ended: there the calls look."""
        if not _core._is_main_interpreter():
            return False
        with runner.lock:
            if runner.thread is not None and runner.thread.is_alive():
                return True
            wishes = runner.wishes
            reference = weakref.ref(client, lambda _: wishes.put(_END))
            thread = threading.Thread(
                target=self._run, args=(runner, reference), name=f"mcext discovery {self._sources[0]}", daemon=True
            )
            runner.thread = thread
            try:
                thread.start()
            except RuntimeError:
                runner.thread = None
                return False
            return True

    def _run(self, runner: _Runner, reference: Callable[[], Client | None]) -> None:
        waiting: list[threading.Event] | None = []
        while waiting is not None:
            try:
                goes_on = self._look_at_due(runner, reference)
            finally:
                for each in waiting:
                    each.set()
            waiting = runner.wait() if goes_on else None

    def _look_at_due(self, runner: _Runner, reference: Callable[[], Client | None]) -> bool:
        """Ask the sources whose time has come, and give the client what is news. False where nobody wants it any
        more."""
        due = runner.take()
        found, failed = {}, {}
        for source in due:
            client = reference()
            if client is None:
                return False
            try:
                settings = self._settings(client)
                del client
                found[source] = source.look(settings)
            except Exception as error:  # whatever it is: it is told, nothing is changed, and it is asked again
                failed[source] = str(error) or type(error).__name__
            pause = source.interval if source in found or source in self._known else EARLY
            runner.due[source] = monotonic() + pause * random.uniform(1 - JITTER, 1 + JITTER)
        client = reference()
        return client is not None and (not due or self._give(runner, client, found, failed))

    def _give(self, runner: _Runner, client: Client, found: dict[Source, Found], failed: dict[Source, str]) -> bool:
        """The client has the servers that are known by now, if any of it is news; none while a source never answered.
        False where the thread is another process's (a fork takes greenlets along) or was ended."""
        news = {source: each for source, each in found.items() if each.is_news(self._known.get(source))}
        known = {**self._known, **news}
        is_whole = len(known) == len(self._sources)
        with runner.lock:
            if self._runners.get(_core._generation()) is not runner:
                return False
            if (news and is_whole) or not self._is_tried:
                try:
                    self._take(client, self._servers(known) if is_whole else [])
                except Exception as error:  # as above
                    failed.update(dict.fromkeys(news, str(error) or type(error).__name__))
                    known = self._known
            self._known = known
            self._failed = {**{s: text for s, text in self._failed.items() if s not in found}, **failed}
            self._is_tried = True
        runner.has_looked.set()
        for source, text in failed.items():
            self._report(client, f"{source}: {text}")
        return True

    def _servers(self, known: dict[Source, Found]) -> list[Server]:
        """Each address once: those that were given come before those that were found."""
        there = {_key(what) for what, _ in self._rows if not isinstance(what, Source)}
        servers: list[Server] = []
        for what, weight in self._rows:
            if not isinstance(what, Source):
                servers.append(what)
                continue
            for address in known[what].addresses:
                if _key(address) not in there:
                    there.add(_key(address))
                    servers.append((address, weight))
        return servers


def _key(server: Server) -> object:
    found = _core._server_key(server)
    return found and found[0]


def watch(
    client: Client,
    given: list[Server],
    take: Callable[[Client, list[Server]], object],
    settings: Callable[[Client], Settings],
    report: Callable[[Client, str], object],
) -> None:
    """From now on the client's servers are found by asking, from its next call on; the arguments are Watch's.

    With the list that it has already nothing is changed. Raises TypeError or ValueError for what is no server.
    """
    before = _core._watch(client)
    if before is not None and before.given == given:
        return
    made = Watch(given, take, settings, report)
    if getattr(getattr(client, "placement", None), "_scheme", None) is None:
        warn(
            "servers are found by asking, and with python-memcached's placement most keys move whenever one comes or"
            " goes: give a placement with a ring, such as placement=mcext.placement.rendezvous()"
        )
    _core._set_watch(client, made)
    if before is not None:
        before.end()
