# SPDX-License-Identifier: Apache-2.0
"""Finds out the encoding of a CSV file. Another than Unicode is taken only on evidence.

Almost any bytes can be decoded as GB18030, and the result would be billed as a prompt. So GB18030 is taken
only if the characters are those that Chinese texts are made of. Everything else is refused, unless it is
given.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem

_BOMS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
DETECTED: Final = {
    "utf-8": "all bytes of the file are valid, or all but those of a few rows, which are invalid",
    "utf-8-sig": "a byte order mark",
    "utf-16": "a byte order mark",
    "utf-32": "a byte order mark",
    "utf-16-le": "every second byte is NUL",
    "utf-16-be": "every second byte is NUL",
    "gb18030": "the characters are frequent in Chinese text",
}
"""The encodings that are detected, by Python's names, and the evidence. Any other must be given."""

_HEAD_BYTES: Final = 1 << 16
_CHUNK_BYTES: Final = 1 << 20
_UTF16_SHARE: Final = 0.3
"""Of the bytes at even or odd places, the share of NULs that only UTF-16 has: ASCII is in every catalog."""

_ESCAPE: Final = re.compile(rb"\x1b\$(?:[@AB]|[()][A-D])")
"""Begins Japanese, Korean or Chinese text in the encodings of ISO 2022, whose bytes are all ASCII."""

_SAMPLE_LINES: Final = 20_000
"""Lines that are not ASCII, by which an encoding is judged."""

_DAMAGED_SHARE: Final = 0.05
_DAMAGED_LINES: Final = 2
"""Up to this share or number of lines may be damaged: these rows are reported, the others are read."""

_LEAST_SHARE: Final = 0.4
"""The least share of frequent characters in Chinese text. Samples of a few words have 0.5 to 0.9; Korean text
that is taken for GB18030 has 0.2, all others have less than 0.15."""
_BY_CHANCE: Final = 0.2
_DEVIATIONS: Final = 3.0
"""How many standard deviations the number of frequent characters must be above that of Korean text."""

_FREQUENT_CHINESE: Final = frozenset(
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经十三之进着等"
    "部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数"
    "正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展五果料象员革位入常文总次品式活设及管特件"
    "长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放决西被干做必战先回则任取据处队南给色光门即保治北造百规热领七海口东导"
    "器压志世金增争济阶油思术极交受联什认六共权收证改清己美再采转更单风切打白教速花带安场身车例真务具万每目至达走积示议声报斗完类八离华名确才科张信"
    "马节话米整空元况今集温传土许步群广石记需段研界拉林律叫且究观越织装影算低持音众书布复容儿须际商非验连断深难近矿千周委素技备半办青省列习响约支般"
    "史感劳便团往酸历市克何除消构府称太准精值号率族维划选标写存候毛亲快效斯院查江型眼王按格养易置派层片始却专状育厂京识适属圆包火住调满县局照参红细"
    "引听该铁价严龙飞杯陶瓷蓝绿黄黑灰紫棕粉橙桌椅灯瓶鞋衣裤裙帽袋盒箱碗盘刀锅茶咖啡木棉皮玻璃塑钢雪景室背台阳柔草沙滩厨房客厅卧窗床柜架筒壶勺筷巾"
    "枕垫毯帘钟镜伞银铜珠宝戒链香烛绒丝纸笔球宠猫狗玩婴童男女双码款套季春夏秋冬简欧古礼防轻携锈耐哑透"
)
"""The 500 characters that are most frequent in Chinese texts, and those of goods and rooms."""

_FREQUENT_KOREAN: Final = frozenset(
    "이다는의에가을를은로하고지한기사자대리어시도인나라서정아해수일부보제스그전여상주장원구오있과으면조성동국게세들만경생치선물화소관공비무미연유개방분"
    "발내음단본계신작적식회안실진행문학명모우거금력중간체양컵머빨강파랑검흰색초록노란커피너용품트드"
)
_MOSTLY_NOT_LETTERS: Final = ((0x80, 0x36F), (0x2000, 0x303F), (0xFF00, 0xFFEF))
"""Ranges of characters that say nothing about the language: accents, punctuation, full-width forms."""

_CANDIDATES: Final = ("cp1252", "gb18030", "cp932", "cp949", "big5", "cp1251")
"""Encodings in which a message shows a line."""

_SHOWN: Final = 3
_SHOWN_CHARACTERS: Final = 12


def detect_encoding(local: str) -> str:
    """The encoding of a CSV file, as Python names it.

    :param local: the file's path.
    :raises InvalidInput: if it is neither Unicode nor clearly GB18030.
    """
    with Path(local).open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if found := utf16_or_32(head):
        return found
    if _is_utf8(local):
        return "utf-8"
    lines = _NonAsciiLines(local)
    if lines.has_escapes:
        raise _refused("is in an encoding of ISO 2022, such as ISO-2022-JP", lines)
    # A file of UTF-8 with a damaged line is read without that row.
    if lines.in_utf8 > lines.damaged:
        return "utf-8"
    if is_chinese(_runs(lines.sample)):
        return "gb18030"
    if lines.are_few_damaged and lines.first_damaged > 1:
        return "utf-8"
    raise _refused("is neither UTF-8 nor UTF-16, and not clearly GB18030", lines)


def utf16_or_32(head: bytes) -> str:
    """The encoding of a file if that is UTF-16 or UTF-32, else ``""``.

    :param head: what the file begins with.
    """
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return encoding
    even, odd = head[::2], head[1::2]
    shares = [part.count(0) / len(part) if part else 0.0 for part in (even, odd)]
    if max(shares) < _UTF16_SHARE or min(shares) > max(shares) / 4:
        return ""
    return "utf-16-be" if shares[0] > shares[1] else "utf-16-le"


def _is_utf8(local: str) -> bool:
    """Whether the whole file is UTF-8, without text of ISO 2022."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with Path(local).open("rb") as file:
        try:
            while chunk := file.read(_CHUNK_BYTES):
                if _ESCAPE.search(chunk):
                    return False
                if decoder.getstate()[0] or not chunk.isascii():
                    decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


class _NonAsciiLines:
    """Counts the lines of a file, and keeps a sample of those that are not ASCII."""

    def __init__(self, local: str) -> None:
        self.count = self.in_utf8 = self.damaged = self.first_damaged = 0
        self.has_escapes = False
        self.sample: list[bytes] = []
        with Path(local).open("rb") as file:
            for part in file:
                for line in part.rstrip(b"\r\n").split(b"\r"):
                    self.count += 1
                    if not line.isascii():
                        self._add(line)
                    elif _ESCAPE.search(line):
                        self.has_escapes = True

    def _add(self, line: bytes) -> None:
        if len(self.sample) < _SAMPLE_LINES:
            self.sample.append(line)
        try:
            line.decode()
            self.in_utf8 += 1
        except UnicodeDecodeError:
            self.damaged += 1
            self.first_damaged = self.first_damaged or self.count

    @property
    def are_few_damaged(self) -> bool:
        """Whether most lines are ASCII, and few others may be damaged ones of UTF-8."""
        most = max(self.count * _DAMAGED_SHARE, min(_DAMAGED_LINES, (self.count - 1) / 2))
        return self.damaged <= most

    @property
    def first(self) -> bytes:
        """The first line that is not ASCII."""
        return self.sample[0] if self.sample else b""


def _runs(lines: Iterable[bytes]) -> set[bytes]:
    """The different words of lines that are not ASCII: a word that a thousand rows repeat counts once."""
    return {run for line in lines for run in re.split(rb"[\x00-\x3f]+", line) if not run.isascii()}


def is_chinese(runs: Iterable[bytes]) -> bool:
    """Whether words are Chinese in GB18030, beyond doubt.

    :param runs: bytes that are not ASCII, with the ASCII letters beside them.
    """
    runs = list(runs)
    letters = list(_letters(runs, "gb18030"))
    count = len(letters)
    frequent = sum(one in _FREQUENT_CHINESE for one in letters)
    expected = _BY_CHANCE * count
    if not count or frequent < max(
        _LEAST_SHARE * count, expected + _DEVIATIONS * math.sqrt(expected * (1 - _BY_CHANCE))
    ):
        return False
    # The bytes of EUC-KR are all valid, too, and a few of them may be frequent by chance.
    korean = list(_letters(runs, "cp949"))
    return frequent / count > sum(one in _FREQUENT_KOREAN for one in korean) / max(1, len(korean))


def _letters(runs: Iterable[bytes], encoding: str) -> Iterator[str]:
    for run in runs:
        for one in run.decode(encoding, errors="replace"):
            if one > "\x7f" and not any(least <= ord(one) <= most for least, most in _MOSTLY_NOT_LETTERS):
                yield one


def _refused(what: str, lines: _NonAsciiLines) -> InvalidInput:
    word = min(_runs([lines.first]), default=b"")
    shown = []
    for encoding in _CANDIDATES if word else ():
        try:
            text = word.decode(encoding)[:_SHOWN_CHARACTERS]
        except UnicodeDecodeError:
            continue
        if text.isprintable():
            shown.append(f"{text!r} in {encoding}")
    hint = f" One cell has {', '.join(shown[:_SHOWN])}." if shown else ""
    what = f"{what}. Save it as UTF-8, or set encoding in source.{hint}"
    return InvalidInput([Problem("catalog", what)])


def known_encoding(encoding: str) -> str:
    """Python's name of an encoding that is given.

    :raises InvalidInput: if Python does not know it.
    """
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        what = f"is {encoding!r}, which Python does not know; give utf-8, gb18030, cp1252 or another"
        raise InvalidInput([Problem("encoding", what)]) from None
