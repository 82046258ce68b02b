"""The configuration endpoint of a cluster, as ElastiCache's, whose nodes a test says.

    with Endpoint([one.address, two.address]) as endpoint:
        client = mcext.Client([endpoint.source])
        endpoint.set([one.address])  # the version rises by one

`says` is what it answers in place of that: bytes, or what else scripted_server knows, a tuple of these; or None.
Other options are ScriptedServer's.
"""

from scripted_server import ScriptedServer

from mcext import sources


class Endpoint(ScriptedServer):
    def __init__(self, nodes=(), old=False, **options):
        super().__init__(self._script, **options)
        self.version, self.nodes = 1, list(nodes)
        self.old = old  # an engine before 1.4.14
        self.says = None
        self.source = f"elasticache://{self.address}"

    def set(self, nodes, version=None):
        self.version, self.nodes = self.version + 1 if version is None else version, list(nodes)

    @property
    def body(self):
        """The version and the nodes, each "host:port" or the row that stands there."""
        rows = [node if "|" in node else "{0}||{2}".format(*node.rpartition(":")) for node in self.nodes]
        return b"%d\n%s\n" % (self.version, " ".join(rows).encode())

    @property
    def answer(self):
        first = b"VALUE AmazonElastiCache:cluster" if self.old else b"CONFIG cluster"
        return b"%s 0 %d\r\n%s\r\nEND\r\n" % (first, len(self.body), self.body)

    @property
    def looks(self):
        """How often it was asked."""
        return self.commands.count(b"get AmazonElastiCache:cluster\r\n" if self.old else b"config get cluster\r\n")

    def wait_for_looks(self, count):
        self.wait_for(lambda _: self.looks >= count)

    def _script(self, command, number):
        is_new = command == b"config get cluster\r\n"
        if not is_new and command != b"get AmazonElastiCache:cluster\r\n":
            return None
        if is_new and self.old:
            return b"ERROR\r\n"
        if is_new == self.old:
            return None
        return self.answer if self.says is None else self.says


def node(address):
    """As parse_configuration gives it."""
    return sources.parse_configuration(b"1\n%s\n" % address.encode()).addresses[0]
