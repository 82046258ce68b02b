"""A context whose streams encrypt nothing: what is tried with it is the client's part of TLS, without OpenSSL's."""

import ssl


class ClearContext:
    def wrap_bio(self, incoming, outgoing, server_hostname, session=None):
        return ClearStream(incoming, outgoing, session)


class ClearStream:
    def __init__(self, incoming, outgoing, offered):
        self.incoming, self.outgoing = incoming, outgoing
        self.session_reused = offered is not None
        self.session = object() if offered is None else offered

    def do_handshake(self):
        pass

    def read(self, size):
        data = self.incoming.read(size)
        if not data:
            raise ssl.SSLWantReadError
        return data

    def write(self, data):
        return self.outgoing.write(data)

    def pending(self):
        return 0

    def version(self):
        return "TLSv1.3"
