"""python-memcached's insides in Python: `_Host`, and the way of a call for whoever replaces one of them.

A client that replaces nothing never comes here for a call: mcext._core makes it.
"""
