"""`python -m mcext`: the command `mcext`. Without a verb: what is installed, and whether `import memcache` finds it."""

import sys

from mcext.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
