"""Greeks of the lake's own: the stored table, the same numbers on read, and their comparison with the venue's."""

from pipeline.derive_greeks.job import GreeksReport, derive_greeks
from pipeline.derive_greeks.on_read import sql_greeks, with_greeks
from pipeline.derive_greeks.settings import GreeksSettings

__all__ = ["GreeksReport", "GreeksSettings", "derive_greeks", "sql_greeks", "with_greeks"]
