"""Personal data in one text, told by patterns and replaced by marks.

| mark | what it stands for | how it is told |
|---|---|---|
| `<email>` | an e-mail address | its form; spelt out ("ann dot lee at mail dot com") where a false alarm is unlikely |
| `<iban>` | a bank account | the country's length and the remainder modulo 97 (ISO 13616, ISO 7064) |
| `<card>` | a payment card | 13 to 19 digits, spaces and hyphens between, that pass Luhn's check (ISO/IEC 7812-1) |
| `<phone>` | a telephone number | +, 00 or 0 in front; American; 7 digits and more after words such as "call me on" |

Amounts, dates, times, versions and order numbers stay. A device's IMEI and a SIM's number pass Luhn's check too, and
so does one in ten long order numbers: these are masked as cards, since a card that stays is worse. National numbers
without 0 in front (Spain's, Denmark's) are known by the words before them alone, and those words are mostly English.
Names, addresses and dates of birth are not looked for: what is masked is not anonymous.

Digits, letters and hyphens of any script are read. Each text is read a fixed number of times from left to right. This
module travels with every bundle, so it knows Python's own library alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache

KINDS = ("email", "iban", "card", "phone")  # in the order in which they are looked for
MARKS = {kind: f"<{kind}>" for kind in KINDS}
CARD = (13, 19)  # digits
E164 = 15  # digits of a telephone number at most, after +

Span = tuple[int, int]


def masked(text: str) -> tuple[str, dict[str, int]]:
    """A text with marks, and how many of each kind: what holds none of it stays, masking again changes nothing."""
    folded = text if text.isascii() else text.translate(_FOLDED)
    spans: dict[Span, str] = {}
    for kind, hint, find in _FINDERS:
        if hint.search(folded) and (found := list(find(folded))):
            spans |= dict.fromkeys(found, kind)
            folded = replaced(folded, [(start, end, f"<{'_' * (end - start - 2)}>") for start, end in found])
    if not spans:
        return text, {}
    placed = [(start, end, MARKS[kind]) for (start, end), kind in sorted(spans.items())]
    return replaced(text, placed), {kind: list(spans.values()).count(kind) for kind in KINDS}


def replaced(text: str, spans: list[tuple[int, int, str]]) -> str:
    """A text with other words in those places, which are in order and apart."""
    parts, last = [], 0
    for start, end, word in spans:
        parts += [text[last:start], word]
        last = end
    return "".join([*parts, text[last:]])


class _Folding(dict[int, str]):
    """Each character as the patterns know it, one for one: digits and hyphens of any script, full-width letters."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        plain = unicodedata.normalize("NFKC", char)
        plain = plain if len(plain) == 1 else char
        if (digit := unicodedata.decimal(plain, None)) is not None:
            plain = str(digit)
        self[code] = {"Pd": "-", "Zs": " "}.get(unicodedata.category(plain), plain)
        return self[code]


_FOLDED = _Folding()

# Every pattern is bounded in length. One that looks beside what it masks refuses a letter or a digit there, and nothing
# that is masked has one of these beside it, except an e-mail address, which is looked for first: so what one mark
# replaces never uncovers another.

# E-mail addresses: RFC 5321, 4.5.3.1 (64 before the sign); letters are Latin, Greek and Cyrillic, as scripts that write
# without spaces would be taken along with the address.
_L = "0-9A-Za-z\u00c0-\u058f"
_EMAIL = re.compile(
    rf"[{_L}_%+][{_L}_.%+'-]{{0,63}}+@(?:[{_L}](?:[{_L}-]{{0,61}}[{_L}])?\.){{1,8}}[A-Za-z\u00c0-\u058f]{{2,24}}"
)
_DOT = r"(?:\.| dot | ?[\[({] ?(?:dot|\.) ?[\])}] ?)"
_SPELT = re.compile(
    rf"(?<!\w)(?P<name>[{_L}_][{_L}_%+-]{{0,63}}(?:{_DOT}[{_L}_%+-]{{1,64}}){{0,3}}+)"
    rf"(?:(?P<sure> ?[\[({{] ?(?:at|@) ?[\])}}] ?|@)| at | ?@ ?)"
    rf"(?P<host>[{_L}-]{{1,63}})(?:{_DOT}[{_L}-]{{1,63}}){{0,2}}{_DOT}[a-z]{{2,6}}(?!\w)",
    re.I,
)
_JOINED = re.compile(r"[._]| dot ", re.I)
_HOST = re.compile(  # where "ann at gmail dot com" is an address; "bought at amazon dot com" is none
    "aol|btinternet|fastmail|gmail|gmx|googlemail|hotmail|icloud|live|mail|me|msn|outlook|proton|protonmail|rocketmail|"
    "t-online|web|yahoo|yandex|ymail|zoho",
    re.I,
)
_NO_NAME = re.compile(
    "accounts?|address|am|are|arrive|be|e?mails?|in|inbox|is|it|log|logged|login|look(?:ed|ing)?|mailbox|me|on|page|shop|"
    "sign|signed|site|support|us|was|website",
    re.I,
)


def _emails(text: str) -> Iterator[Span]:
    return (found.span() for found in _EMAIL.finditer(text))


def _spelt(text: str) -> Iterator[Span]:
    """Addresses in words: certain in brackets; else the host is one of mail, or the name has a dot or a line in it."""
    at = 0
    while found := _SPELT.search(text, at):
        told = _HOST.fullmatch(found["host"]) or _JOINED.search(found["name"])
        if found["sure"] or (told and not _NO_NAME.fullmatch(found["name"])):
            at = found.end()
            yield found.span()
        else:
            at = found.start() + 1


# Lengths of the IBAN: SWIFT's registry of ISO 13616, release 101.
_REGISTRY = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
    "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
    "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
    "YE30"
)
_IBAN_LENGTH = {item[:2]: int(item[2:]) for item in _REGISTRY.split()}
_IBAN = re.compile(r"(?<!\w)([a-z]{2})[ -]?\d\d", re.I)
_FOURS = re.compile(r"\w{4}(?:[ -]\w{4})*(?:[ -]\w{1,3})?")  # as it is printed


@cache
def _alphanumerics(n: int) -> re.Pattern[str]:
    return re.compile(rf"[a-z](?:[ -]?[a-z0-9]){{{n - 1}}}(?!\w)", re.I)


def _ibans(text: str) -> Iterator[Span]:
    last = 0
    for start in _IBAN.finditer(text):
        length = _IBAN_LENGTH.get(start[1].upper())
        found = _alphanumerics(length).match(text, start.start()) if length and start.start() >= last else None
        if found and _is_iban(found[0]):
            last = found.end()
            yield found.span()


def _is_iban(written: str) -> bool:
    """Whether an IBAN of the right length is valid: ISO 7064, MOD 97-10.

    Examples:
        >>> _is_iban("GB82 WEST 1234 5698 7654 32"), _is_iban("GB82 WEST 1234 5698 7654 33")
        (True, False)
    """
    if " " in written and not _FOURS.fullmatch(written) and sum(char.isdigit() for char in written) < 10:
        return False  # a sentence: "no 16 of the ..."
    plain = re.sub("[ -]", "", written)
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


_CARD = re.compile(r"(?<!\d)(?=[1-9](?:[ -]{0,3}\d){12})\d{3,19}(?!\d)(?:[ -]{1,3}\d{1,16}(?!\d)){0,6}")
_GROUP = re.compile(r"\d+")
_INSIDE = re.compile(r"(?:\w|\d\.)\Z")  # before a number that goes on from the left: a word, a decimal
_STAMP = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d[0-5]\d(?:\d{3})?")


def _cards(text: str) -> Iterator[Span]:
    """From each group of digits on, the longest run that is a card; all groups but its last have 3 digits or more."""
    text = _DATE.sub(lambda date: "/" * len(date[0]), text)  # no part of a card
    at = last = 0
    while found := _CARD.search(text, at):
        start = found.start()
        groups = [group.span() for group in _GROUP.finditer(text, start, found.end())]
        at, ends, digits = groups[0][1], [], ""
        least = E164 + 1 if _COUNTRY.search(text, max(last, start - 8), start) else CARD[0]
        for low, high in groups:
            digits += text[low:high]
            if least <= len(digits) <= CARD[1] and _is_card(digits) and not _WORD.match(text, high):
                ends.append(high)
            if high - low < 3:
                break
        if ends and not _INSIDE.search(text, max(last, start - 2), start):
            at = last = ends[-1]
            yield start, last


_WORD = re.compile(r"\w")
_DATE = re.compile(r"(?<!\d)(?:(?:19|20)\d\d([-/.])\d\d?\1\d\d?|\d\d?([-/.])\d\d?\2(?:19|20)\d\d)(?!\d)")
_COUNTRY = re.compile(r"\+\d{0,3}[ .\-/()0]{0,4}\Z")
_DOUBLED = str.maketrans("0123456789", "0246813579")  # the digits' sum of each, doubled


def _is_card(digits: str) -> bool:
    """Whether Luhn's check passes (ISO/IEC 7812-1, annex B), and it is no time written in one piece.

    Examples:
        >>> _is_card("4111111111111111"), _is_card("4111111111111112")
        (True, False)
    """
    checked = digits[::-2] + digits[-2::-2].translate(_DOUBLED)
    return sum(map(int, checked)) % 10 == 0 and not _STAMP.fullmatch(digits)


# Telephone numbers: ITU-T E.164, E.123 (how they are written), and the North American plan.
_S = r"(?:[ ]{1,2}|[./]|[ ]?[-(][ ]?|[ ]?\)[ ]?-?)?"
# Neither the 2 of "2 days", nor half of a time or a sum, belongs to a number.
_AFTER = r"(?<![ ]\d)(?!\w|[.:/-]\d|[ ]?(?:[€$£¥%](?!\d)|(?:eur|usd|gbp|chf|euros?|dollars?|pounds?|percent|kr)\b))"
_PHONE = re.compile(
    rf"""
    (?<!\d)(?P<date>(?:
        (?:19|20)\d\d(?P<dash>[-/.])\d\d?(?P=dash)\d\d?
      | \d\d?[ ./-]\d\d?[ ./-](?:19|20)\d\d
      | (?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[ T]?\d{{4,6}})?)(?!\d))
  | (?P<world>(?:\((?=\+\d{{1,3}}\)))?\+(?!\d+\.\d\d?(?!{_S}\d))[ ]?
      (?:1(?:{_S}\d){{10}}{_AFTER} | [1-9](?:{_S}\d){{7,14}}{_AFTER}))                      # +49 (0)171 1234567
  | (?:
        (?<!\d)00[1-9](?:{_S}\d){{8,14}}                                                   # 0049 171 1234567
      | (?<!\d)0[1-9](?:{_S}\d){{7,10}}                                                    # 07911 123456
      | (?<!\d)(?:1[ .-])?[2-9]\d\d(?P<sign>[ .-])[2-9]\d\d(?P=sign)\d{{4}}               # 415-555-2671
      | (?:(?<!\d)1[ .-]?)?\([2-9]\d\d\)[ ]?[2-9]\d\d[ .-]?\d{{4}}                       # (415) 555-2671
      | \(0\d{{1,4}}\)(?:{_S}\d){{5,9}}                                                   # (030) 123456
      | \([1-9]\d\)[ ]?\d{{4,5}}[ .-]?\d{{4}}                                             # (11) 91234-5678
    ){_AFTER}
  | (?P<digits>(?<!\d)\d(?:{_S}\d){{6,14}}{_AFTER})
    """,
    re.X | re.I,
)
_EXTENSION = re.compile(r" ?(?:ext\.? ?|x ?)\d{1,6}(?!\w)", re.I)
_GOES_ON = re.compile(r"(?:\w|\d[.:/-])\Z")
_LINK = (
    r"(?:[ :.,=-]+(?:me|us|him|her|them|back|at|on|is|was|my|our|the|to|under|via|new|old|home|work|number|num|no|nr))"
)
_CALL = re.compile(
    r"\b(?:call(?:ed|ing)?|phoned?|phones|telephone|tel|mobile|cell|cellphone|whatsapp|sms|text|texted|fax|dial|"
    r"dialled|dialed|ring|rang|reach|contact|landline|telefon|tel[eé]fono|t[eé]l[eé]phone|handy|m[oó]vil|"
    r"my(?: new| old)? number)"
    rf"{_LINK}*[ :.,=-]*\Z",
    re.I,
)
_OTHER = re.compile(
    r"(?:[^\W\d][-/_]|[#£$€¥] ?|\b(?:(?:eur|usd|gbp|chf) ?|(?:order|invoice|ticket|ref|reference|case|account|acct|"
    r"contract|customer|client|booking|tracking|parcel|shipment|transaction|payment|policy|claim|id|serial|imei|iccid|"
    r"meter|version|item|article|product|code|receipt|statement|sort code)s?"
    r"(?:[ :.#=-]+(?:number|num|no|nr|id|code|is|was))*[ :.#=-]*))\Z",
    re.I,
)
_BESIDE = 60  # characters read in front of a number


def _phones(text: str) -> Iterator[Span]:
    """From left to right, what has the form of a number, unless the words in front say what else it is."""
    at = last = 0
    while found := _PHONE.search(text, at):
        start, at = found.start(), found.end()
        if found["date"]:
            continue
        low = max(last, start - _BESIDE)
        told = _CALL.search(text, low, start)
        other = found["digits"] or (not found["world"] and _OTHER.search(text, low, start))
        if _GOES_ON.search(text, max(last, start - 2), start) or (other and not told):
            at = _GROUP.search(text, start).end()  # type: ignore[union-attr] # a number has digits
            continue
        if more := _EXTENSION.match(text, at):
            at = more.end()
        last = at
        yield start, last


_SEVEN = re.compile(r"\d(?:\D{0,3}\d){6}")
_FINDERS: tuple[tuple[str, re.Pattern[str], Callable[[str], Iterator[Span]]], ...] = (  # with what a text must hold
    ("email", re.compile("@"), _emails),
    ("email", re.compile(r"@|\bat\b.{1,80}?(?:\bdot\b|\.)|[\[({] ?at ?[\])}]", re.I | re.S), _spelt),
    ("iban", _IBAN, _ibans),
    ("card", _SEVEN, _cards),
    ("phone", _SEVEN, _phones),
)
