"""What stands in a server, and what is put there, byte for byte: through a socket of Python's, past every client."""

import socket


def connect(server, seconds=10):
    """A new connection to a real server, through TLS where it speaks that; each wait is as long at most."""
    if server.path:
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(seconds)
        stream.connect(server.path)
        return stream
    stream = socket.create_connection((server.host, server.port), timeout=seconds)
    if server.tls_context:
        stream = server.tls_context.wrap_socket(stream, server_hostname=server.host)
    return stream


def _ask(server, request, whole):
    with connect(server) as stream:
        stream.sendall(request)
        reply = b""
        while not whole(reply):
            piece = stream.recv(1 << 16)
            assert piece, f"the server closed the connection after {reply!r}"
            reply += piece
        return reply


def store(server, key, data, flags):
    """Set key to these bytes and flags."""
    head = f"set {key} {flags} 0 {len(data)}\r\n".encode()
    reply = _ask(server, head + data + b"\r\n", lambda reply: reply.endswith(b"\r\n"))
    assert reply == b"STORED\r\n", reply


def fetch(server, key):
    """The bytes and the flags of key."""
    lines = _ask(server, f"get {key}\r\n".encode(), _is_whole)
    assert lines != b"END\r\n", f"{key} is not there"
    head, _, rest = lines.partition(b"\r\n")
    _, _, flags, length = head.split()
    assert rest[int(length) :] == b"\r\nEND\r\n"
    return rest[: int(length)], int(flags)


def _is_whole(reply):
    """Of a get: a value may itself end as a reply does."""
    head, _, rest = reply.partition(b"\r\n")
    if not head.startswith(b"VALUE "):
        return reply == b"END\r\n"
    return b"\r\n" in reply and len(rest) >= int(head.split()[3]) + len(b"\r\nEND\r\n")
