"""A context of ssl whose streams do what a test wants at their Nth call of a method.

    context = Meddling(server_contexts.client())
    context.at("read", 2, KeyboardInterrupt)      # raises; an instance or a class
    context.at("write", 1, lambda real, *arguments: ...)   # called in the method's place; returns, or raises

Calls are counted over all streams, from 1, and what was done is not done again.
"""

import collections


class Meddling:
    def __init__(self, context):
        self.context = context
        self.plans = collections.defaultdict(dict)
        self.calls = collections.Counter()
        self.streams = []

    def at(self, method, number, what):
        """At the call with that number from now on."""
        self.plans[method][self.calls[method] + number] = what

    def wrap_bio(self, *arguments, **options):
        made = self.meddle("wrap_bio", self.context.wrap_bio, *arguments, **options)
        self.streams.append(made)
        return Stream(self, made)

    def meddle(self, method, real, *arguments, **options):
        self.calls[method] += 1
        what = self.plans[method].pop(self.calls[method], None)
        if what is None:
            return real(*arguments, **options)
        if isinstance(what, BaseException) or (isinstance(what, type) and issubclass(what, BaseException)):
            raise what
        return what(real, *arguments, **options)


class Stream:
    def __init__(self, owner, real):
        self._owner, self._real = owner, real

    def do_handshake(self):
        return self._owner.meddle("do_handshake", self._real.do_handshake)

    def read(self, size):
        return self._owner.meddle("read", self._real.read, size)

    def write(self, data):
        return self._owner.meddle("write", self._real.write, data)

    def pending(self):
        return self._owner.meddle("pending", self._real.pending)

    def version(self):
        return self._owner.meddle("version", self._real.version)

    @property
    def session(self):
        return self._owner.meddle("session", lambda: self._real.session)
