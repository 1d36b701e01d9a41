"""Who may do what: API keys, tokens of an issuer, certificates, limits. What the doors ask is in gate.py."""
