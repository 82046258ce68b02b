"""An AsyncCache that is called as a Cache is, so that a test of what both promise is written once.

    make = FACES["AsyncCache"]      # or FACES["Cache"]
    make([server.address]).get("k")

Each call is run to its end by a loop that stands still between the calls: what comes meanwhile is found by the next
one.
"""

import asyncio
import inspect

import mcext


class DrivenCache:
    def __init__(self, *arguments, **options):
        self.__dict__["loop"] = asyncio.new_event_loop()
        self.__dict__["cache"] = mcext.AsyncCache(*arguments, **options)

    def run(self, awaitable):
        async def wait():
            return await awaitable

        return self.loop.run_until_complete(wait())

    def __getattr__(self, name):
        value = getattr(self.cache, name)
        if not callable(value) or name == "on_event":
            return value

        def call(*arguments, **options):
            result = value(*arguments, **options)
            return self.run(result) if inspect.isawaitable(result) else result

        return call

    def __setattr__(self, name, value):
        setattr(self.cache, name, value)

    def __repr__(self):
        return repr(self.cache)

    def close(self):
        self.run(self.cache.aclose())

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def end(self):
        """The loop, too."""
        if not self.loop.is_closed():
            self.close()
            self.loop.close()


FACES = {"Cache": mcext.Cache, "AsyncCache": DrivenCache}
