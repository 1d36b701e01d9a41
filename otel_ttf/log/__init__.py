"""The event log: masked requests, durable, between receivers and consumers."""
