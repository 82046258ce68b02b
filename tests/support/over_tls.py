"""The tests over TLS: where MCEXT_TLS is set, servers speak TLS and clients have a context, unless a test says else.

What makes them is wrapped when its module is imported: in this process, and by sitecustomize.py in those that tests
start. All these processes have the certificates of the first one. never_over_tls.py lists the tests that cannot be run
so.
"""

import functools
import importlib.machinery
import os
import sys

NAME = "MCEXT_TLS"  # in the environment; the first process replaces what it says by the folder of its certificates


def is_wanted():
    return NAME in os.environ


def begin():
    """To be called before tests are imported."""
    for name, wrap in WRAPS.items():
        if name in sys.modules:
            wrap(sys.modules[name])
    sys.meta_path.insert(0, Finder)


def be_the_first():
    """Make the certificates, unless they are there, and let the processes that are started come by sitecustomize."""
    from mcext import certificates

    os.environ[NAME] = os.path.dirname(certificates.of_this_process().authority)
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.path.dirname(__file__), *path]))


def server_end(sock):
    """What a test's own server has accepted, through TLS where all is."""
    if not is_wanted():
        return sock
    import server_contexts
    from tls_end import TlsEnd

    return TlsEnd(sock, server_contexts.server())


def context():
    """What clients have where a test says nothing, for what is no client and connects: None where nothing is TLS."""
    return client_context() if is_wanted() else None


class Finder:
    """Finds what is to be wrapped where it would be found anyway."""

    @staticmethod
    def find_spec(name, path, target=None):
        if name not in WRAPS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                WRAPS[name](module)

            spec.loader.exec_module = exec_module
        return spec


def with_default(owner, name, option, default):
    """Give what has this name an option where the caller does not: default(keywords)."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*arguments, **keywords):
        if option not in keywords:
            keywords[option] = default(keywords)
        return function(*arguments, **keywords)

    setattr(owner, name, wrapped)


@functools.cache
def client_context():
    from mcext import certificates

    return certificates.of_this_process().context()


def server_context():
    import server_contexts

    return server_contexts.server()


def share_certificates(module):
    folder = os.environ[NAME]
    if os.path.isdir(folder):
        theirs = object.__new__(module.Certificates)
        theirs.authority, theirs.chain = os.path.join(folder, "authority.pem"), os.path.join(folder, "chain.pem")
        module._made.append(theirs)


def wrap_client(module):
    with_default(module.Client, "__init__", "tls_context", lambda keywords: client_context())


def wrap_host(module):
    """Hosts that a test makes itself: TLS is no option of theirs, but an attribute."""
    construct = module._Host.__init__

    @functools.wraps(construct)
    def __init__(self, *arguments, **keywords):
        construct(self, *arguments, **keywords)
        self.tls_context = client_context()

    module._Host.__init__ = __init__


def wrap_servers(module):
    """Hosts of a client have what the client has: none, where a test says so."""
    make = module._make_host

    @functools.wraps(make)
    def _make_host(one, arguments, attributes):
        host = make(one, arguments, attributes)
        if "tls_context" not in attributes and isinstance(host, module._Host):
            host.tls_context = None
        return host

    module._make_host = _make_host


def wrap_cache(module):
    with_default(module.Cache, "__init__", "tls_context", lambda keywords: client_context())


def wrap_async_cache(module):
    with_default(module.AsyncCache, "__init__", "tls_context", lambda keywords: client_context())


def wrap_memcached(module):
    with_default(module, "memcached", "tls", lambda keywords: not keywords.get("unix", False))


def wrap_scripted_server(module):
    with_default(module.ScriptedServer, "__init__", "tls", lambda keywords: server_context())


WRAPS = {
    "mcext._core": wrap_client,
    "mcext.async_cache": wrap_async_cache,
    "mcext.cache": wrap_cache,
    "mcext.certificates": share_certificates,
    "mcext.pure.host": wrap_host,
    "mcext.pure.servers": wrap_servers,
    "mcext.testing": wrap_memcached,
    "scripted_server": wrap_scripted_server,
}
