"""PostgreSQL and a Kafka-protocol broker from wheels, so that nothing has to be installed."""
