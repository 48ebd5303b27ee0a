# SPDX-License-Identifier: Apache-2.0
"""Checks the prose of this repository against a list of words to avoid.

    python tools/prose.py [PATH ...]

Checks documentation, the comments and strings of Python and JavaScript files, the visible text of HTML pages
and the comments of style sheets. Prints one line for each match, ``file:line: word: sentence (write: …)``,
and returns 1 if there are any.

The section ``[tool.bgrep.prose]`` of ``pyproject.toml`` lists the ``paths`` to check and, under ``allow``,
the exceptions: a ``file`` pattern, the ``words``, and a ``reason``. An exception that no longer applies is
an error.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent

WORDS: Final[Mapping[str, str]] = {
    r"told": "reported, configured, known",
    r"lies?": "is, is stored",
    r"bears?": "accepts, allows",
    r"mend(?:s|ed|ing)?": "fix, correct",
    r"anew": "again",
    r"so many": "the number",
    r"fates?": "outcome",
    r"troubles?": "error, failure",
    r"nights?": "run",
    r"legs?": "epoch (journal), execution (operators)",
    r"look(?:s|ed|ing)? at": "see, view, check, read",
    r"who may": "which users can",
    r"(?<!there )(?:is|are|was|were) no (?!longer\b|more\b|less\b|later\b)[a-z]+": "is not a",
    r"pictures?": "image",
    r"(?:buy(?:s|ing)?|bought|buyers?)": "submit; billable, where the cost is meant",
    r"(?:lapses?|lapsed)": "expires",
    r"harvest(?:s|ed|ing)?": "recover, recovery",
    r"(?:switch)(?:es|ed)? (?:the|a) pointer": "commit",
    r"in vain": "without success",
    r"unless (?:said|told)(?! otherwise)": "by default",
    r"found wanting": "did not pass",
    r"sp(?:eak|eaks|oken) to": "call, connect to",
    r"needs? you": "needs attention",
    r"conceal(?:s|ed)?": "redact",
    r"withdr(?:aw|aws|ew|awn)": "release",
    r"tid(?:y|ies|ied|ying)": "sanitize, clean up, expire",
    r"as (?:long|often) as (?:it|they) likes?": "any number of times",
    r"costs? money": "is billed",
    r"paid for": "billed",
    r"pa(?:ys?|id) twice": "is billed twice",
    r"in force": "current",
    r"waiting on": "waiting for, continues to wait",
    r"the API's document": "the API documentation",
    # American spelling, as in Airflow's documentation.
    r"(?:re|un|dis)?colour(?:s|ed|ful|less)?": "color",
    r"(?:behavi|neighb|fav|hon)our(?:s|ed|ing|able|al|hood)?": "-or",
    r"grey(?:s|scale)?": "gray",
    r"(?:un)?(?:author|final|general|initial|maxim|minim|normal|optim|organ|recogn|serial|special|summar)"
    r"is(?:e[ds]?|ing|ation)": "-ize",
    r"cancelling|(?:model|label|travel)l(?:ed|ing)": "canceling, modeled, labeled",
    r"judgements?": "judgment",
    r"time-outs?": "timeout",
    r"for ever": "forever",
    r"clean-ups?": "cleanup",
    r"towards|afterwards|backwards|downwards|upwards": "toward, afterward, …",
}
"""Regular expressions of what not to write, each with what to write instead."""

SKIPPED_FOLDERS: Final = frozenset({"build", "dist", "_build", "__pycache__", "node_modules"})

_CODE: Final = "\0"
"""Stands for a character of code: it separates words, and no phrase reaches across it."""


@dataclass(frozen=True, slots=True)
class Match:
    """One word to avoid, in one place.

    :param line: line number, from 1.
    :param word: the word or phrase as found.
    :param sentence: the sentence around it, cut to 120 characters.
    :param instead: what to write instead.
    """

    line: int
    word: str
    sentence: str
    instead: str


@dataclass(slots=True)
class Exemption:
    """Words that are allowed in the files that match a pattern.

    :param file: pattern of paths relative to the root, as of :func:`fnmatch.fnmatch`.
    :param words: the words, in lower case, as :class:`Match` reports them, or ``["*"]`` for any.
    :param reason: why they are allowed.
    """

    file: str
    words: list[str]
    reason: str
    used: set[str] = field(default_factory=set)

    def allows(self, word: str) -> bool:
        """Whether the word is allowed; if so, the exemption counts as needed."""
        used = {word, "*"} & set(self.words)
        self.used |= used
        return bool(used)


def matches(text: str, suffix: str) -> Iterator[Match]:
    """Find the words to avoid in the text of one file.

    :param text: the file's content.
    :param suffix: the file's extension, with the dot.
    """
    prose = _without_references(_READERS[suffix](text))
    found = [
        (match.start(), match[0], instead)
        for pattern, instead in _COMPILED
        for match in pattern.finditer(prose)
    ]
    for start, word, instead in sorted(found):
        yield Match(prose.count("\n", 0, start) + 1, " ".join(word.split()), _sentence(prose, start), instead)


def check(root: Path, paths: Iterable[str], exemptions: Iterable[Exemption] = ()) -> list[str]:
    """Check files, and return one line for each match and for each exemption that is not needed.

    :param root: the folder that ``paths`` and the patterns of ``exemptions`` are relative to.
    :param paths: files and folders.
    :param exemptions: allowed words.
    """
    exemptions = list(exemptions)
    lines = []
    checked = []
    for file in sorted({file for path in paths for file in _files(root / path)}):
        name = file.relative_to(root).as_posix()
        checked.append(name)
        applicable = [one for one in exemptions if fnmatch(name, one.file)]
        for match in matches(file.read_text(encoding="utf-8"), file.suffix):
            allowing = [one for one in applicable if one.allows(match.word.lower())]
            if not allowing:
                lines.append(f"{name}:{match.line}: {match.word}: {match.sentence} (write: {match.instead})")
    for one in exemptions:
        unused = set(one.words) - one.used
        if unused and any(fnmatch(name, one.file) for name in checked):
            lines.append(f"pyproject.toml: {one.file} is exempt from {', '.join(sorted(unused))}: not needed")
    return lines


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for child in sorted(path.iterdir()):
        if child.name.startswith(".") or child.name in SKIPPED_FOLDERS:
            continue
        if child.is_dir():
            yield from _files(child)
        elif child.suffix in _READERS:
            yield child


def _sentence(prose: str, at: int) -> str:
    """The sentence around a position, on one line."""
    start = max((match.end() for match in _BREAK.finditer(prose, 0, at)), default=0)
    end = _BREAK.search(prose, at)
    sentence = " ".join(prose[start : end.start() + 1 if end else None].replace(_CODE, " ").split())
    return sentence if len(sentence) <= 120 else f"{sentence[:119]}…"


def _hide(text: str, *patterns: re.Pattern[str], by: str = _CODE) -> str:
    """Replace every character that the patterns match, except line breaks."""
    for pattern in patterns:
        text = pattern.sub(lambda match: _blank(match[0], by), text)
    return text


def _blank(text: str, by: str = _CODE) -> str:
    return re.sub(r"[^\n]", by, text)


def _keep(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """The text with everything outside of some spans hidden."""
    parts = []
    end = 0
    for start, stop in spans:
        parts += [_blank(text[end:start]), text[start:stop]]
        end = stop
    return "".join([*parts, _blank(text[end:])])


def _without_references(prose: str) -> str:
    """Hide inline code, URLs, and the line that names the license."""
    return _hide(prose, _INLINE_CODE, _URL, _LICENSE)


def _rst(text: str) -> str:
    return _hide(_hide(text, _DIRECTIVE_OPTION, _TARGET), *_rst_blocks(text))


def _rst_blocks(text: str) -> list[re.Pattern[str]]:
    """Patterns of the literal blocks of a page: what is indented under ``::`` or a directive of code."""
    lines = text.split("\n")
    blocks = []
    for number, line in enumerate(lines):
        if not _LITERAL.search(line):
            continue
        indent = len(line) - len(line.lstrip())
        body = []
        for follower in lines[number + 1 :]:
            if follower.strip() and len(follower) - len(follower.lstrip()) <= indent:
                break
            body.append(follower)
        block = "\n".join(body)
        if block.strip():
            blocks.append(re.compile(re.escape(block)))
    return blocks


def _markdown(text: str) -> str:
    return _hide(text, _FENCE, _LINK_TARGET)


def _python(text: str) -> str:
    offsets = [0]
    for line in text.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    strings = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    pieces = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or token.type in strings:
            (row, column), (last_row, last_column) = token.start, token.end
            pieces.append((token.type, offsets[row - 1] + column, offsets[last_row - 1] + last_column))
    prose = _keep(text, [(start, end) for _, start, end in pieces])
    for kind, start, end in pieces:
        piece = _hide(prose[start:end], _MARKS, by=" ")
        if kind == tokenize.STRING and _F_STRING.match(prose[start:end]):
            piece = _hide(piece, _BRACES)
        prose = prose[:start] + piece + prose[end:]
    # Adjacent strings and lines of comments are one text.
    return re.sub(rf"\n{_CODE}+(?= )", lambda match: _blank(match[0], " "), prose)


def _javascript(text: str) -> str:
    spans = [match.span() for match in _JS_PROSE.finditer(text)]
    return _hide(_hide(_keep(text, spans), _JS_MARKS, by=" "), _JS_PLACEHOLDER)


def _css(text: str) -> str:
    return _keep(text, [match.span() for match in _BLOCK_COMMENT.finditer(text)])


def _html(text: str) -> str:
    text = _SCRIPT.sub(lambda match: _blank(match[1]) + _javascript(match[2]), text)
    text = _STYLE.sub(lambda match: _blank(match[1]) + _css(match[2]), text)
    return _TAG.sub(
        lambda tag: _keep(tag[0], [one.span(1) for one in _TEXT_ATTRIBUTE.finditer(tag[0])]), text
    )


_READERS: Final[Mapping[str, Callable[[str], str]]] = {
    ".rst": _rst,
    ".md": _markdown,
    ".py": _python,
    ".js": _javascript,
    ".css": _css,
    ".html": _html,
}
_COMPILED: Final = [
    (re.compile(rf"(?<![\w-]){pattern.replace(' ', chr(92) + 's+')}(?![\w-])", re.IGNORECASE), instead)
    for pattern, instead in (
        # A lookbehind has a fixed width: one character of white space.
        (pattern.replace("(?<!there )", r"(?<!there\s)"), instead)
        for pattern, instead in WORDS.items()
    )
]
_BREAK: Final = re.compile(r"[.!?:;](?=\s)|\n[^\S\n]*\n|\n[^\S\n]*[*|-] |\0{2,}")
_INLINE_CODE: Final = re.compile(r"``[^`]+``|(?<![`:])`[^`\n]+`(?![`_])")
_URL: Final = re.compile(r"[a-z][a-z0-9+]*://[^\s)>\"']+")
_LICENSE: Final = re.compile(r"SPDX-License-Identifier: \S+")
_DIRECTIVE_OPTION: Final = re.compile(r"^\s+:[\w-]+:.*$|^\s*\.\. [\w-]+::.*$", re.MULTILINE)
_TARGET: Final = re.compile(r"^\.\. _[^\n]*$|<[^<>\n]+>(?=`)", re.MULTILINE)
_LITERAL: Final = re.compile(r"^\s*\.\. (?:code-block|code)::|^(?!\s*\.\. ).*::\s*$")
_FENCE: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK_TARGET: Final = re.compile(r"(?<=\]\()[^)\n]+(?=\))")
_MARKS: Final = re.compile(r"^[a-zA-Z]{0,2}(?:\"\"\"|'''|\"|')|(?:\"\"\"|'''|\"|')$|^#+:?")
_F_STRING: Final = re.compile(r"(?i)(?:f|rf|fr)[\"']")
_BRACES: Final = re.compile(r"(?<!\{)\{(?!\{)[^{}]*\}")
_BLOCK_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_JS_PROSE: Final = re.compile(
    r"//[^\n]*|/\*.*?\*/|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"|`(?:\\.|[^`\\])*`", re.DOTALL
)
_JS_MARKS: Final = re.compile(r"[\"'`]|//|/\*|\*/")
_JS_PLACEHOLDER: Final = re.compile(r"\$\{[^{}]*\}")
_SCRIPT: Final = re.compile(r"(<script\b[^>]*>)(.*?)(?=</script>)", re.DOTALL)
_STYLE: Final = re.compile(r"(<style\b[^>]*>)(.*?)(?=</style>)", re.DOTALL)
_TAG: Final = re.compile(r"<[a-zA-Z/!][^>]*>")
_TEXT_ATTRIBUTE: Final = re.compile(r"\b(?:title|alt|aria-label|placeholder)=\"([^\"]*)\"")


def main(arguments: list[str]) -> int:
    """Check the paths that are given, or those of ``pyproject.toml``.

    :return: the exit status, 1 if there is a match.
    """
    with (ROOT / "pyproject.toml").open("rb") as file:
        settings: dict[str, Any] = tomllib.load(file)["tool"]["bgrep"]["prose"]
    exemptions = [Exemption(**one) for one in settings.get("allow", ())]
    lines = check(ROOT, arguments or settings["paths"], exemptions)
    for line in lines:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
