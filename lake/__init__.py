"""The store: layout of the root, spool, Delta tables, encodings, SQL views. Knows no venue."""
