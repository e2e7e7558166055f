"""Names of people in texts, told by a spaCy model that somebody brings (extra `privacy`). The door to spaCy.

    find = people("models/my_names")        # a folder, as spaCy's `to_disk` writes it
    list(find(["Ann Lee called."]))         # [[(0, 7)]]

No model is fetched, and none is loaded that may hold a pickle: those on transformers keep torch's weights so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from cxlab.data.personal import Span
from cxlab.errors import DataError, ParamsError

LABELS = frozenset({"PERSON", "PER"})
LONGEST = 100_000  # characters of a text that are read: spaCy's memory grows with them
BATCH = 256

Find = Callable[[Iterable[str]], Iterator[list[Span]]]


def people(folder: str | Path) -> Find:
    """What finds where people are named.

    Args:
        folder: Of a spaCy model.
    Returns:
        Texts to the places of names in each, in order and apart.
    Raises:
        ParamsError: spaCy is not installed, or the folder is not there.
        DataError: It holds no model, or one that we do not load.
    """
    folder = Path(folder)
    if find_spec("spacy") is None:
        raise ParamsError('data.names needs spaCy: pip install "cxlab[privacy]".')
    if not folder.is_dir():
        raise ParamsError(f"data.names == {str(folder)!r}, must be the folder of a spaCy model; none is fetched.")
    try:
        told = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} holds no spaCy model: its meta.json cannot be read ({error}).") from None
    config = (folder / "config.cfg").read_text(encoding="utf-8") if (folder / "config.cfg").exists() else ""
    if "transformer" in config or "torch" in config.lower():
        raise DataError(f"{folder} is a model on transformers, whose weights are pickled. Bring one without.")
    import spacy

    try:
        model = spacy.load(folder)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise DataError(f"{folder} ({told.get('name')}) cannot be loaded by spaCy: {error}") from None
    if not {"ner", "entity_ruler", "span_ruler"} & set(model.pipe_names):
        raise DataError(f"{folder} ({told.get('name')}) tells no names: it has the steps {model.pipe_names}.")

    def find(texts: Iterable[str]) -> Iterator[list[Span]]:
        cut = (text[:LONGEST].encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts)
        for found in model.pipe(cut, batch_size=BATCH):
            yield [(each.start_char, each.end_char) for each in found.ents if each.label_ in LABELS]

    return find
