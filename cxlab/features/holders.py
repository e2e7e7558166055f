"""Which words of a text its terms are of, so that what a term adds to a margin can be told of words.

This module travels with every bundle, so it knows Python's own library and its own kind alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from .terms import ANY, LONGEST, NEAR, Terms

_PARTS = re.compile(r"(\w+)")


def occurrences(terms: Terms, words: Sequence[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The terms of a text's words, as `terms` counts them, each with the places of the words that it is of; the term
    that every text has is of none.

    Examples:
        >>> list(occurrences(Terms("words", 2), ["my", "card"]))
        [('my', (0,)), ('card', (1,)), ('my card', (0, 1))]
    """
    n = len(words)
    if terms.kind == "words":
        for size in range(1, max(1, terms.longest) + 1):
            yield from ((" ".join(words[i : i + size]), tuple(range(i, i + size))) for i in range(n - size + 1))
    elif terms.kind == "pieces":
        pieces = {word: [each for each in terms(word) if each != ANY] for word in dict.fromkeys(words)}
        yield from ((piece, (i,)) for i, word in enumerate(words) for piece in pieces[word])
    else:
        stems = [word[: terms.longest] for word in words]
        near = ((i, j) for i in range(n) for j in range(i + 1, min(n, i + 1 + NEAR)))
        yield from ((f"{min(stems[i], stems[j])} {max(stems[i], stems[j])}", (i, j)) for i, j in near)


def without(text: str, word: str) -> str:
    """A text without a word, in whatever case.

    Examples:
        >>> without("My card, my CARD is gone", "card")
        'My , my  is gone'
    """
    normal = unicodedata.normalize("NFKC", text[:LONGEST])
    return "".join(part for part in _PARTS.split(normal) if part.lower() != word)
