# SPDX-License-Identifier: Apache-2.0
"""Field cases B: reading what programs write, through a plan."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import unicodedata
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bgrep_harness.runs import Destination, Run, row
from bgrep_harness.stores import folder as store

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.plan.builder import PlanDraft
from airflow_provider_bgrep.catalog.source.csv_encoding import is_chinese
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.storage import connection_of

IMAGE = "https://shop.example/mug.jpg"
TEMPLATE = {"positive_prompt": "A {{ name }}"}


def write(path: Path, data: str | bytes) -> str:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def prompts(run: Run) -> dict[str, str]:
    return {one["name"]: one["positive_prompt"] for one in run.work_items}


def drafted(draft: PlanDraft) -> dict[str, str]:
    """The prompts of a plan that is not written, by sku."""
    return dict(draft.db.execute("SELECT name, positive_prompt FROM work_items").fetchall())


def refused(destination: Destination, catalog: Any, **options: Any) -> str:
    """The message that a catalog is refused with: short, final, without the words of a library."""
    drafting = destination.draft(catalog, **{"defaults": TEMPLATE, **options})
    with pytest.raises(InvalidInput) as error, drafting:
        pass
    message = str(error.value)
    assert len(message) < 500, message
    assert message.isprintable()
    assert "Traceback" not in message
    return message


# --- B1, B6 ----------------------------------------------------------------------------------------

GERMAN = (
    "große Küchenschüssel|Löffel für Müsli|grüne Gießkanne|Blumentöpfe weiß|Bürste|Räuchergefäß|Fußabtreter"
)
FRENCH = "théière émaillée|chaise longue en hêtre|lampe à pétrole|crème brûlée|boîte à thé|tapis tressé"
SPANISH = "jarrón pequeño|cojín de algodón|lámpara rústica|taza de té española|sillón marrón"
POLISH = "żółta łyżka|święty źródło|dzbanek gliniany mały|krzesło dębowe|łóżko dziecięce|książka"
RUSSIAN = "синяя кружка|деревянный стол|лампа настольная|керамическая ваза|кресло зелёное|чайник"
GREEK = "κόκκινη κούπα|ξύλινο τραπέζι|λάμπα γραφείου|κεραμικό βάζο|πράσινη καρέκλα"
TURKISH = "kırmızı çaydanlık|ahşap masa örtüsü|küçük fincan|yeşil sandalye|büyük gümüş tepsi|şişe"
KOREAN = "빨간 머그컵|나무 책상|도자기 꽃병|초록색 의자|유리 주전자|커피 잔|작은 접시|흰색 침대 시트"
JAPANESE = "赤いマグカップ|木の机|陶器の花瓶|緑の椅子|ガラスのやかん|珈琲茶碗|小さな皿|白いシーツ"
TAIWANESE = "紅色馬克杯|木頭桌子|陶瓷花瓶|綠色椅子|玻璃水壺|咖啡杯|小盤子|白色床單"
CHINESE = (
    "红色马克杯|木头桌子|陶瓷花瓶|绿色椅子|玻璃水壶|咖啡杯|小盘子|白色床单|不锈钢保温杯|"
    "北欧风格台灯|纯棉毛巾|儿童书包"
)
THAI = "แก้วสีแดง|โต๊ะไม้|แจกันเซรามิก|เก้าอี้สีเขียว|กาน้ำแก้ว"
ARABIC = "كوب أحمر|طاولة خشبية|مزهرية خزفية|كرسي أخضر|إبريق زجاجي|فنجان قهوة"
HEBREW = "ספל אדום|שולחן עץ|אגרטל קרמיקה|כיסא ירוק|קנקן זכוכית"

ENCODED = [
    *((GERMAN, one) for one in ("cp1252", "cp850", "mac_roman", "latin-1")),
    *((FRENCH, "cp1252"), (SPANISH, "cp1252"), (POLISH, "cp1250"), (POLISH, "iso8859_2")),
    *((RUSSIAN, one) for one in ("cp1251", "koi8_r", "cp866", "iso8859_5")),
    *((GREEK, "cp1253"), (TURKISH, "cp1254"), (THAI, "cp874"), (ARABIC, "cp1256"), (HEBREW, "cp1255")),
    *((KOREAN, one) for one in ("cp949", "johab", "iso2022_kr")),
    *((JAPANESE, one) for one in ("cp932", "euc_jp", "iso2022_jp")),
    (TAIWANESE, "big5"),
]
"""Words of goods, separated by bars, and encodings in which programs write them."""


def catalog_of(words: str, encoding: str, count: int) -> tuple[dict[str, str], bytes]:
    """Names by sku, and a catalog of them."""
    choices = words.split("|")
    chosen = random.Random(count).choices(choices, k=count)  # noqa: S311 (the same in each run)
    names = {f"s{number}": name for number, name in enumerate(chosen)}
    lines = ["sku,image,name", *(f"{sku},{IMAGE}?{sku},{name}" for sku, name in names.items())]
    return names, "\r\n".join(lines).encode(encoding)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 300])
def test_an_encoding_without_evidence_is_never_read(tmp_path: Path, count: int):
    """B1: cp1252, EUC-KR, Shift-JIS and others are refused, naming ``encoding``: no mojibake is submitted."""
    for words, encoding in ENCODED:
        destination = Destination(CatalogPaths(store({})))
        names, data = catalog_of(words, encoding, count)
        catalog = write(tmp_path / "c.csv", data)
        if not data.isascii() or encoding.startswith("iso2022"):
            assert "set encoding" in refused(destination, catalog), (encoding, words)
        if count == 3 and encoding in ("cp1252", "cp949", "cp932", "iso2022_jp", "big5", "koi8_r"):
            with destination.draft(catalog, encoding=encoding, defaults=TEMPLATE) as draft:
                assert drafted(draft) == {sku: f"A {name}" for sku, name in names.items()}, encoding


@pytest.mark.parametrize(
    ("encoding", "count"),
    [
        *(("gb18030", count) for count in (3, 30, 300)),
        *((one, 5) for one in ("gbk", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")),
    ],
)
def test_chinese_is_read_and_its_encoding_is_noted(
    destination: Destination, tmp_path: Path, encoding: str, count: int
):
    """B1, B6: Unicode with and without a byte order mark, and GB18030 on evidence; the plan says which."""
    names, data = catalog_of(CHINESE, encoding, count)
    run = destination.plan(write(tmp_path / "c.csv", data), defaults=TEMPLATE)
    assert prompts(run) == {sku: f"A {name}" for sku, name in names.items()}
    taken_for = "gb18030" if encoding == "gbk" else encoding
    assert run.plan.reading[0].startswith(
        f"Read CSV in {taken_for} with delimiter ',' and the header in line 1."
    )


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-32", "utf-8"])
def test_unicode_is_read_in_every_language(destination: Destination, tmp_path: Path, encoding: str):
    """B6: UTF-16 without a byte order mark is recognized by its NULs."""
    for words in (GERMAN, KOREAN, JAPANESE):
        names, data = catalog_of(words, encoding, 5)
        with destination.draft(write(tmp_path / "c.csv", data), defaults=TEMPLATE) as draft:
            assert drafted(draft) == {sku: f"A {name}" for sku, name in names.items()}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_lines_are_read_in_unicode(destination: Destination, tmp_path: Path, encoding: str):
    """B6: what PowerShell writes is UTF-16."""
    text = "".join(f'{{"sku": "s{n}", "image": "{IMAGE}?{n}", "name": "杯 Gefäß"}}\r\n' for n in range(3))
    catalog = write(tmp_path / "c.jsonl", text.encode(encoding))
    with destination.draft(catalog, defaults=TEMPLATE) as draft:
        assert set(drafted(draft).values()) == {"A 杯 Gefäß"}


@pytest.mark.slow
def test_a_damaged_line_costs_its_row_in_either_encoding(destination: Destination, tmp_path: Path):
    """A3, B1: one wrong byte in a file of UTF-8 or GB18030 is reported with its row, and what to do."""
    for number, encoding in enumerate(("utf-8", "gb18030")):
        _names, data = catalog_of(CHINESE, encoding, 60)
        lines = data.split(b"\r\n")
        lines[7] = f"s6,{IMAGE}?s6,r".encode() + b"\xff\xfd"
        run = destination.plan(
            write(tmp_path / "c.csv", b"\r\n".join(lines)), defaults=TEMPLATE, run_id=f"{number}"
        )
        assert [(one["line"], one["sku"]) for one in run.problems] == [(8, "s6")]
        assert "set encoding" in run.problems[0]["reason"]
        assert run.plan.rows == 60
    ascii_rows = "".join(f"a{number},{IMAGE},mug\n" for number in range(50))
    run = destination.plan(
        write(tmp_path / "c.csv", f"sku,image,name\nb,{IMAGE},r\xf6d\n{ascii_rows}".encode("latin-1")),
        defaults=TEMPLATE,
        run_id="ascii",
    )
    assert [one["line"] for one in run.problems] == [2]
    assert len(run.submits) == 50


def test_evidence_is_in_the_words_and_not_in_their_number():
    """B1: a word that a thousand rows repeat is no more evidence than one."""
    assert not is_chinese({"컵".encode("cp949")})
    assert not is_chinese({"杯".encode("gb18030")})
    assert is_chinese({word.encode("gb18030") for word in CHINESE.split("|")})
    for count in (1, 2, 3, 5, 8):
        for start in range(4):
            words = KOREAN.split("|")[start : start + count]
            assert not is_chinese({word.encode("cp949") for word in words})


# --- B2 to B5 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delimiter", "end"), [(",", "\r\n"), (";", "\r\n"), ("\t", "\n"), ("|", "\r")])
def test_excels_short_rows_are_read(destination: Destination, tmp_path: Path, delimiter: str, end: str):
    """B2: Excel leaves out the delimiters of trailing empty cells, from the 17th row on."""
    lines = [["sku", "image", "mask", "name", "seed"]]
    lines += [[f"s{i}", f"{IMAGE}?{i}", "", "mug", "7"] for i in range(16)]
    lines += [[f"t{i}", f"{IMAGE}?{i}", "", "cup"][: 4 if i % 2 else 2] for i in range(4)]
    text = end.join(delimiter.join(line) for line in lines) + end
    run = destination.plan(
        write(tmp_path / "c.csv", text), defaults={"positive_prompt": "A {{ name | default('mug') }}"}
    )
    assert len(run.submits) == 20
    assert prompts(run)["t1"] == "A cup"
    assert prompts(run)["t2"] == "A mug"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_quotes_count_in_the_header(destination: Destination, tmp_path: Path, delimiter: str):
    """B3, B5: a heading of two lines, and one that holds other delimiters."""
    others = ", ".join(one for one in ("L", "W", "H;", "D\t", "X|"))
    header = ["sku", '"product\r\nname"', "image", f'"{others}"', '"say ""hi"""']
    lines = [header, ["a", "mug", IMAGE, '"1, 2, 3"', "x"]]
    text = "\r\n".join(delimiter.join(line) for line in lines)
    run = destination.plan(
        write(tmp_path / "c.csv", text), defaults={"positive_prompt": "A {{ product_name }}"}
    )
    assert prompts(run) == {"a": "A mug"}
    assert run.problems == []
    assert "the header in line 2" in run.plan.reading[0]


@pytest.mark.parametrize("lines", [2, 101, 150, 1500])
def test_a_long_quoted_cell_is_read(destination: Destination, tmp_path: Path, lines: int):
    """B4: a quoted HTML description of 150 lines is one cell."""
    html = "\n".join(f'<p class=""a{n}"">big, red; <img src=""{IMAGE}""></p>' for n in range(lines))
    rows = [f'a,{IMAGE},"{html}",mug', f"b,{IMAGE}?b,plain,cup", f'c,{IMAGE}?c,"{html}",jug']
    run = destination.plan(
        write(tmp_path / "c.csv", "sku,image,html,name\n" + "\n".join(rows)), defaults=TEMPLATE
    )
    assert (run.problems, prompts(run)) == ([], {"a": "A mug", "b": "A cup", "c": "A jug"})


UNCLOSED = {
    "nothing follows": ([], []),
    "rows follow": ([f"r{n},{IMAGE}?{n},mug" for n in range(300)], []),
    "a quoted row follows": ([f"r0,{IMAGE}?0,mug", f'r1,{IMAGE}?1,"big, red mug"', f"r2,{IMAGE}?2,x"], []),
    "an inch follows": ([f"r0,{IMAGE}?0,mug", f'r1,{IMAGE}?1,a 15"', f"r2,{IMAGE}?2,x"], []),
    "an empty quoted cell follows": ([f"r0,{IMAGE}?0,mug", f'r1,{IMAGE}?1,""', f"r2,{IMAGE}?2,x"], []),
    "its own lines follow": ([f"r0,{IMAGE}?0,mug"], ["second line of it", "third, line"]),
    "another one follows": ([f"r0,{IMAGE}?0,mug"], []),
}


@pytest.mark.parametrize("name", UNCLOSED)
def test_a_quote_that_is_not_closed_costs_one_row(destination: Destination, tmp_path: Path, name: str):
    """B4: a quote that is not closed is reported once, and no row after it is lost."""
    after, own = UNCLOSED[name]
    lines = [f"a,{IMAGE}?a,first", f'bad,{IMAGE}?bad,"never closed', *own, *after]
    expected_bad = ["bad"]
    if name == "another one follows":
        lines += [f'worse,{IMAGE}?worse,"not closed either', f"z,{IMAGE}?z,last"]
        expected_bad.append("worse")
    run = destination.plan(
        write(tmp_path / "c.csv", "sku,image,name\n" + "\n".join(lines) + "\n"),
        defaults={"positive_prompt": "A {{ name | default('thing') }}"},
    )
    assert [one["sku"] for one in run.problems] == expected_bad
    assert all("quote" in one["reason"] for one in run.problems)
    expected = {line.split(",")[0] for line in lines if "," in line and "://" in line} - set(expected_bad)
    assert set(run.submits) == expected


# --- B7 to B10 -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rows_of_blanks_are_empty_rows(destination: Destination, tmp_path: Path):
    """B7: a row of blanks, or of nulls in Parquet, is not a bad row, and nothing is kept because of it."""
    names = [f"s{number}" for number in range(8)]
    destination.refresh([row(name) for name in names])
    rest = "".join(f"{one['sku']},{one['image']},{one['positive_prompt']}\n" for one in map(row, names[1:]))
    for blank in (" ,\u00a0,\u3000\n", "\u200b\n", ",,\n", '" ","",\n', "\ufeff,\u2060,\n"):
        text = f"sku,image,positive_prompt\n{blank}{rest}"
        with destination.draft(write(tmp_path / "c.csv", text)) as draft:
            assert (draft.plan.counts["invalid"], draft.plan.counts["removed"]) == (0, 1), blank
    columns = {key: [None, *(row(name)[key] for name in names[1:])] for key in row("a")}
    pq.write_table(
        pa.table(columns | {"more": pa.array([None] * 8, pa.list_(pa.int8()))}), tmp_path / "c.parquet"
    )
    with destination.draft(str(tmp_path / "c.parquet")) as draft:
        assert (draft.plan.counts["invalid"], draft.plan.counts["removed"]) == (0, 1)


HEADINGS = [
    *("Positive Prompt", "positive-prompt", "POSITIVE_PROMPT", " positive  prompt ", "Positive.Prompt"),
    *(
        "\u200bpositive_prompt",
        "positive_prompt\ufeff",
        "\u202apositive prompt\u202c",
        "positive\u00a0prompt",
    ),
]


@pytest.mark.slow
def test_headings_are_read_as_templates_read_them(tmp_path: Path):
    """B8, B10: case, blanks, hyphens and marks without a width make no difference."""
    for heading in HEADINGS:
        destination = Destination(CatalogPaths(store({})))
        catalog = write(tmp_path / "c.csv", f"SKU,Image,{heading},Num Output\na,{IMAGE},on ice,2\n")
        with destination.draft(catalog) as draft:
            assert drafted(draft) == {"a": "on ice"}, heading
            assert draft.plan.quote.images == 2


@pytest.mark.parametrize(
    ("heading", "field"),
    [
        *(
            (one, "positive_prompt")
            for one in ("positive_promt", "Postive Prompt", "Prompt", "positve-prompt")
        ),
        *(("Mask URL", "mask"), ("maks", "mask"), ("masks", "mask"), ("Seeds", "seed"), ("setps", "steps")),
        *(("num_outputs", "num_output"), ("Numoutput", "num_output"), ("guidance", "guidance_scale")),
        *(("negative promt", "negative_prompt"), ("strenght", "strength"), ("Categroy", "category")),
    ],
)
def test_a_near_miss_is_refused(destination: Destination, tmp_path: Path, heading: str, field: str):
    """B8: a heading that is nearly a field's is an error before anything is submitted."""
    catalog = write(tmp_path / "c.csv", f"sku,image,{heading}\na,{IMAGE},x\n")
    message = refused(destination, catalog, categories={"outdoor": {"steps": 20}})
    assert repr(field) in message
    assert repr(heading) in message


def test_two_headings_of_one_name_are_refused(destination: Destination, tmp_path: Path):
    """B8: two headings that templates cannot tell apart."""
    catalog = write(tmp_path / "c.csv", f"sku,image,Name,name \na,{IMAGE},mug,cup\n")
    assert "Name, name" in refused(destination, catalog)


def test_a_plan_notes_what_was_read_and_what_was_ignored(destination: Destination, tmp_path: Path):
    """B8: columns that nobody reads are noted."""
    catalog = write(tmp_path / "c.csv", f"sku;image;name;Price (EUR);Stock\na;{IMAGE};mug;5;7\n")
    run = destination.plan(catalog, defaults=TEMPLATE)
    read = (
        "Read CSV in utf-8 with delimiter ';' and the header in line 1. "
        "Columns used: sku, image, name; ignored: Price (EUR), Stock."
    )
    frequent = "Most frequent prompt of the rows to submit: 'A mug' (1 of 1 rows)."
    assert run.plan.reading == (read, frequent)
    assert run.plan.notes == (), "what was read is not a warning"
    assert run.xcom["reading"] == list(run.plan.reading)
    assert all(sentence in run.xcom["explained"] for sentence in run.plan.reading)


def test_a_category_is_found_in_any_case_or_noted(destination: Destination, tmp_path: Path):
    """B9: case does not matter; categories without a rule are noted once, with their rows' number."""
    categories = ("Outdoor", "OUTDOOR ", "\u00a0outdoor", "Indoor", "indoor", "")
    rows = [row(f"s{place}", category=name) for place, name in enumerate(categories)]
    options = {"categories": {"outDoor": {"steps": 20}}}
    run = destination.plan(rows, **options)
    assert [one["steps"] for one in run.work_items] == [20, 20, 20, 50, 50, 50]
    assert any("'Indoor' (1 row), 'indoor' (1 row)" in note for note in run.plan.notes)
    plain = destination.plan([row("a")], run_id="plain", **options)
    assert any("has no column 'category'" in note for note in plain.plan.notes)


def test_accents_of_their_own_are_the_same_letters(destination: Destination, tmp_path: Path):
    """B10: macOS writes an accent as a character of its own: the same heading, and the same product."""
    text = f"sku,image,Größe (cm),ＳＫＵ２\ncafé,{IMAGE},5,x\n"
    seen = set()
    for form in ("NFC", "NFD"):
        catalog = write(tmp_path / "c.csv", unicodedata.normalize(form, text))
        with destination.draft(catalog, defaults={"positive_prompt": "{{ grösse_cm }} cm"}) as draft:
            seen.add(tuple(drafted(draft).items()))
    assert seen == {(("café", "5 cm"),)}


@pytest.mark.parametrize("blank", ["\u00a0", "\u3000", "\u200b", "\ufeff", "\u200e", "\u2060"])
def test_invisible_characters_are_trimmed_or_shown(destination: Destination, tmp_path: Path, blank: str):
    """B10: around a cell they can only be a mistake; inside a sku they are shown as U+200B."""
    text = f"s{blank if blank != chr(0x3000) and blank != chr(0xA0) else ''}ku,image,positive_prompt\n"
    text += f"{blank}a{blank},{blank}{IMAGE}{blank},x\nb{blank}c,{IMAGE},x\n"
    run = destination.plan(write(tmp_path / "c.csv", text))
    assert run.submits == ["a"]
    (problem,) = run.problems
    assert (problem["column"], f"U+{ord(blank):04X}" in problem["reason"]) == ("sku", True)


# --- B11, B12 --------------------------------------------------------------------------------------


def part(number: int, form: str) -> bytes:
    if form == "parquet":
        sink = pa.BufferOutputStream()
        table = {name: [value] for name, value in row(f"s{number}").items()}
        pq.write_table(pa.table(table), sink)
        return bytes(sink.getvalue())
    one = row(f"s{number}")
    if form == "jsonl":
        return ("{" + ", ".join(f'"{name}": "{value}"' for name, value in one.items()) + "}\n").encode()
    return f"{','.join(one)}\n{','.join(one.values())}\n".encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "name"), [("csv", "catalog.csv"), ("jsonl", "catalog"), ("parquet", "catalog.parquet")]
)
def test_a_folder_of_part_files_is_read(destination: Destination, tmp_path: Path, form: str, name: str):
    """B11: Spark writes a folder; its marker files are ignored, and its rows are numbered through."""
    home = tmp_path / name
    home.mkdir()
    suffix = {"csv": "csv", "jsonl": "json", "parquet": "snappy.parquet"}[form]
    for number in range(3):
        (home / f"part-{number:05}-c000.{suffix}").write_bytes(part(number, form))
        (home / f".part-{number:05}-c000.{suffix}.crc").write_bytes(b"\0\1")
    (home / "_SUCCESS").touch()
    if form == "csv":
        (home / "part-00009-c000.csv.gz").write_bytes(gzip.compress(part(9, form) + b"bad\n"))
        (home / "part-00010-c000.csv").touch()
    run = destination.plan(str(home)).complete()
    expected = [f"s{number}" for number in ((0, 1, 2, 9) if form == "csv" else (0, 1, 2))]
    assert sorted(destination.published()) == expected
    assert "part files" in run.plan.reading[0]
    if form == "csv":
        (problem,) = run.problems
        assert "line 3 of part-00009-c000.csv.gz" in problem["reason"]
    assert destination.plan(str(home)).counts.get("unchanged") == len(expected)


def in_parts(folder: Path, form: str, parts: Sequence[Sequence[dict[str, Any]]]) -> str:
    """Rows as part files of a form."""
    for number, rows in enumerate(parts):
        file = folder / f"part-{number:05}.{form}"
        if form == "parquet":
            pq.write_table(pa.Table.from_pylist(list(rows)), file)
        elif form == "jsonl":
            file.write_text("".join(json.dumps(one) + "\n" for one in rows))
        else:
            file.write_text("\n".join([",".join(rows[0]), *(",".join(one.values()) for one in rows)]))
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_rows_of_part_files_are_billed_once(destination: Destination, tmp_path: Path, form: str):
    """B11: 360 rows in three files; a row that is gone later is retired, and its second copy reported."""
    parts = [[row(f"p{number}-{one}") for one in range(120)] for number in range(3)]
    run = destination.refresh(in_parts(tmp_path, form, parts), shard_size=120)
    assert (run.plan.quote.images, run.counts) == (360, {"new": 360})
    assert (destination.billed.total(), len(destination.billed)) == (360, 360)
    parts[2][30] = parts[2][0]
    run = destination.refresh(in_parts(tmp_path, form, parts))
    assert run.counts == {"unchanged": 359, "invalid": 1, "removed": 1}
    assert destination.published().keys() == {one["sku"] for some in parts for one in some}
    assert destination.billed.total() == 360


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_limit_counts_rows_of_part_files(destination: Destination, tmp_path: Path, form: str):
    """B11: with a limit, each row is submitted once, in as many runs as that takes."""
    parts = [[row(f"p{number}-{one}") for one in range(40)] for number in range(3)]
    catalog = in_parts(tmp_path, form, parts)
    for count in (50, 100, 120, 120):
        destination.refresh(catalog, max_images_per_run=50)
        assert (destination.billed.total(), len(destination.billed)) == (count, count)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_images_of_part_files_keep_their_versions(
    destination: Destination, tmp_path: Path, s3: Any, s3_folder: Any, count: int
):
    """B11: an image on object storage that changes is submitted again for its own row."""
    destination.options["source_conn_id"] = connection_of(s3_folder)
    folder = f"{s3_folder.path}/in"
    parts = [
        [row(f"p{part}-{one}", image=f"s3://{folder}/{part}-{one}.png") for one in range(60 // count)]
        for part in range(count)
    ]
    for one in (one for some in parts for one in some):
        s3.pipe_file(one["image"][5:], one["sku"].encode())
    catalog = in_parts(tmp_path, "parquet", parts)
    assert destination.refresh(catalog).counts == {"new": 60}
    assert (destination.billed.total(), len(destination.billed)) == (60, 60)
    s3.pipe_file(parts[-1][10]["image"][5:], b"changed")
    run = destination.refresh(catalog)
    assert run.counts == {"unchanged": 59, "changed": 1}
    assert (run.submits, destination.billed.total()) == ([parts[-1][10]["sku"]], 61)


EMPTIED = [
    *((form, form, False, None) for form in ("parquet", "csv.gz", "jsonl.gz", "parquet.gz")),
    *((form, "removed", True, None) for form in ("csv", "jsonl")),
    *((form, "invalid", False, None) for form in ("csv", "jsonl")),
    ("jsonl.gz", "removed", False, gzip.compress(b"", mtime=0)),
]
"""Part files that lose their rows: the form, what follows, with Spark's ``_SUCCESS``, and what is left."""


@pytest.mark.slow
@pytest.mark.parametrize("on_removed", ["retire", "delete"])
@pytest.mark.parametrize(("form", "follows", "is_complete", "left"), EMPTIED)
def test_rows_of_an_emptied_part_are_removed_if_certain(
    destination: Destination,
    tmp_path: Path,
    on_removed: str,
    form: str,
    follows: str,
    is_complete: bool,
    left: Any,
):
    """B11: an upload that broke off, or a full disk, leaves a file without a byte."""
    parts = [[row(f"p{number}-{one}") for one in range(count)] for number, count in enumerate((9, 2))]
    plain = form.removesuffix(".gz")
    in_parts(tmp_path, plain, parts)
    files = [tmp_path / f"part-{number:05}.{form}" for number in range(2)]
    for file in files:
        if form != plain:
            file.write_bytes(gzip.compress(file.with_suffix("").read_bytes()))
            file.with_suffix("").unlink()
    if is_complete:
        (tmp_path / "_SUCCESS").touch()
    destination.refresh(str(tmp_path), on_removed=on_removed)
    files[1].write_bytes(left or b"")
    if follows == form:
        assert f"in {files[1].name}" in refused(destination, str(tmp_path))
        return
    run = destination.refresh(str(tmp_path), on_removed=on_removed)
    assert len(destination.published()) == (9 if follows == "removed" else 11)
    assert run.counts == {"unchanged": 9, **({"removed": 2} if follows == "removed" else {"invalid": 1})}
    assert destination.billed.total() == 11


def test_a_part_may_have_the_name_of_its_folder(destination: Destination, tmp_path: Path):
    """B11: the folder itself is not a part, but a file in it with its name is."""
    (tmp_path / "shop.csv").mkdir()
    for number, name in enumerate(("part-0", "shop")):
        (tmp_path / "shop.csv" / f"{name}.csv").write_bytes(part(number, "csv"))
    assert destination.plan(str(tmp_path / "shop.csv")).submits == ["s0", "s1"]


def test_a_folder_that_is_no_catalog_is_named(destination: Destination, tmp_path: Path):
    """B11: a folder of anything else."""
    assert "contains no rows" in refused(destination, str(tmp_path))
    (tmp_path / "part.csv").write_bytes(part(1, "csv"))
    (tmp_path / "photos").mkdir()
    assert "photos" in refused(destination, str(tmp_path))
    (tmp_path / "photos").rmdir()
    (tmp_path / "part2.csv").write_text("a,b\n1,2\n")
    assert "in part2.csv" in refused(destination, str(tmp_path))


@pytest.mark.parametrize(
    "names", [["country=DE", "country=FR"], ["country=__HIVE_DEFAULT_PARTITION__", "x.csv"]]
)
def test_a_partitioned_folder_is_named(destination: Destination, tmp_path: Path, names: list[str]):
    """B11: Hive and Spark leave the partitions' column out of the files."""
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "part-0.csv").write_bytes(part(1, "csv"))
    (tmp_path / "_SUCCESS").touch()
    message = refused(destination, str(tmp_path))
    assert "is partitioned by 'country'" in message
    assert names[0] in message
    assert len(message) < 500
    assert destination.plan(str(tmp_path / names[0])).submits == ["s1"], "as the message says"


@pytest.mark.slow
def test_a_file_is_named_for_what_it_is(destination: Destination, tmp_path: Path):
    """B11: gzip is unpacked whatever its name; other files are named, with what to do."""
    run = destination.plan(write(tmp_path / "packed.csv", gzip.compress(part(1, "csv"))))
    assert run.submits == ["s1"]
    with zipfile.ZipFile(tmp_path / "book.csv", "w") as book:
        book.writestr("xl/workbook.xml", "x" * 999)
    noise = random.Random(7).randbytes(5000)  # noqa: S311 (the same in each run)
    named = {
        "book.csv": "Excel",
        write(tmp_path / "old.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + noise): "Excel",
        write(tmp_path / "table.csv", part(1, "parquet")): "Parquet",
        write(tmp_path / "lines.csv", part(1, "jsonl")): "jsonl",
        write(tmp_path / "array.jsonl", b'[{"sku": "a"}]'): "array",
        write(tmp_path / "page.csv", b"<!DOCTYPE html><html>404</html>"): "HTML",
        write(tmp_path / "z.csv", b"\x28\xb5\x2f\xfd" + noise): "zstd",
        write(tmp_path / "noise.csv", b"\x01\x02" + noise): "",
        write(tmp_path / "text.parquet", part(1, "csv")): "not a Parquet file",
        write(tmp_path / "cut.parquet", part(1, "parquet")[:-20]): "Parquet",
        write(tmp_path / "cut.csv.gz", gzip.compress(noise)[:-100]): "cannot be unpacked",
        write(tmp_path / "plain.csv.gz", part(1, "csv")): "not compressed",
        write(tmp_path / "catalog.docx", noise): "set catalog_format",
        str(tmp_path / "nothing.csv"): "does not exist",
        "http://user:s3cr3t@shop.example/c.csv?sig=s3cr3t": "HTTP URL",
        "HTTPS://shop.example/c.csv": "HTTP URL",
        "ftps://shop.example/c.csv": "store",
        "sftpx://shop.example/c.csv": "store",
    }
    for catalog, words in named.items():
        path = catalog if "/" in catalog else str(tmp_path / catalog)
        message = refused(destination, path)
        assert words in message, (catalog, message)
        assert "s3cr3t" not in message


@pytest.mark.slow
def test_damaged_parquet_is_refused_wherever_it_is_damaged(destination: Destination, tmp_path: Path):
    """B11: a flipped page, footer or length is an error of the catalog, and not of a library."""
    table = {name: [row(f"s{number}")[name] for number in range(500)] for name in row("a")}
    pq.write_table(pa.table(table), tmp_path / "c.parquet")
    data = (tmp_path / "c.parquet").read_bytes()
    for start in range(4, len(data) - 8, len(data) // 8):
        damaged = data[:start] + bytes(byte ^ 0xFF for byte in data[start : start + 24]) + data[start + 24 :]
        catalog = write(tmp_path / "c.parquet", damaged)
        with contextlib.suppress(InvalidInput), destination.draft(catalog) as draft:
            assert draft.plan.rows <= 500


@pytest.mark.parametrize("column", ["image", "mask"])
def test_several_urls_in_a_cell_are_reported(destination: Destination, tmp_path: Path, column: str):
    """B12: two URLs in one cell are reported by the plan; a URL within a URL is not."""
    two = [f"{IMAGE}{separator}{IMAGE}" for separator in (",", ", ", "|", " | ", ";", " ", "\n", "\t")]
    two += [f"s3://shop/a.jpg,{IMAGE}", "s3://shop/a.jpg,s3://shop/b.jpg", f"{IMAGE},HTTP://shop.example/b"]
    one = [
        "https://res.example/image/fetch/w_100,h_100/https://shop.example/a.jpg",
        f"https://proxy.example/?url={IMAGE}",
        "https://shop.example/a,b;c|d.jpg",
    ]
    rows = [row(f"two{place}", **{column: cell}) for place, cell in enumerate(two)]
    rows += [row(f"one{place}", **{column: cell}) for place, cell in enumerate(one)]
    with destination.draft(rows) as draft:
        assert {problem.sku for problem in draft.invalid} == {f"two{place}" for place in range(len(two))}
        assert {problem.column for problem in draft.invalid} == {column}
        assert sorted(drafted(draft)) == ["one0", "one1", "one2"]


def test_a_folder_of_part_files_on_s3_is_read(destination: Destination, s3: Any, s3_folder: Any):
    """B11: on a store, a folder is known once no object has its name."""
    for number in range(2):
        s3.pipe_file(f"{s3_folder.path}/catalog.csv/part-{number}.csv", part(number, "csv"))
    s3.pipe_file(f"{s3_folder.path}/catalog.csv/_SUCCESS", b"")
    catalog = f"s3://{connection_of(s3_folder)}@{s3_folder.path}"
    with destination.draft(f"{catalog}/catalog.csv") as draft:
        assert sorted(drafted(draft)) == ["s0", "s1"]
    assert "does not exist" in refused(destination, f"{catalog}/nothing.csv")
