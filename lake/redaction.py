"""Texts without what must stay secret: whatever is told to people or kept on disk goes through here."""

from __future__ import annotations

import re
from typing import Final

_CREDENTIALS: Final = re.compile(r"""(?<=://)(?:[^\s/?#'"]*|[^\s/?#:@'"]+:(?!\d{1,5}(?:[/?#]|$))[^\s'"]*)@""")
"""User and password before the host; a password may hold the very characters that end a host."""
_PARAMETERS: Final = re.compile(
    r"""(?i)(?<=[?&;])([\w.%-]*(?:token|secret|pass|pwd|key|auth|sig|cred|session)[\w.%-]*=)[^\s&;#'"]+"""
)
"""Of the query of an address, any value whose name has such a word in it."""
_NAMED: Final = re.compile(
    r"""(?i)\b((?:\w*(?:token|secret|password|passwd|api[_-]?key|signature)|(?:proxy-)?authorization)"""
    r"""["']?\s*[=:]\s*["']?(?:(?:basic|bearer)\s+)?)([^\s&,;'"]+)"""
)
"""Elsewhere only what is certainly a secret: a message may well speak of a key and a colon."""


def without_credentials(url: str) -> str:
    """An address without user and password."""
    return _CREDENTIALS.sub("", url)


def redact(text: str) -> str:
    """`text` without user and password of addresses, and without the values of what is named like a secret."""
    return _NAMED.sub(r"\1…", _PARAMETERS.sub(r"\1…", _CREDENTIALS.sub("…@", text)))
