"""Members of tar files are found by their headers; what is unsafe or cut is refused."""

import gzip
import tarfile
from pathlib import Path

import pytest

from model_handler import CorruptFileError, UnsafeFileError
from model_handler.data.tar.tar_index import samples_in
from tests.model_handler.data.tar.tars import image, write_tar

TWO = [("a/1.jpg", b"x" * 700), ("a/1.cls", b"3"), ("a/2.x.JPG", b"yy"), ("__m.json", b"{}"), ("a/.hidden.jpg", b"")]


def test_members_of_one_key_are_a_sample(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", TWO)
    first, second = samples_in(path)
    assert (first.key, list(first.places), second.key, list(second.places)) == ("a/1", ["jpg", "cls"], "a/2", ["x.jpg"])
    offset, size = first.places["jpg"]
    assert path.read_bytes()[offset : offset + size] == b"x" * 700


@pytest.mark.parametrize("name", ["../1.jpg", "/etc/1.jpg", "a/../../1.jpg", "..\\1.jpg", "C:/1.jpg"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.jpg", b"x"), (name, b"x")])
    with pytest.raises(UnsafeFileError, match="whose name leads out of its directory"):
        list(samples_in(path))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member = tarfile.TarInfo("1.jpg")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(UnsafeFileError, match="no plain file"):
        list(samples_in(tmp_path / "a.tar"))


@pytest.mark.parametrize("n_bytes", [0, 100, 511, 600, 1024, 1536, 2048, 2560])
def test_a_cut_file_is_refused_wherever_it_was_cut(tmp_path: Path, n_bytes: int) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.jpg", b"x" * 700), ("1.cls", b"3")])
    assert tarfile.BLOCKSIZE * 5 == 2560  # header, two blocks, header, block: then the end
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(CorruptFileError, match=r"a\.tar (was cut|is no whole tar file)"):
        list(samples_in(path))


def test_a_compressed_file_is_told_how_to_be_unpacked(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.jpg", image(0))])
    (tmp_path / "b.tar").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(CorruptFileError, match="compressed: unpack it once"):
        list(samples_in(tmp_path / "b.tar"))


def test_a_member_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.jpg", b"x"), ("1.jpg", b"y")])
    with pytest.raises(CorruptFileError, match=r"member '1\.jpg' twice"):
        list(samples_in(path))
