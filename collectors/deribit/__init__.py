"""Deribit: how its messages read and what they mean; the connection lives apart from the pure mapping."""
