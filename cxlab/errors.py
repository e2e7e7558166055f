"""Errors a person can mend. Every message gives the value, the rule and the remedy; the wording lives here.

The command line prints the message of a `CxlabError` and exits with status 2. Anything else is our bug and
keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CxlabError(Exception):
    """The input or the usage is wrong. The message says how to mend it."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message, as the command line does."""
        return [f"{type(self).__name__}: {self}"]


class ParamsError(CxlabError):
    """A params file, an override or an argument does not fit."""


class DataError(CxlabError):
    """A data file cannot be used as it is."""


class StoreError(CxlabError):
    """The tracking store cannot be read or written."""


class BundleError(CxlabError):
    """A bundle is not what was exported, or can't be made."""


class NotebookError(CxlabError):
    """A notebook did not return what it declares."""


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'tenure'?`, or nothing where no name is near.

    Examples:
        >>> nearest("tenur", ["tenure", "churn"])
        " Did you mean 'tenure'?"
        >>> nearest("zzz", ["tenure", "churn"])
        ''
    """
    folded = {item.casefold(): item for item in known}
    match = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f" Did you mean {folded[match[0]]!r}?" if match else ""


def listed(names: Iterable[object], most: int = 30) -> str:
    """Names in one line, cut after `most`.

    Examples:
        >>> listed("abc", most=2)
        'a, b and 1 more'
    """
    items = [str(name) for name in names]
    if len(items) <= most:
        return ", ".join(items)
    return f"{', '.join(items[:most])} and {len(items) - most} more"


def unknown(what: str, name: str, known: Iterable[str], where: str = "known") -> str:
    """The message for a name that is not among the known ones."""
    names = list(known)
    return f"{what} {name!r} is not {where}.{nearest(name, names)} {what}s: {listed(names)}."


def missing_column(name: str, columns: Iterable[str]) -> DataError:
    return DataError(unknown("Column", name, columns, where="in the data"))
