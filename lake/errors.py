"""The errors of the lake, and the two questions every handler asks of them.

    LakeError
    ├── InputError                 what the user gave is wrong; the message names the place and the cure
    │   ├── SettingsError          a setting is unknown, malformed or half-given
    │   ├── RootError              the folder is not a lake, or a lake this version must not touch
    │   └── QueryError             the SQL was refused; carries the engine's own message
    ├── TransientError             may succeed if tried again; retried, then told
    │   ├── BusyError              another process holds the lock of this stream or table
    │   ├── DiskFullError          no space left; recording resumes by itself once there is
    │   └── VenueUnavailableError  the venue is unreachable, in maintenance or rate limiting us
    ├── TerminalError              trying again cannot help
    │   ├── CorruptionError        bytes that were durable are no longer what was written
    │   ├── SchemaDriftError       data does not fit the schema contract
    │   ├── VenueRefusedError      the venue understood the request and said no
    │   └── LimitExceededError     a SQL statement needs more than its settings allow
    └── CommitError                a Delta commit did not return success
        ├── CommitFailedError      it certainly did not land: files may be cleaned up, retry is safe
        └── CommitUnknownError     it may have landed: look at the table before anything else

1. *Transient or terminal?* decides between trying again and telling somebody.
2. *Failed or unknown?* decides, for commits, between cleaning up and looking first.

Handlers branch on the type and never on the text of a message.
"""

from __future__ import annotations

from lake.redaction import redact


class LakeError(Exception):
    """Base of every error this project raises on purpose; its text is one line for a person, without secrets."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(redact(arg) if isinstance(arg, str) else arg for arg in args))


class InputError(LakeError):
    """What the user gave is wrong; nothing was changed and nothing is lost."""


class SettingsError(InputError):
    """A setting is unknown, malformed or half-given."""


class RootError(InputError):
    """The folder is not a lake, or is a lake that this version must not touch."""


class QueryError(InputError):
    """The SQL engine refused the statement; the message is the engine's own."""


class TransientError(LakeError):
    """May succeed if tried again."""


class BusyError(TransientError):
    """Another process holds the lock."""


class DiskFullError(TransientError):
    """No space is left on the device."""


class VenueUnavailableError(TransientError):
    """The venue cannot be reached, is in maintenance or asks us to slow down."""


class TerminalError(LakeError):
    """Trying again cannot help."""


class CorruptionError(TerminalError):
    """Bytes that were durable are no longer what was written."""


class SchemaDriftError(TerminalError):
    """Data does not fit the schema contract."""


class VenueRefusedError(TerminalError):
    """The venue understood the request and refused it."""


class LimitExceededError(TerminalError):
    """A SQL statement needs more memory, disk or time than its settings allow; the message names the setting."""


class CommitError(LakeError):
    """A Delta commit did not return success."""


class CommitFailedError(CommitError):
    """The commit certainly did not land: its files may be cleaned up and it may be retried."""


class CommitUnknownError(CommitError):
    """The commit may have landed: look at the table before cleaning up or retrying."""
