"""`mcext` on the command line: docs/command-line.md is its guide.

    mcext get greeting --servers 10.0.0.1:11211,10.0.0.2:11211
    mcext top 10.0.0.1:11211 10.0.0.2:11211

The verbs are the rows of mcext.cli.verbs. Nothing else of the package imports this folder.
"""
