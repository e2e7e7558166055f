"""What a customer says for an intent: templates with slots (speech.yaml), in a style, with slips of the keyboard."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

OUT_OF_SCOPE = "out_of_scope"
NUMBERS = 24  # random numbers an utterance takes
SLOT = re.compile(r"\{(\w+)\}")
JOINTS = (" and also ", ". Another thing: ", ", and ", ". By the way, ")


@cache
def grammar() -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).parent / "speech.yaml").read_text(encoding="utf-8"))


@cache
def intents() -> tuple[str, ...]:
    """All, out of scope last; a contact's intent is a place here."""
    return (*grammar()["intents"], OUT_OF_SCOPE)


def numbers(key: str) -> np.ndarray:
    """`weight` or `solved` of every intent; for what is out of scope 2.5 and 0.97."""
    return np.array([item[key] for item in grammar()["intents"].values()] + [{"weight": 2.5, "solved": 0.97}[key]])


def _pick(options: Any, u: float) -> str:
    return str(options[int(u * len(options))])


def _said(intent: str, u: list[float], first: int) -> str:
    """A template with its slots filled, from 4 numbers."""
    if intent == OUT_OF_SCOPE:
        return _pick(grammar()["chatter"], u[first])
    template = _pick(grammar()["intents"][intent]["say"], u[first])
    rest = iter(u[first + 1 : first + 4])
    return SLOT.sub(lambda slot: _pick(grammar()["slots"][slot[1]], next(rest)), template)


def _slip(text: str, u: float, kind: float) -> str:
    """Two letters swapped, one left out, or one doubled."""
    at = 1 + int(u * max(1, len(text) - 2))
    if kind < 0.4:
        return text[: at - 1] + text[at : at + 1] + text[at - 1] + text[at + 1 :]
    return text[:at] + text[at + 1 :] if kind < 0.75 else text[:at] + text[at - 1] + text[at:]


def utterance(names: list[str], style: str, u: list[float]) -> str:
    """What somebody says who wants these things.

    Args:
        names: One or two intents.
        style: plain, polite, terse, angry or non_native.
        u: `NUMBERS` numbers in (0, 1) that decide.
    """
    words = grammar()
    text = _said(names[0], u, 0)
    if len(names) > 1:
        text += _pick(JOINTS, u[4]) + _said(names[1], u, 5)
    if u[9] < 0.05 and names[0] != OUT_OF_SCOPE:
        chat = _pick(words["chatter"], u[10])
        text = f"{chat}. {text}" if u[11] < 0.5 else f"{text}. {chat}"
    if style in ("terse", "non_native"):
        share, drops = (0.9, 0.55)[style == "non_native"], words["drops"]
        kept = [w for k, w in enumerate(text.split()) if w not in drops or (u[12] * 97 + k * 0.618) % 1 > share]
        text = " ".join(kept) or text
    frame = words.get(style)
    if frame:
        text = _pick(frame["before"], u[13]) + text + _pick(frame["after"], u[14])
    slips = 0.3 if style == "non_native" else 0.14
    if u[15] < slips:
        text = _slip(text, u[16], u[17])
    if u[15] < slips / 3:
        text = _slip(text, u[18], u[19])
    if u[20] < (0.2 if style == "angry" else 0.01):
        return text.upper()
    return text.lower() if u[21] < 0.4 else text[:1].upper() + text[1:]
