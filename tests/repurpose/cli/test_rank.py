"""`repurpose rank` on tiny folders, with a network that takes no time."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from model_handler import SourceInfo
from model_handler.sources import loading
from repurpose.selection import rank_sources
from tests.model_handler.data.text.networks import text_source
from tests.repurpose.cli.commands import run

TINY = ("--source", "tiny/net", "--source", "tiny/headless")


def test_networks_are_listed_best_first_with_what_to_do_next(photos: Path) -> None:
    result = run("rank", photos, *TINY, "--source", "tiny/nothing/else", "--source", "efficientnet-lite9")
    assert result.code == 0, result.text
    assert "log loss" in result.text
    assert "judged by 24 images left out" in result.text
    assert f"next: repurpose train {photos} --source tiny/" in result.text
    assert "Not ranked: efficientnet-lite9: UnknownSourceError" in result.text


def test_json_is_the_table_of_rank_sources(photos: Path) -> None:
    result = run("rank", photos, *TINY, "--json", "--seed", 3, "--pooling", "avg", "--pooling", "max", "--every-layer")
    assert result.code == 0, result.text
    written = json.loads(result.stdout)
    options = {"pooling": ["avg", "max"], "every_layer": True, "random_state": 3}
    table = rank_sources(["tiny/net", "tiny/headless"], photos, **options)
    assert written["n_rows"] == 24
    for column in ("source", "layer", "pooling"):
        assert [row[column] for row in written["rows"]] == table[column].tolist()
    assert [row["gp_log_loss"] for row in written["rows"]] == pytest.approx(table["gp_log_loss"].tolist())
    assert written["rows"][0]["imagenet_accuracy"] is None


def test_by_default_the_networks_of_this_machine_are_judged(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [SourceInfo("tiny/net", "cached", "image"), SourceInfo("tiny/b", "known", "image")]
    listed += [SourceInfo("tiny/text", "embedded", "text")]
    monkeypatch.setattr("model_handler.list_sources", lambda: listed)
    result = run("rank", photos, "--json")
    assert [row["source"] for row in json.loads(result.stdout)["rows"]] == ["tiny/net"]
    monkeypatch.setattr("model_handler.list_sources", list)
    assert run("rank", photos).code == 2


def test_where_no_network_can_be_judged_the_command_fails_with_every_reason(photos: Path) -> None:
    result = run("rank", photos, "--source", "efficientnet-lite9")
    assert result.code == 2  # as where train does not know the name
    assert "none of the networks could be judged: efficientnet-lite9: UnknownSourceError" in result.text


def test_texts_are_those_of_a_table(photos: Path) -> None:
    result = run("rank", photos, "--texts")
    assert result.code == 2
    assert "--table" in result.text


def test_a_table_with_a_column_text_holds_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loading.LIBRARIES, "tinytext", lambda name, pretrained: replace(text_source(), name=None))
    table = tmp_path / "reviews.csv"
    rows = [f"{word} film number {n},{label}" for n in range(4) for word, label in (("good", "pos"), ("bad", "neg"))]
    table.write_text("\n".join(["text,label", *rows]))
    result = run("rank", "--table", table, "--source", "tinytext/bert", "--pooling", "max")
    assert result.code == 0, result.text
    assert "judged by 8 texts left out" in result.text
    assert "pooling='max'" in result.text
    monkeypatch.setattr("model_handler.list_sources", lambda: [SourceInfo("tinytext/bert", "cached", "text")])
    chosen = run("rank", "--table", table, "--label-column", "label")
    assert f"next: repurpose train --table {table} --label-column label --source tinytext/bert" in chosen.text


def test_a_narrow_terminal_shows_whole_columns_and_tells_of_the_others(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repurpose.cli.output.screen._UNFOLDED", 60)
    result = run("rank", photos, "--source", "tiny/net")
    assert "more columns in a wider terminal, and all of them with --json" in result.text
    assert "…" not in result.text
    assert "LogME" not in result.text


def test_a_pooling_that_is_not_there_is_a_mistake_of_use(photos: Path) -> None:
    result = run("rank", photos, "--pooling", "avgg")
    assert result.code == 2
    assert "flatten" in result.text


def test_a_table_may_have_a_column_of_groups_that_are_left_out_together(photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.rglob("*.png"))
    lines = [f"{file},{file.parent.name},{file.stem}" for file in files]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,number", *lines]))
    given = ("rank", "--table", tmp_path / "table.csv", "--source", "tiny/net", "--json")
    alone, grouped = (run(*given, *more) for more in ((), ("--group-column", "number")))
    assert (alone.code, grouped.code) == (0, 0), grouped.text
    losses = [json.loads(result.stdout)["rows"][0]["gp_log_loss"] for result in (alone, grouped)]
    groups = [int(file.stem) for file in files]
    data = ([str(file) for file in files], [file.parent.name for file in files])
    expected = [
        rank_sources(["tiny/net"], data, groups=of_rows, random_state=0)["gp_log_loss"][0] for of_rows in (None, groups)
    ]
    assert losses == pytest.approx(expected)
    assert losses[0] != losses[1]
    assert run("rank", photos, "--source", "tiny/net", "--group-column", "number").code == 2


def test_the_choice_itself_is_measured_where_that_is_asked_for(photos: Path) -> None:
    result = run("rank", photos, "--source", "tiny/net", "--nested")
    assert result.code == 0, result.text
    assert "made without the rows that it is measured on: log loss" in result.text
