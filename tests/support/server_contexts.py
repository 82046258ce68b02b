"""ssl contexts for servers of the tests: good ones, and ones that a client has to refuse.

All but `self_signed` have certificates of the authority of mcext.testing's servers, in which `client()` trusts.
"""

import functools
import os
import ssl

from mcext import certificates

CONFIGURATION = """
[req]
distinguished_name = name
[name]
[ca]
default_ca = here
[here]
certificate = {folder}/authority.pem
private_key = {folder}/authority.key
database = {folder}/database
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = anybody
unique_subject = no
[anybody]
commonName = supplied
[extensions]
basicConstraints = CA:false
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""

HERE = "IP:127.0.0.1, IP:::1, DNS:localhost"
LONG_AGO = ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"]
TO_COME = ["-startdate", "20990101000000Z", "-enddate", "20990102000000Z"]


def client():
    """A new context for clients, which trusts the servers of mcext.testing and `server()`."""
    return certificates.of_this_process().context()


def server():
    """A new context for a server of which nothing is wrong."""
    return _with(certificates.of_this_process().chain)


def expired():
    return _with(_issued("expired", HERE, tuple(LONG_AGO)))


def not_yet_valid():
    return _with(_issued("not-yet-valid", HERE, tuple(TO_COME)))


def other_name():
    """Its certificate is for other.test and 127.0.0.2."""
    return _with(_issued("other-name", "DNS:other.test, IP:127.0.0.2", ("-days", "2")))


def self_signed():
    """Its certificate has the right names, and nobody vouches for it."""
    folder, chain = _place("self-signed")
    configuration = _configuration(folder, "self-signed", HERE)
    certificates.openssl(
        *["req", "-x509", "-config", configuration, "-extensions", "extensions", "-days", "2", "-subj", "/CN=self"],
        *[*_key(), "-keyout", f"{chain}.key", "-out", chain],
    )
    return _with(chain, f"{chain}.key")


@functools.cache
def _issued(name, names, dates):
    """The file of a certificate for these names from the authority, with its key behind it."""
    folder, chain = _place(name)
    configuration = _configuration(folder, name, names)
    request, key = f"{chain}.request", f"{chain}.key"
    certificates.openssl(
        *["req", "-config", configuration, *_key(), "-subj", f"/CN={name}", "-keyout", key, "-out", request]
    )
    with open(os.path.join(folder, "database"), "a"):
        pass  # it has to be there
    certificates.openssl(
        *["ca", "-batch", "-notext", "-config", configuration, "-extensions", "extensions", *dates],
        *["-in", request, "-out", chain],
    )
    with open(key) as source, open(chain, "a") as file:
        file.write(source.read())
    return chain


def _key():
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def _place(name):
    folder = os.path.dirname(certificates.of_this_process().authority)
    return folder, os.path.join(folder, f"{name}-{os.getpid()}.pem")


def _configuration(folder, name, names):
    path = os.path.join(folder, f"{name}-{os.getpid()}.configuration")
    with open(path, "w") as file:
        file.write(CONFIGURATION.format(folder=folder, names=names))
    return path


def _with(chain, key=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context
