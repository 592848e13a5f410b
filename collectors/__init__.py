"""From a venue's socket to the spool, and from its words to the lake's columns. Knows no table writer."""
