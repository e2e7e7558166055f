"""Personal data is masked in any sentence; what is none stays byte for byte."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxlab.data.privacy import KINDS, mask
from cxlab.errors import DataError

PLAIN = [  # what must stay as it is
    "I was charged £1,250.00 twice on 2024-01-15.",
    "My rent of 1 200 000 COP left on 15/01/2024 at 10:30.",
    "The transfer of EUR 12.500,75 is pending since 01.02.2024 10:30.",
    "Why is it taking so long? It's 2018, not 1818.",
    "My order 4738291 has not arrived, the invoice is INV-2024-001234.",
    "Order number 0123456789 was cancelled.",
    "Ticket #00451234567 is still open.",
    "Case ref. 0791112345 is closed.",
    "I pay from account 12345678 with sort code 20-00-00.",
    "My customer id is 0045678912.",
    "Tracking no. 0098765432101 shows nothing.",
    "It failed with version 1.2.3.4 of the app, and 10.15.7 of the system.",
    "My router is at 192.168.100.1 and answers 10.0.0.255.",
    "Call 611 or 112 for help; the short code is 80808.",
    "The hotline 116 117 is free.",
    "I used 1234567 kB of 2.5 GB, that is 49.38 %.",
    "The fee is 0.123456789 BTC.",
    "The rate is 1.0823456789 today, up +0.35 %.",
    "It happened between 08:00-17:00 on 24/7 support.",
    "Opening hours are 09.00-12.30 13.30-18.00.",
    "From 2024-01-15 to 2024-02-15 I paid 3 x 19.99.",
    "Statement 20240115-20240215, created 20240116103000.",
    "Call me on 2024-01-15 at 10:30 please.",
    "I called on 15 01 2024 and again on 16.01.2024.",
    "You can phone 24 hours a day, 365 days a year.",
    "A top up of 1,234,567.89 was rejected.",
    "The balance is 1.234.567,89 and should be 1.234.657,89.",
    "I paid $4155552671 by mistake.",
    "Pay 0171234567 EUR, it says.",
    "A signed amount: +1234567.89 and -1234567.89.",
    "My PIN is 4 digits, the code 123456 came by SMS.",
    "My card ending in 1111 was declined.",
    "The card 4111 1111 1111 1112 is no card, says the check.",
    "The IBAN GB82 WEST 1234 5698 7654 33 is refused, it says.",
    "Is 25 days enough to get it, or no 16 of the list?",
    "at 61 a piece it 60 was a bargain",
    "My plan has 5G, 100GB, 1000 minutes, 5000 SMS.",
    "The serial number is SN0123456789X.",
    "Part AB-0123456789 is missing.",
    "I bought it at amazon dot com.",
    "I ordered at amazon.com yesterday, not at ebay.co.uk.",
    "Look at gmail dot com, it is down.",
    "My account at gmail.com is locked.",
    "Write to @bank_help, they answer.",
    "Is it 5@2.50 or 2@5?",
    "meet @ noon . community centre",
    "I was at the shop. Come on!",
    "Who is at the door? Dot com people.",
    "Room 4.12, floor 3, desk 0815.",
    "The year 2023 was 12 % worse than 2022, 2021 and 2020.",
    "1 2 3 4 5 6 7 8 9 10 11 12 13",
    "Chapter 1.1.1.1.1.1.1.1 of the terms",
    "π is 3.14159265358979, e is 2.71828182845905.",
    "Coordinates 52.5200, 13.4050",
    "Ich zahle 49,99 € im Monat seit 01.03.2023.",
    "Le virement de 1 250,50 € du 12/03/2024 est en attente.",
    "كم يكلف 100 دولار؟",
    "我的卡还没到，已经等了14天",
    "Thanks 😀👍 10/10!!!",
    "<email> and <phone> were masked before, <card> and <iban> too.",
    "",
    " \t\n ",
]

PERSONAL = [  # what must be masked, and what stays around it
    ("Mail me at ann.lee@example.com, please.", "Mail me at <email>, please."),
    ("mailto:ann+bank@mail.example.co.uk?", "mailto:<email>?"),
    ("<ann_lee@example.org>", "<<email>>"),
    ("jörg@müller.de wrote", "<email> wrote"),
    ("ANN@EXAMPLE.COM/bob@example.com", "<email>/<email>"),
    ("ann＠example．com", "<email>"),
    ("请发到zhang@example.com谢谢", "请发到<email>谢谢"),
    ("it is john dot doe at example dot com ok", "it is <email> ok"),
    ("john.doe at example.com is mine", "<email> is mine"),
    ("ann at gmail dot com", "<email>"),
    ("ann @ gmail.com", "<email>"),
    ("ann (at) firm (dot) de", "<email>"),
    ("ann[at]firm.de!", "<email>!"),
    ("Call me on +44 20 7946 0958.", "Call me on <phone>."),
    ("tel:+49-171-1234567", "tel:<phone>"),
    ("+49 (0)171 1234567 is new", "<phone> is new"),
    ("0049 171 1234567", "<phone>"),
    ("my mobile 07911 123456 is lost", "my mobile <phone> is lost"),
    ("07911123456", "<phone>"),
    ("(020) 7946 0958 or 0171/1234567", "<phone> or <phone>"),
    ("06 12 34 56 78, 06.12.34.56.78", "<phone>, <phone>"),
    ("+33 6 12 34 56 78", "<phone>"),
    ("415-555-2671", "<phone>"),
    ("(415) 555-2671 x123 after 5", "<phone> after 5"),
    ("1-800-555-0199 costs nothing", "<phone> costs nothing"),
    ("call 07911 123456 2 days later", "call <phone> 2 days later"),
    ("+971501523494 5 %", "<phone> 5 %"),
    ("+4111 1111 1111 1111", "+<card>"),
    ("+34 612 222 222 2024-01-15", "<phone> 2024-01-15"),
    ("+55 11 92942-7489 2024-01-15", "<phone> 2024-01-15"),
    ("07911 123456 €7", "<phone> €7"),
    ("+1 415 555 2671 10 times", "<phone> 10 times"),
    ("415.555.2671 / 415 555 2672", "<phone> / <phone>"),
    ("(11) 91234-5678", "<phone>"),
    ("call me back on 612 345 678", "call me back on <phone>"),
    ("Tel. 5551234", "Tel. <phone>"),
    ("my number is 4155552671", "my number is <phone>"),
    ("WhatsApp: 98765 43210", "WhatsApp: <phone>"),
    ("+972‑52‑123‑4567", "<phone>"),
    ("٠١٧١ ١٢٣٤٥٦٧", "<phone>"),
    ("\u200f+971 50 123 4567\u200f", "\u200f<phone>\u200f"),
    ("order 4738291, call 07911 123456 at 10:30", "order 4738291, call <phone> at 10:30"),
    ("card 4111 1111 1111 1111 03/27 123", "card <card> 03/27 123"),
    ("4111-1111-1111-1111,5500000000000004", "<card>,<card>"),
    ("pay 100 3782 822463 10005 now", "pay 100 <card> now"),
    ("4222222222222", "<card>"),
    ("6304 0000 0000 0000 000", "<card>"),
    ("4111\u00a01111\u00a01111\u00a01111", "<card>"),
    ("4111 - 1111 - 1111 - 1111", "<card>"),
    ("DE89 3704 0044 0532 0130 00 please", "<iban> please"),
    ("iban:gb82west12345698765432.", "iban:<iban>."),
    ("NO9386011117947,MT84MALT011000012345MTLCAST001S", "<iban>,<iban>"),
    ("FR14 2004 1010 0505 0001 3M02 606 and 7 more", "<iban> and 7 more"),
    ("DE89-3704-0044-0532-0130-00", "<iban>"),
    (
        "From DE89370400440532013000 with 4111111111111111, +44 20 7946 0958, a@b.io",
        "From <iban> with <card>, <phone>, <email>",
    ),
]  # fmt: skip


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_personal_data_stays(text: str) -> None:
    masked = mask([text])
    assert masked.texts == (text,)
    assert masked.counts == dict.fromkeys(KINDS, 0)


@pytest.mark.parametrize(("text", "expected"), PERSONAL)
def test_personal_data_is_masked(text: str, expected: str) -> None:
    assert mask([text]).texts == (expected,)


WORDS = (
    "please I my the card was sent charged twice 12 3.50 £20 yesterday 2024-01-15 10:30 why? 😀 über 卡 to: fee, €7 5%"
)
SENTENCES = st.lists(st.sampled_from(WORDS.split()), max_size=6).map(" ".join)
DIGITS = st.text("0123456789", min_size=40, max_size=40)


def luhn_digit(digits: str) -> str:
    """ISO/IEC 7812-1, annex B, digit by digit."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


@st.composite
def cards(draw: st.DrawFn) -> str:
    prefix = draw(st.sampled_from(["4", "51", "2221", "34", "37", "36", "6011", "62", "35", "50", "9792"]))
    size = draw(st.integers(13, 19))
    digits = (prefix + draw(DIGITS))[: size - 1]
    digits += luhn_digit(digits)
    sign = draw(st.sampled_from(["", " ", "-", "\u00a0", "–"]))
    sizes = (4, 6, 9) if digits[0] == "3" else (4, 4, 4, 7)
    parts, rest = [], digits
    for each in sizes:
        parts, rest = [*parts, rest[:each]], rest[each:]
    return sign.join(part for part in parts if part)


STRUCTURES = {  # of the national part: SWIFT's registry; n digits, a capitals, c both
    "DE": "18n", "GB": "4a14n", "FR": "10n11c2n", "ES": "20n", "IT": "1a10n12c", "NL": "4a10n", "NO": "11n",
    "BE": "12n", "PL": "24n", "MT": "4a5n18c", "CH": "5n12c", "SA": "2n18c", "BR": "23n1a1c", "LC": "4a24c",
    "SE": "20n", "TR": "6n16c",
}  # fmt: skip


@st.composite
def ibans(draw: st.DrawFn) -> str:
    country = draw(st.sampled_from(sorted(STRUCTURES)))
    part, kinds = "", {"n": "0123456789", "a": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    kinds["c"] = kinds["n"] + kinds["a"]
    for size, kind in pd.Series([STRUCTURES[country]]).str.findall(r"(\d+)([nac])")[0]:
        part += draw(st.text(kinds[kind], min_size=int(size), max_size=int(size)))
    check = 98 - int("".join(str(int(char, 36)) for char in f"{part}{country}00")) % 97
    whole = f"{country}{check:02d}{part}"
    spaced = " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))
    return draw(st.sampled_from([whole, spaced, whole.lower(), spaced.lower(), spaced.replace(" ", "\u00a0")]))


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,9}([._+-][a-z0-9]{1,8}){0,2}", fullmatch=True)
MAILS = st.tuples(
    NAMES, st.from_regex(r"([a-z][a-z0-9]{0,9}(-[a-z0-9]{1,5})?\.){1,3}(com|de|co\.uk|museum|io)", fullmatch=True)
).map("@".join)


FORMS = [
    "+49 171 #######", "+49 (0)30 ########", "0171/#######", "0171 ## ## ###", "+44 7911 ######", "07911 ######",
    "020 7### ####", "+33 6 ## ## ## ##", "06 ## ## ## ##", "+34 612 ### ###", "+39 06 #### ####", "+1 415-555-####",
    "(415) 555-####", "415.555.####", "1-415-555-####", "+1 (415) 555 ####", "+91 98### #####", "+81 3-####-####",
    "03-####-####", "+55 11 9####-####", "+61 4## ### ###", "04## ### ###", "+45 ## ## ## ##", "+86 138 #### ####",
    "0041 44 ### ## ##", "+971501######", "call me on |612 ### ###", "Phone: |5#######", "my number is |98########",
]  # fmt: skip


@st.composite
def phones(draw: st.DrawFn) -> str:
    digits = iter(draw(st.text("23456789", min_size=15, max_size=15)))
    return "".join(next(digits) if char == "#" else char for char in draw(st.sampled_from(FORMS)))


@pytest.mark.parametrize(
    ("kind", "data"), [("email", MAILS), ("iban", ibans()), ("card", cards()), ("phone", phones())]
)
def test_each_kind_is_masked_in_any_sentence(kind: str, data: st.SearchStrategy[str]) -> None:
    @settings(max_examples=300)
    @given(st.data())
    def masks(drawn: st.DataObject) -> None:
        before, after = drawn.draw(SENTENCES), drawn.draw(SENTENCES)
        private = drawn.draw(data)
        said, _, private = private.rpartition("|")
        text = f"{before} ({said}{private}), {after}"
        masked = mask([text])
        assert masked.texts == (f"{before} ({said}<{kind}>), {after}",)
        assert masked.counts == {**dict.fromkeys(KINDS, 0), kind: 1}
        beside = mask(
            [f"{before} {said}{private} {after}"]
        )  # numbers beside it may go with it, but nothing of it stays
        assert sum(beside.counts.values()) == 1
        assert not set(beside.texts[0].split()) & (set(private.split()) - set(f"{before} {after}".split()))

    masks()


@given(SENTENCES)
def test_a_sentence_without_personal_data_stays(text: str) -> None:
    assert mask([text]).texts == (text,)


ODD = [
    "0171", "1234567", "4111 1111 1111 1111", "4111111111111111", "+49", "+1", "(030)", "(", "415", "555", "2671",
    "DE89370400440532013000", "NO93 8601 1117 947", "john", "john.doe", "@", "x.com", " at ", " dot ", "gmail", "(at)",
    "com", "call me on", "order no.", "<phone>", "<card>", "phone", "x5", "2024-01-15", "10:30", "£", "EUR", "3.14",
    "\ud800", "é", "中", "٠١٧١", "#", "a" * 70, " ", "-", ".", ",", "/", ":", " - ", "\n", "<", ">", "_", "%", ")",
    "00", "7", "\0",
]  # fmt: skip


@settings(max_examples=1000)
@given(st.lists(st.sampled_from(ODD), max_size=14).map("".join) | st.text())
def test_masking_twice_is_masking_once(text: str) -> None:
    once = mask([text])
    twice = mask(once.texts)
    assert twice.texts == once.texts
    assert sum(twice.counts.values()) == 0


def test_rows_keep_their_order_and_what_is_missing_stays_missing() -> None:
    values = [
        None,
        "a@b.io",
        float("nan"),
        pd.NA,
        pd.NaT,
        1.0,
        True,
        4111111111111111,
        4111111111111111.0,
        " spaces ",
        "x",
    ]
    expected = (None, "<email>", None, None, None, "1", "true", "<card>", "<card>", " spaces ", "x")
    assert mask(values).texts == expected
    assert mask(pd.Series(values, dtype=object, index=range(11, 0, -1))).texts == expected
    assert mask([]).texts == ()


def test_the_frame_has_a_row_a_kind_beside_its_denominator() -> None:
    masked = mask(["a@b.io and c@d.io", "a@b.io", None, "nothing"])
    assert masked.frame().iloc[0].tolist() == ["email", 3, 2, 3, 2 / 3]
    assert masked.frame()["kind"].tolist() == list(KINDS)
    assert [bar.get_width() for bar in masked.plot().patches] == pytest.approx([2 / 3, 0, 0, 0])
    assert mask([]).frame()["share"].isna().all()


@pytest.mark.parametrize("text", ["a@b.io", b"a@b.io"])
def test_a_single_text_is_refused(text: str | bytes) -> None:
    with pytest.raises(DataError, match="must be a list or a column of texts"):
        mask(text)


LONG = [
    "1",
    "@",
    "a.",
    "a@",
    "a@a.",
    " at ",
    "a at a dot ",
    "1 ",
    "111 ",
    "0171 ",
    "+4",
    "-",
    "(",
    "de89",
    "2024-01-15 ",
    "é٣",
]


@pytest.mark.parametrize("piece", LONG)
@pytest.mark.parametrize("end", ["", " a@"])
def test_time_grows_with_the_length_of_the_text(piece: str, end: str) -> None:
    def seconds(characters: int) -> float:
        text = piece * (characters // len(piece)) + end
        started = time.process_time()
        mask([text])
        return time.process_time() - started

    seconds(1_000)
    short, long = max(seconds(50_000), 0.01), seconds(400_000)
    assert long < 8 * 4 * short  # 8 times as long; the square would take 64 times


@pytest.mark.parametrize("piece", ["1", "@", "a."])
def test_a_megabyte_is_read_in_little_more_than_a_plain_pass(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    started = time.process_time()
    assert sum(char.isdigit() for char in text) in (0, 1_000_000)
    plain = time.process_time() - started
    started = time.process_time()
    assert mask([text]).texts == (text,)
    assert time.process_time() - started < 50 * plain  # measured: 4 to 10 times


def test_nothing_in_banking77_is_taken_for_personal_data(mirror: Path) -> None:
    for name in ("train.csv", "test.csv"):
        path = mirror / "banking77" / name
        if not path.is_file():
            pytest.skip(f"{path} is not there")
        texts = pd.read_csv(path)["text"]
        masked = mask(texts)
        assert masked.texts == tuple(texts)
        assert masked.counts == dict.fromkeys(KINDS, 0)
