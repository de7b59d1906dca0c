"""Serve one Tryton database over HTTP on a socket that is already listening.

    python tryton_serve.py CONFIG DATABASE FD

Runs inside Tryton's own environment and does what the `trytond` command does, with two differences: the socket comes
from the parent, so no port is guessed and lost to somebody else; and the server ends when its standard input does,
so it cannot outlive the parent, however that one dies. Foreign modules are imported by name, after the configuration.
"""

import logging
import os
import sys
from importlib import import_module
from threading import Thread


def main(config_file: str, database: str, listening: int) -> None:
    """Load the database's modules, then answer until standard input ends."""
    Thread(target=end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # one line per request otherwise
    import_module("trytond.config").update_etc([config_file])
    pool = import_module("trytond.pool").Pool
    app = import_module("trytond.wsgi").app
    pool.start()
    pool(database).init()
    make_server = import_module("werkzeug.serving").make_server
    make_server("127.0.0.1", 0, app, threaded=True, fd=listening).serve_forever()


def end_with_parent() -> None:
    """Wait for the end of standard input; the parent holds its other end and never writes."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
