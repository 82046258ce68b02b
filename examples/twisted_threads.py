"""Twisted and a blocking client: python examples/twisted_threads.py 127.0.0.1:11211 [port]

A web server that keeps what is PUT to a path in memcached and hands it out again. The reactor's thread never waits for
memcached: each call runs in the reactor's thread pool by deferToThread, all threads share one client, and the client
opens as many connections as calls run at the same time. Port 0 takes a free one.
"""

import sys

from twisted.internet import endpoints, reactor
from twisted.internet.threads import deferToThread
from twisted.python import log
from twisted.web import resource, server

import memcache


class Store(resource.Resource):
    isLeaf = True

    def __init__(self, client):
        super().__init__()
        self.client = client

    def render_GET(self, request):
        return self.answer(request, deferToThread(self.client.get, request.path))

    def render_PUT(self, request):
        return self.answer(request, deferToThread(self.client.set, request.path, request.content.read(), time=300))

    def answer(self, request, deferred):
        gone = []
        request.notifyFinish().addErrback(gone.append)  # the browser went away: nobody to answer

        def send(result):
            if gone:
                return
            if result is None:
                request.setResponseCode(404)
            elif isinstance(result, bytes):
                request.write(result)
            else:
                request.setResponseCode(204 if result else 503)
            request.finish()

        def fail(failure):
            bad_key = failure.check(memcache.Client.MemcachedKeyError)
            if not bad_key:
                log.err(failure)
            if gone:
                return
            request.setResponseCode(400 if bad_key else 500)
            request.finish()

        deferred.addCallbacks(send, fail)
        return server.NOT_DONE_YET


def main(address, port):
    reactor.suggestThreadPoolSize(20)
    site = server.Site(Store(memcache.Client([address])))
    listening = endpoints.TCP4ServerEndpoint(reactor, port, interface="127.0.0.1").listen(site)
    listening.addCallback(lambda bound: print(f"listening on http://127.0.0.1:{bound.getHost().port}/", flush=True))
    listening.addErrback(lambda failure: (log.err(failure), reactor.stop()))
    log.startLogging(sys.stderr)
    reactor.run()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8080)
