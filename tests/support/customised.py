"""A client that replaces one of python-memcached's insides by its equal, so that every call goes through mcext.pure."""

import os

NAME = "MCEXT_WAY"  # in the environment of the programs that tests start


def is_wanted():
    return os.environ.get(NAME) == "customised"


def customise(client_class, setattr=setattr):
    original = client_class._encode_key
    setattr(client_class, "_encode_key", lambda self, key: original(self, key))
