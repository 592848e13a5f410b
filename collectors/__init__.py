"""From a venue's socket to the spool, and from a venue's words to the lake's columns. Knows no table writer."""
