"""Do customers still speak of the same, in the same words? Two samples of texts, by their words.

Which words are used is compared by the Jensen-Shannon distance (Lin 1991, Divergence measures based on the Shannon
entropy; Endres and Schindelin 2003), which two samples of one world have too, the larger the rarer their words: so it
is held against what it is when the texts are dealt into two samples at random. What is named in words are single words
that several texts hold, never a text.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from scipy import sparse, stats

from cxlab.evidence.shift import FEWEST, RARE, Finding, ks, shares_missing, untested
from cxlab.features.terms import words_of

DEALS = 199  # random deals of the texts
MOST = 20_000  # texts of a sample that are compared: more add little and take long
NAMED = 3  # words in a reason


def text_tests(reference: np.ndarray, current: np.ndarray, *, seed: int = 0) -> list[Finding]:
    """All tests of a column of texts: which words, words never seen, how many words, and texts that are missing.

    Args:
        reference: Cast texts, shape (n_reference,); a missing one is empty.
        current: The same, shape (n_current,).
        seed: Of the deals, and of samples of more than 20,000 texts.
    """
    rng = np.random.default_rng(seed)
    before, now = (_words(part[part != ""], rng) for part in (reference, current))
    missing = shares_missing(reference == "", current == "")
    if min(len(before), len(now)) < FEWEST:
        return [untested("vocabulary", len(before), len(now)), missing]
    return [_vocabulary(before, now, rng), missing, _new_words(before, now), _length(before, now)]


def _words(texts: np.ndarray, rng: np.random.Generator) -> list[list[str]]:
    """The words of each text, in an order that does not depend on that of the rows."""
    texts = np.sort(texts)
    kept = texts if len(texts) <= MOST else texts[np.sort(rng.choice(len(texts), MOST, replace=False))]
    return [words_of(text) for text in kept]


def _vocabulary(before: list[list[str]], now: list[list[str]], rng: np.random.Generator) -> Finding:
    """Jensen-Shannon distance of the shares of words, by permutation (Good 2005, Permutation tests, chapter 3).

    p is (1 + deals at least as far apart) / (1 + deals). Size: the share of words that differ, half the sum of the
    absolute differences of the shares, less what it is on average of the deals; luck and change add up by squares.
    """
    texts = before + now
    held = Counter(word for words in texts for word in set(words))
    common = sorted(word for word, count in held.items() if count >= RARE)
    place = {word: i for i, word in enumerate(common)}  # all others share the last column
    row = np.repeat(np.arange(len(texts)), list(map(len, texts)))
    column = [place.get(word, len(common)) for words in texts for word in words]
    counts = sparse.csr_array((np.ones(len(row)), (row, column)), shape=(len(texts), len(common) + 1))
    total = counts.sum(axis=0)
    here = np.zeros((len(texts), 1))
    here[len(before) :] = 1
    deals = rng.permuted(np.repeat(here, DEALS, axis=1), axis=0)
    current = (counts.T @ np.concatenate([here, deals], axis=1)).T
    shares = [_shares(total - current), _shares(current)]
    apart = np.sqrt(np.maximum(_divergence(*shares), 0.0))
    differ = np.abs(shares[1] - shares[0]).sum(axis=1) / 2
    p = (1 + int((apart[1:] >= apart[0] - 1e-12).sum())) / (1 + DEALS)
    size = float(np.sqrt(max(0.0, differ[0] ** 2 - differ[1:].mean() ** 2)))
    said = _moved_words(common, shares[0][0], shares[1][0])
    return Finding("", "vocabulary", float(apart[0]), p, size, f"{size:.1%} of the words are others: {said}")


def _shares(counts: np.ndarray) -> np.ndarray:
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _divergence(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence in bits, row by row."""
    mean = (one + other) / 2

    def surprise(p: np.ndarray) -> np.ndarray:
        return np.where(p > 0, p * np.log2(np.divide(p, mean, out=np.ones_like(p), where=p > 0)), 0.0).sum(axis=1)

    return (surprise(one) + surprise(other)) / 2


def _moved_words(common: list[str], before: np.ndarray, now: np.ndarray) -> str:
    apart = np.abs(now - before)[: len(common)]
    loudest = np.argsort(-apart, kind="stable")[:NAMED]
    return ", ".join(f"{common[i]!r} went from {before[i]:.1%} to {now[i]:.1%}" for i in loudest) or "rare ones"


def _new_words(before: list[list[str]], now: list[list[str]]) -> Finding:
    """Are words used that the reference never held, beyond those that any further text adds?

    Of each current text the share of words that no reference text holds; of each reference text the share of those that
    no other one holds. They are compared by the rank-sum test (Mann and Whitney 1947), one-sided.
    """
    held = Counter(word for words in before for word in set(words))
    alone = np.array([np.mean([held[word] == 1 for word in words]) if words else 0.0 for words in before])
    fresh = np.array([np.mean([word not in held for word in words]) if words else 0.0 for words in now])
    size = float(fresh.mean() - alone.mean())
    if not alone.any() and not fresh.any():
        return Finding("", "new words", 0.0, 1.0, 0.0, "")
    p = float(stats.mannwhitneyu(fresh, alone, alternative="greater", method="asymptotic").pvalue)
    reason = f"words not seen before went from {alone.mean():.1%} to {fresh.mean():.1%}"
    return Finding("", "new words", size, p, max(0.0, size), reason)


def _length(before: list[list[str]], now: list[list[str]]) -> Finding:
    found = ks(*(np.array(list(map(len, part)), np.float64) for part in (before, now)))
    one, other = (np.median(list(map(len, part))) for part in (before, now))
    reason = f"{found.size:.0%} of texts are longer or shorter; the median went from {one:g} to {other:g} words"
    return Finding("", "length", found.statistic, found.p, found.size, reason)
