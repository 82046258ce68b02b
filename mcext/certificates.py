"""Certificates for the servers of mcext.testing, made by the openssl command, once in a process.

All servers of a process have the same certificate, so that one context serves a client of several.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import tempfile
import threading
import weakref

__all__ = ["Certificates", "of_this_process", "openssl"]

_CONFIGURATION = """
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:false
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1, IP:::1, DNS:localhost
"""

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]  # a signature takes it 20 times less than RSA

_made: list[Certificates] = []
_making = threading.Lock()


class Certificates:
    """A certificate authority, and a certificate of its for 127.0.0.1, ::1 and localhost, in a folder of files.

    authority: file name of the authority's certificate, PEM.
    chain:     file name of the server's certificate and its key, PEM. It is good for a client, too.
    """

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="mcext-")
        weakref.finalize(self, _remove, self._folder, os.getpid())
        configuration = self._path("configuration")
        with open(configuration, "w") as file:
            file.write(_CONFIGURATION)
        self.authority, authority_key = self._path("authority.pem"), self._path("authority.key")
        self.chain, key = self._path("chain.pem"), self._path("chain.key")
        request = self._path("request")
        common = ["-config", configuration, *_KEY]
        # fmt: off
        openssl("req", *common, "-x509", "-extensions", "authority", "-days", "3650", "-subj", "/CN=mcext testing CA",
                "-keyout", authority_key, "-out", self.authority)
        openssl("req", *common, "-subj", "/CN=mcext testing", "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", authority_key, "-set_serial", "2",
                "-extfile", configuration, "-extensions", "server", "-days", "3650", "-out", self.chain)
        # fmt: on
        with open(key) as source, open(self.chain, "a") as chain:
            chain.write(source.read())

    def context(self) -> ssl.SSLContext:
        """A new context for clients: it trusts this authority alone, and verifies."""
        return ssl.create_default_context(cafile=self.authority)

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)


def of_this_process() -> Certificates:
    """The certificates of all servers of this process, made by the first call. Children of a fork have them, too."""
    with _making:
        if not _made:
            _made.append(Certificates())
        return _made[0]


def openssl(*args: str) -> None:
    """Run the openssl command. FileNotFoundError where there is none, RuntimeError with its words where it fails."""
    program = shutil.which("openssl")
    if program is None:
        raise FileNotFoundError("openssl is not installed, or not on the PATH (Debian: apt-get install openssl)")
    done = subprocess.run([program, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {args[0]} failed: {done.stderr.strip()}")


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
