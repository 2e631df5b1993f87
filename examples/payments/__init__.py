"""Detection of payment fraud by card: an example to copy."""
