"""CherryPy sessions in memcached: python examples/cherrypy_sessions.py 127.0.0.1:11211 [port]

CherryPy's own MemcachedSession does `import memcache` and makes one client for all threads of the server.
Open the page it prints; each browser counts its own visits. Port 0 takes a free one.
"""

import socket
import sys

import cherrypy
from cherrypy.lib.sessions import MemcachedSession


class Visits:
    @cherrypy.expose
    @cherrypy.tools.json_out()
    def index(self):
        session = cherrypy.session
        session["visits"] = session.get("visits", 0) + 1
        return {"visits": session["visits"], "name": session.get("name")}

    @cherrypy.expose
    @cherrypy.tools.json_out()
    def sign_in(self, name):
        cherrypy.session.regenerate()  # a new id at sign-in, so that nobody can prepare one for you
        cherrypy.session["name"] = name
        cherrypy.session["visits"] = 0
        return {"name": name}

    @cherrypy.expose
    @cherrypy.tools.json_out()
    def sign_out(self):
        name = cherrypy.session.get("name")
        cherrypy.session.clear()
        cherrypy.lib.sessions.expire()
        return {"bye": name}


def main(server, port):
    if port == 0:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    cherrypy.config.update(
        {
            "server.socket_host": "127.0.0.1",
            "server.socket_port": port,
            "server.thread_pool": 10,
            "log.screen": False,
            "log.error_file": "",
            "engine.autoreload.on": False,
        }
    )
    application = {
        "/": {
            "tools.sessions.on": True,
            "tools.sessions.storage_class": MemcachedSession,
            "tools.sessions.servers": [server],
            "tools.sessions.timeout": 30,  # minutes
        }
    }
    cherrypy.tree.mount(Visits(), "/", application)
    cherrypy.engine.signals.subscribe()
    cherrypy.engine.start()
    print(f"listening on http://127.0.0.1:{port}/", flush=True)
    cherrypy.engine.block()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8080)
