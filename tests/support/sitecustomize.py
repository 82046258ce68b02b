"""Read by each Python that a test starts, where this folder is on its path: see over_tls.py."""

import os

if "MCEXT_TLS" in os.environ:
    import over_tls

    over_tls.begin()
