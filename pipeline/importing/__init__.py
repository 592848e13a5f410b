"""Files that users already own become rows of the lake: known formats, or a CSV with a mapping."""

from pipeline.importing.formats import TARDIS, FileFormat, read_mapping
from pipeline.importing.run import ImportReport, import_files

__all__ = ["TARDIS", "FileFormat", "ImportReport", "import_files", "read_mapping"]
