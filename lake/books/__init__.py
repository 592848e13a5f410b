"""Order books rebuilt from their recorded messages: of one instrument at any instant, of a whole market at many.

A book is given only where it is certain; otherwise the reason is, and an imported one is marked as not proven. See
`timeline` for what makes it certain.
"""

from lake.books.instant import BookAt, book_at, imported_days

__all__ = ["BookAt", "book_at", "imported_days"]
