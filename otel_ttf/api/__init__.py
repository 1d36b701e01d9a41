"""The HTTP application on the API port: one file per group of routes."""
