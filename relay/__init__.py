"""relay: purchase orders out of ERPs, as ordered events on Kafka and as signed webhooks."""

from importlib.metadata import version

__version__ = version("erp-relay")
