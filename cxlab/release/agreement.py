"""How far the reasons that a bundle gives agree with the lab's, on test rows; it goes into the manifest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from cxlab.evidence.explain import contributions
from cxlab.evidence.sequence_occlusion import occlusion
from cxlab.evidence.words import words_for
from cxlab.models.subject import Subject
from cxlab.release.folder import AnyBundle
from cxlab.release.scorer import SMALL, Bundle
from cxlab.release.sequence_scorer import OCCLUDED, SequenceBundle
from cxlab.release.text_scorer import TextBundle

COMPARED, COMPARED_SLOWLY = 500, 60  # test rows; fewer where each word of each has to be left out
TOP = 3
Pairs = Iterable[tuple[np.ndarray, np.ndarray]]


def agreement(subject: Subject, bundle: AnyBundle) -> dict[str, float | int]:
    """A bundle's reasons beside SHAP's, or beside the lab's own of words or events.

    Returns:
        `rows`; `first`, the share of rows whose strongest raising reason is the same; `top3`, the mean share of the
        lab's three strongest raising reasons among the bundle's; `rank`, the mean rank correlation of all effects in a
        row. A share that no row tells is left out. Of sequences a row is a case.
    """
    if isinstance(bundle, SequenceBundle):
        pairs = list(_of_events(subject, bundle))
        return {"rows": len(pairs), **_agreeing(pairs)}
    slow = isinstance(bundle, TextBundle) and not bundle.speaker.additive
    count = min(COMPARED_SLOWLY if slow else COMPARED, len(subject.test))
    rows = subject.test.sample(count, random_state=0)
    if isinstance(bundle, TextBundle):
        return {"rows": count, **_agreeing(_of_words(subject, bundle, rows))}
    assert isinstance(bundle, Bundle)
    return {"rows": count, **_agreeing(_of_columns(subject, bundle, rows))}


def _of_columns(subject: Subject, bundle: Bundle, rows: pd.DataFrame) -> Pairs:
    told = contributions(subject.model, rows, background=subject.train)
    place = {name: j for j, name in enumerate(told.columns)}
    shap = np.column_stack([told.values[:, [place[name] for name in group]].sum(axis=1) for group in bundle.groups])
    cast = bundle.schema.cast(rows)
    return zip(bundle.effects(cast, bundle.probability(cast)), shap, strict=True)


def _of_words(subject: Subject, bundle: TextBundle, rows: pd.DataFrame) -> Pairs:
    told = words_for(subject, subject.texts(rows))
    by_row = dict(iter(told.frame().groupby("row")[["word", "contribution"]]))
    for row, (text, intent) in enumerate(zip(told.texts, told.intents, strict=True)):
        if row in by_row:
            ours = bundle.speaker.contributions(text, bundle.labels.index(intent))
            told_words, theirs = by_row[row]["word"], by_row[row]["contribution"]
            yield np.array([ours.get(word, 0.0) for word in told_words]), theirs.to_numpy()


def _of_events(subject: Subject, bundle: SequenceBundle) -> Pairs:
    cases = subject.test[str(subject.params.data.case)]
    for name in pd.Series(cases.unique()).sample(frac=1, random_state=0)[:COMPARED_SLOWLY]:
        rows = subject.test[cases == name]
        theirs = occlusion(subject, rows).frame()["change"].to_numpy()[::-1][:OCCLUDED]
        yield bundle.spoken_for(rows), theirs


def _agreeing(pairs: Pairs) -> dict[str, float]:
    first: list[float] = []
    top: list[float] = []
    rank: list[float] = []
    for ours, theirs in pairs:
        strongest = _raising(theirs)
        if strongest:
            mine = _raising(ours)
            first.append(float(mine[:1] == strongest[:1]))
            top.append(len(set(mine) & set(strongest)) / len(strongest))
        if np.ptp(ours) > 0 and np.ptp(theirs) > 0:
            rank.append(float(pd.Series(ours).corr(pd.Series(theirs), method="spearman")))
    found = {"first": first, "top3": top, "rank": rank}
    return {name: float(np.mean(each)) for name, each in found.items() if each}


def _raising(effects: Sequence[float] | np.ndarray) -> list[int]:
    order = np.argsort(-np.asarray(effects), kind="stable")[:TOP]
    return [int(j) for j in order if effects[j] > SMALL]
