"""Deribit: its connection and calls, and apart from them the pure mapping of its messages."""
