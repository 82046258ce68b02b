"""A client whose calls go the way in Python, beside others whose do not (customised.py is for all of a test)."""

import mcext


class Passing(mcext.Client):
    """One that replaces an inside by its equal."""

    def _get_server(self, key):
        return super()._get_server(key)
