"""Files that users already own become rows of the lake: known formats, or any table with a mapping."""

from pipeline.importing.formats import TARDIS, FileFormat
from pipeline.importing.mapping import read_mapping
from pipeline.importing.run import ImportReport, import_files, try_files

__all__ = ["TARDIS", "FileFormat", "ImportReport", "import_files", "read_mapping", "try_files"]
