"""relay: purchase orders out of ERPs, as ordered events on Kafka and as signed webhooks."""
