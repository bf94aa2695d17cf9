"""Every error that melbank raises on purpose. Each also is a builtin, so callers may catch that.

    MelbankError
    |- ConfigError(ValueError)          a wrong call: bad key, bad value, missing csv; exit code 2
    |- AudioError(ValueError)           a recording that cannot be used; becomes a row of rejects
    |- StoreError(OSError)              a store or shard set that is missing, foreign or unreadable
    |  |- NoStoreError(ConfigError)     there is none at the place that was given; exit code 2
    |  |- DamageError                   bytes differ from what was written
    |  |- ObjectMissingError(FileNotFoundError)   no object of that name
    |  |- RemoteError                   an object store refuses, or cannot do, what was asked
    |     |- AccessError(PermissionError)      it does not accept the credentials, or their rights
    |     |- UnsupportedError(NotImplementedError) it knows no such request
    |     |- UnreachableError(ConnectionError) no answer, or none of use: later it may succeed
    |- ObjectExistsError(FileExistsError)   a create-only put met other bytes
    |- NonFiniteLossError               training met a loss that is no number (training/module.py)
    |- RankLostError(RuntimeError)      another rank has gone (training/runtime/ranks.py)

A message states the rule, the numbers and the way out, in one line.
"""

import errno

# What a machine has run out of, or a share that has gone: it says nothing of the file.
OF_THE_MACHINE = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ESTALE, errno.ENOTCONN)
)


class MelbankError(Exception):
    """Root of all errors raised on purpose."""


class ConfigError(MelbankError, ValueError):
    """The call cannot work as given."""


class AudioError(MelbankError, ValueError):
    """A recording gave no usable audio."""


class StoreError(MelbankError, OSError):
    """A store or shard set is missing, foreign or unreadable."""


class NoStoreError(StoreError, ConfigError):
    """There is no store, or shard set, at the place that was given."""


class DamageError(StoreError):
    """Stored bytes are not the bytes that were written."""


class ObjectMissingError(StoreError, FileNotFoundError):
    """There is no object of that name."""


class RemoteError(StoreError):
    """An object store refuses a request, and would again."""


class AccessError(RemoteError, PermissionError):
    """Credentials are missing, wrong or expired, or may not do this."""


class UnsupportedError(RemoteError, NotImplementedError):
    """An object store that knows no such request, or not with these conditions."""


class UnreachableError(RemoteError, ConnectionError):
    """An object store gave no answer of use in time; asked again later, it may."""


def check_machine(error: OSError) -> None:
    """Raises StoreError where an error is of the machine, not of the file that was read."""
    if error.errno in OF_THE_MACHINE:
        where = f"{error.filename}: " if error.filename else ""
        raise StoreError(
            f"{where}{error.strerror}: no fault of the file; once that is over, run this again: it "
            "goes on"
        ) from error


class ObjectExistsError(MelbankError, FileExistsError):
    """A create-only put found other bytes under the name."""
