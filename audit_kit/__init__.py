"""audit-kit: compliance and audit analytics on token-exchange logs."""

__version__ = "0.1.0"
