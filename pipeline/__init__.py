"""Jobs from spool and tables to tables; each can be run twice with the same result."""
