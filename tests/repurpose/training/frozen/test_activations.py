"""Kept rows come back as they were written, from memory and from disk, and nothing stays behind."""

import os

import pytest
import torch

from model_handler.errors import ModelError
from repurpose.training.frozen.activations import Activations, size_text

SHAPES, DTYPES = ((3, 2), (4,)), (torch.float32, torch.int64)


def rows():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(7, 3, 2, generator=generator), torch.randint(0, 2**40, (7, 4), generator=generator)


@pytest.mark.parametrize("on_disk", [False, True])
def test_rows_come_back_in_the_order_asked_for(on_disk, tmp_path):
    with Activations(7, SHAPES, DTYPES, on_disk=on_disk, directory=tmp_path) as kept:
        maps, tokens = rows()
        kept.write(0, (maps[:5], tokens[:5]))
        kept.write(5, (maps[5:], tokens[5:]))
        asked = torch.tensor([6, 0, 0, 3])
        got = kept.read(asked)
        assert torch.equal(got[0], maps[asked])
        assert torch.equal(got[1], tokens[asked])
        got[0].zero_()
        assert torch.equal(kept.read(asked)[0], maps[asked])  # what is read is a copy
        assert kept.n_bytes_in_memory == (0 if on_disk else 7 * (24 + 32))


@pytest.mark.parametrize("on_disk", [False, True])
def test_rows_are_handed_over_as_bytes(on_disk, tmp_path):
    with (
        Activations(7, SHAPES, DTYPES, dtype=torch.bfloat16, on_disk=on_disk, directory=tmp_path) as source,
        Activations(7, SHAPES, DTYPES, dtype=torch.bfloat16) as copy,
    ):
        source.write(0, rows())
        copy.write(0, [torch.zeros_like(part) for part in rows()])
        for given, got in zip(source.pieces(2, 5), copy.pieces(2, 5), strict=True):
            got.copy_(given)
        for given, got in zip(source.read(torch.arange(7)), copy.read(torch.arange(7))):
            assert torch.equal(got[2:5], given[2:5])
            assert not got[[0, 1, 5, 6]].any()


def test_what_is_handed_over_at_a_time_is_small():
    with Activations(5, ((2**21,),), (torch.float32,)) as kept:
        assert [piece.nbytes for piece in kept.pieces(1, 5)] == [2**24, 2**24]


@pytest.mark.parametrize("on_disk", [False, True])
def test_bfloat16_keeps_floating_numbers_in_half_the_room(on_disk):
    assert Activations.n_bytes(7, SHAPES, DTYPES) == 7 * (24 + 32)
    assert Activations.n_bytes(7, SHAPES, DTYPES, torch.bfloat16) == 7 * (12 + 32)
    with Activations(7, SHAPES, DTYPES, dtype=torch.bfloat16, on_disk=on_disk) as kept:
        maps, tokens = rows()
        kept.write(0, (maps, tokens))
        got = kept.read(torch.arange(7))
        assert torch.equal(got[0], maps.bfloat16().float())
        assert torch.equal(got[1], tokens)


def test_nothing_stays_on_disk(tmp_path):
    kept = Activations(7, SHAPES, DTYPES, on_disk=True, directory=tmp_path)
    kept.write(0, rows())
    kept.close()
    assert os.listdir(tmp_path) == []


def test_nothing_stays_on_disk_after_an_error(tmp_path):
    with (
        pytest.raises(ModelError, match=r"rows differ in size: the frozen part gives \(2, 2\) after \(3, 2\)"),
        Activations(7, SHAPES, DTYPES, on_disk=True, directory=tmp_path) as kept,
    ):
        kept.write(0, (rows()[0][:, :2], rows()[1]))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a file keeps its name while it is open")
def test_files_have_no_names_while_they_serve(tmp_path):
    with Activations(7, SHAPES, DTYPES, on_disk=True, directory=tmp_path):
        assert os.listdir(tmp_path) == []  # so that a process that is killed leaves none


def test_no_room_on_disk_is_an_error_beforehand(tmp_path):
    needs = r"it needs 4,000,000,000,000,000 bytes; .* bytes are free there"  # 10^9 rows of 10^6 float32
    with pytest.raises(
        OSError, match=rf"frozen_part_.*0\.bin cannot be written: (No space left.*|.*too large); {needs}"
    ):
        Activations(10**9, ((10**6,),), (torch.float32,), on_disk=True, directory=tmp_path)
    assert os.listdir(tmp_path) == []


def test_more_rows_than_announced_are_refused():
    with Activations(7, SHAPES, DTYPES) as kept, pytest.raises(ModelError, match="more rows than the 7 announced"):
        kept.write(3, rows())


def test_sizes_are_told_as_people_write_them():
    assert [size_text(n) for n in (0, 999, 2048, 3.21e8, 5e13)] == [
        "0 bytes",
        "999 bytes",
        "2.05 kB",
        "321 MB",
        "50 TB",
    ]
