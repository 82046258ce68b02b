"""A name server that answers from a dict, over UDP, on port 53 of an address of its own.

    with NameServer("127.83.12.5") as names:
        names.records["cache.test"] = ["10.0.0.1", "10.0.0.2"]

Names with no addresses, or none at all, do not exist. There are no addresses of IPv6.
"""

import socket
import struct
import threading


class NameServer:
    def __init__(self, address):
        self.records = {}
        self.asked = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *unused):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self):
        while True:
            question, client = self._socket.recvfrom(512)
            if not question:
                return
            self._socket.sendto(self._answer(question), client)

    def _answer(self, question):
        end = question.index(b"\0", 12) + 5
        labels, at = [], 12
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode())
            at += 1 + question[at]
        name = ".".join(labels)
        (kind,) = struct.unpack(">H", question[end - 4 : end - 2])
        self.asked.append(name)
        addresses = self.records.get(name) or []
        found = addresses if kind == 1 else []
        rows = [struct.pack(">HHHIH4s", 0xC00C, 1, 1, 0, 4, socket.inet_aton(each)) for each in found]
        code = 0x8180 if addresses else 0x8183
        return question[:2] + struct.pack(">HHHHH", code, 1, len(rows), 0, 0) + question[12:end] + b"".join(rows)
