"""`python -m relay.docs [--check]`."""

import sys

from relay.docs.pages import main

sys.exit(main(sys.argv[1:]))
