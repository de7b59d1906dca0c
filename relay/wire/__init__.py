"""What touches the network: ERP transport, webhook sender, Kafka."""
