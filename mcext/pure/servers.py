"""The list of a Client's servers: set_servers and what it stands on, as functions called with the client.

Structured as python-memcached 1.62's, so that an override of _init_buckets and a class in place of _Host act. Put right
beside it: hosts that stay are matched one by one; there may be sources in place of servers (mcext.discovery).
"""

import sys

from mcext import _core
from mcext.pure.host import _Host


def set_servers(self, servers):
    given = _given(servers)
    watch = _core._watch(self)
    if any(map(_core._is_source, given)):
        from mcext import discovery

        discovery.watch(self, given, _take_servers, _settings, _report)
        self._init_buckets()
    elif watch is not None:
        watch.replace(self, given)
    else:
        _take_servers(self, given)


def refresh_servers(self):
    watch = _core._watch(self)
    if watch is not None:
        watch.refresh(self)


def _settings(self):
    """For a look of mcext.discovery."""
    from mcext.discovery import Settings

    return Settings(self.connect_timeout, self.tls_context, self.tls_server_hostname)


def _report(self, text):
    self.debuglog(f"MemCache: {text}.  The servers stay as they are.")


def _given(servers):
    """The servers as a list of what the caller gave."""
    if isinstance(servers, str):
        return [servers]
    if isinstance(servers, (bytes, bytearray)):
        raise TypeError(f"servers must be a list of servers, not {type(servers).__name__}")
    try:
        return [*servers]
    except TypeError:
        if hasattr(type(servers), "__iter__"):
            raise
        raise TypeError(f"servers must be a list of servers, not {type(servers).__name__}") from None


def _take_servers(self, given):
    """From now on these. A host whose address is among them stays, with what it has: connections, dead mark."""
    before = [*_attribute(self, "servers")]
    stay = _match(before, given)
    hosts = [host for host, _ in stay]
    is_changed = len(hosts) != len(before) or any(a is not b for a, b in zip(hosts, before, strict=True))
    if is_changed:
        arguments, attributes = _core._for_hosts(self)
        hosts = [_make_host(one, arguments, attributes) if host is None else host for one, host in zip(given, hosts)]
    weights = [host.weight if old is None else weight for host, (old, weight) in zip(hosts, stay)]
    placement = _core._placing(self)[0]
    if placement is not None:
        placement._check(zip(hosts, weights))
    for host, weight in stay:
        if host is not None:
            host.weight = weight
    if is_changed:
        _assign(self, "servers", hosts)
        for options in (arguments, attributes):
            for name in options:
                for host, _ in stay:
                    if host is not None:
                        setattr(host, name, options[name])  # as new ones are given them
    self._init_buckets()


def _attribute(self, name):
    return getattr(self, name, None) or ()


def _match(before, given):
    """For each that is given the host that was there before, or None, and its weight."""
    kind = _host_class()
    of_kind = kind if issubclass(type(kind), type) else _Host
    there = {}
    for host in before:
        if isinstance(host, _Host) and isinstance(host, of_kind):
            there.setdefault(host._key, []).append(host)
    rows = []
    for one in given:
        key, weight = _core._server_key(one) or (None, None)
        same = there.get(key) if key is not None else None
        rows.append((same.pop(0) if same else None, weight))
    return rows


def _make_host(one, arguments, attributes):
    host = _host_class()(one, **arguments)
    for name in attributes:  # not its items(): CPython 3.11 crashes where there is no memory for the pair
        setattr(host, name, attributes[name])
    return host


def _host_class():
    """memcache._Host, which applications replace."""
    module = sys.modules.get("memcache")
    return getattr(module, "_Host", _Host)


def _init_buckets(self):
    _assign(self, "buckets", [server for server in self.servers for _ in range(server.weight)])


def _assign(self, name, value):
    """Where a subclass sets attributes its own way, the attribute is set all the same."""
    setattr(self, name, value)
    if getattr(self, name) is not value:
        getattr(_core.Client, name).__set__(self, value)
