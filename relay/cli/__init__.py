"""The command line. Commands are thin: read what was given, call an operation, show what came of it.

Exit codes: 0 done, 1 failed, 2 what was given cannot be used, 3 something needed does not answer, 4 not found,
130 interrupted.
"""

from relay.cli.program import main

__all__ = ["main"]
