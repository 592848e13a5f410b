"""Order books rebuilt from their recorded messages: of one instrument at any instant, of a whole market at many.

A book is given only where it is certain; otherwise the reason is. See `timeline` for what makes it certain.
"""

from lake.books.instant import BookAt, book_at

__all__ = ["BookAt", "book_at"]
