"""Documents that are generated, so that they cannot be wrong: `python -m relay.docs` writes, `--check` compares.

    settings, models, connectors, commands  ->  docs/*.md, docs/schemas/*.json, docs/asyncapi.json

The same code gives the same bytes. Pages written by hand hold generated parts between markers.
"""

from relay.docs.pages import generated, main, stale

__all__ = ["generated", "main", "stale"]
