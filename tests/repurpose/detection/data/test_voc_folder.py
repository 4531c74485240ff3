import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset

from model_handler import CorruptFileError, UnsafeFileError
from repurpose.detection import VocFolderData, detection_rows
from tests.repurpose.detection.data.folders import SIZE, voc_folder, voc_object, voc_xml


def test_a_box_of_whole_pixels_counted_from_1_becomes_its_edges(tmp_path: Path) -> None:
    data = VocFolderData(voc_folder(tmp_path, {"a": voc_xml(voc_object(box=(1, 3, 1, 10)))}), "train")
    image, target = data[0]
    assert (image.size, image.mode) == (SIZE, "RGB")
    assert target["boxes"].tolist() == [[0, 2, 1, 10]]  # one pixel wide, and down to the edge
    assert target["boxes"].dtype == torch.float32


def test_edges_may_be_fractions(tmp_path: Path) -> None:
    data = VocFolderData(voc_folder(tmp_path, {"a": voc_xml(voc_object(box=("1.5", "2", "7.25", "9")))}), "train")
    assert data.truth(0).boxes.tolist() == [[0.5, 1, 7.25, 9]]


def test_rows_stand_in_the_order_of_the_split(tmp_path: Path) -> None:
    root = voc_folder(tmp_path, {"b": voc_xml(voc_object("dog")), "a": voc_xml(), "c": voc_xml(voc_object("cat"))})
    data = VocFolderData(root, "train")
    assert [truth.labels.tolist() for truth in data.truths()] == [["dog"], [], ["cat"]]
    assert data.truth(1).boxes.shape == (0, 4)
    assert data.classes == ["cat", "dog"]
    assert [target["labels"] for _, target in data] == [["dog"], [], ["cat"]]  # iteration ends
    assert data[-1][1]["labels"] == ["cat"]
    assert detection_rows(data) is data


def test_difficult_objects_are_marked_and_make_no_class(tmp_path: Path) -> None:
    xml = voc_xml(voc_object("cat", difficult=1), voc_object("dog", difficult=0)).replace(
        "<difficult>0</difficult>", ""
    )
    data = VocFolderData(voc_folder(tmp_path, {"a": xml}), "train")
    assert data[0][1]["ignored"].tolist() == [True, False]
    assert data.classes == ["dog"]


def test_parts_of_an_object_are_no_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    xml = voc_xml(voc_object("person").replace("</object>", f"{part}</object>"))
    truth = VocFolderData(voc_folder(tmp_path, {"a": xml}), "train").truth(0)
    assert (truth.labels.tolist(), truth.boxes.tolist()) == (["person"], [[0, 2, 5, 10]])


def test_torch_takes_it_as_a_dataset(tmp_path: Path) -> None:
    root = voc_folder(tmp_path, {name: voc_xml(voc_object()) for name in "abc"})
    data = VocFolderData(root, "train")
    loader = DataLoader(Subset(data, [2, 0]), batch_size=2, collate_fn=list)
    assert [target["labels"] for _, target in next(iter(loader))] == [["cat"], ["cat"]]
    assert pickle.loads(pickle.dumps(data)).classes == data.classes
    assert repr(data) == f"VocFolderData({root}, train: 3 images)"


def test_images_of_other_suffixes_are_found_and_names_may_have_spaces_and_dots(tmp_path: Path) -> None:
    root = voc_folder(tmp_path, {"my photo.v1": voc_xml(voc_object())})
    (root / "JPEGImages/my photo.v1.jpg").unlink()
    Image.new("RGB", SIZE).save(root / "JPEGImages/my photo.v1.PNG", format="PNG")
    assert VocFolderData(root, "train")[0][0].size == SIZE


def test_a_box_up_to_a_pixel_outside_is_clipped(tmp_path: Path) -> None:
    data = VocFolderData(voc_folder(tmp_path, {"a": voc_xml(voc_object(box=(0, 0, 21, 11)))}), "train")
    assert data.truth(0).boxes.tolist() == [[0, 0, 20, 10]]


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((1, 1, 40, 5), "lies outside"),
        ((-5, 1, 10, 5), "lies outside"),
        ((30, 1, 40, 5), "lies outside"),
        ((10, 1, 5, 5), "is reversed"),
        ((6, 1, 5, 5), "is empty"),
        ((1, 9, 5, 8), "is empty"),
        (("nan", 1, 5, 5), "is not finite"),
        ((1, 1, "inf", 5), "is not finite"),
    ],
)
def test_a_box_that_cannot_be_is_refused_by_file_and_number(tmp_path: Path, box: tuple, said: str) -> None:
    root = voc_folder(tmp_path, {"ok": voc_xml(), "bad": voc_xml(voc_object(), voc_object("dog", box))})
    data = VocFolderData(root, "train")
    with pytest.raises(ValueError, match=rf"bad\.xml, an image of 20 x 10 pixels: box 1, \[.*\], {said}") as error:
        data[1]
    assert 'VocFolderData(..., on_error="skip")' in str(error.value)
    with pytest.warns(UserWarning, match=rf"bad\.xml.*box 1.*{said}.*left out"):
        assert VocFolderData(root, "train", on_error="skip")[1][1]["labels"] == ["cat"]


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        ("<annotation><object>", "is no whole XML"),
        ("", "is no whole XML"),
        ("\x00\x01", "is no whole XML"),
        ("<html></html>", "its root is <html>"),
        ("<annotation><object><name>cat</name></object></annotation>", "object 0, has no <bndbox>"),
        (voc_xml(voc_object(), voc_object("")), "object 1, has no <name>"),
        (voc_xml(voc_object(box=("a", 1, 5, 5))), "has <xmin> 'a', which is no number"),
        (voc_xml(voc_object(box=(1, 1, 5))), "has no <ymax>"),
        (voc_xml(voc_object(difficult="maybe")), "has <difficult> 'maybe', which is 0 or 1"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "is no whole XML"),
        ("<annotation>" * 100_000, "is no whole XML"),
        (f"<annotation>{' ' * (1 << 24)}</annotation>", "where at most 16,777,216 were expected"),
    ],
)
def test_a_broken_annotation_is_named(tmp_path: Path, xml: str, said: str) -> None:
    data = VocFolderData(voc_folder(tmp_path, {"a": xml}), "train")
    with pytest.raises(CorruptFileError, match=said) as error:
        _ = data.classes
    assert "Annotations/a.xml" in str(error.value)


LAUGHS = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
HOSTILE = {
    "billion laughs": f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><annotation>&l9;</annotation>',
    "a large entity, often": f'<!DOCTYPE a [<!ENTITY b "{"x" * 10000}">]><annotation>{"&b;" * 1000}</annotation>',
    "another file": '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><annotation>&f;</annotation>',
    "a parameter entity": '<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:9/x.dtd"> %p;]><annotation/>',
    "a network": '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd" [<!ENTITY n "n">]><annotation>&n;</annotation>',
}


@pytest.mark.parametrize("xml", HOSTILE.values(), ids=HOSTILE)
def test_entities_are_refused_by_the_name_of_the_file(tmp_path: Path, xml: str) -> None:
    data = VocFolderData(voc_folder(tmp_path, {"a": xml}), "train")
    with pytest.raises(UnsafeFileError, match=r"Annotations/a\.xml is refused, as it defines or fetches entities"):
        data.truth(0)


def test_a_missing_image_is_named_with_its_annotation_at_once(tmp_path: Path) -> None:
    root = voc_folder(tmp_path, {"000001": voc_xml(), "000002": voc_xml()})
    (root / "JPEGImages/000002.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 image is missing in .*000002\.jpg \(named by .*000002\.xml\)"):
        VocFolderData(root, "train")


def test_a_missing_annotation_is_named_at_once(tmp_path: Path) -> None:
    root = voc_folder(tmp_path, {"000001": voc_xml(), "000002": voc_xml()})
    (root / "Annotations/000002.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 images of the split 'train' have no annotation.*000002\.xml"):
        VocFolderData(root, "train")


def test_a_broken_image_is_named_with_its_annotation(tmp_path: Path) -> None:
    root = voc_folder(tmp_path, {"a": voc_xml(voc_object())})
    (root / "JPEGImages/a.jpg").write_bytes(b"no image")
    for read in (VocFolderData(root, "train").row, VocFolderData(root, "train").truth):
        with pytest.raises(ValueError, match=r"a\.xml: its image .*a\.jpg cannot be read"):
            read(0)


def test_another_split_or_folder_is_told_with_what_is_there(tmp_path: Path) -> None:
    root = voc_folder(tmp_path / "VOCdevkit/VOC2007", {"a": voc_xml()}, "trainval")
    with pytest.raises(FileNotFoundError, match=r"no split 'train' in .*nearest: \['trainval'\]"):
        VocFolderData(root, "train")
    with pytest.raises(FileNotFoundError, match=r"has no folder JPEGImages .*so it is no VOC folder; give .*VOC2007"):
        VocFolderData(tmp_path, "trainval")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        VocFolderData(tmp_path / "VOC2008", "trainval")
    with pytest.raises(FileNotFoundError, match=r"no split '\.\./train'"):
        VocFolderData(root, "../train")


def test_a_split_of_one_class_an_empty_one_and_one_with_an_image_twice_are_refused(tmp_path: Path) -> None:
    root = voc_folder(tmp_path, {"a": voc_xml(), "b": voc_xml()})
    splits = root / "ImageSets/Main"
    (splits / "cat_train.txt").write_text("a -1\nb  1\n")
    (splits / "none.txt").write_text("\n")
    (splits / "twice.txt").write_text("a\nb\na\n")
    with pytest.raises(ValueError, match=r"cat_train.txt is a list of VOC's for one class.*\['train'"):
        VocFolderData(root, "cat_train")
    with pytest.raises(ValueError, match=r"none.txt names no image"):
        VocFolderData(root, "none")
    with pytest.raises(ValueError, match=r"twice.txt names images twice: a;"):
        VocFolderData(root, "twice")
    with pytest.raises(ValueError, match="on_error must be one of"):
        VocFolderData(root, "train", on_error="ignore")


def test_names_that_end_in_a_number_are_names_all_the_same(tmp_path: Path) -> None:
    assert len(VocFolderData(voc_folder(tmp_path, {"scan 0": voc_xml(), "scan 1": voc_xml()}), "train")) == 2


def test_who_changes_a_row_changes_no_later_one(tmp_path: Path) -> None:
    data = VocFolderData(voc_folder(tmp_path, {"a": voc_xml(voc_object())}), "train")
    data[0][1]["boxes"].mul_(2)
    data.row(0).labels[:] = "dog"
    assert (data[0][1]["boxes"].tolist(), data[0][1]["labels"]) == ([[0, 2, 5, 10]], ["cat"])


def test_an_image_of_another_size_than_its_annotation_states_is_refused(tmp_path: Path) -> None:
    root = voc_folder(tmp_path, {"a": voc_xml(voc_object(), size=(500, 375)), "b": voc_xml(size=(0, 0))})
    data = VocFolderData(root, "train")
    with pytest.raises(ValueError, match=r"a\.xml states a size of 500 x 375 pixels, and its image .* has 20 x 10"):
        data[0]
    assert data.truth(1).size == (10, 20)  # some tools write 0 where they do not know
    (root / "Annotations/b.xml").write_text(voc_xml(size=("9" * 5000, "wide")))  # type: ignore[arg-type]
    assert VocFolderData(root, "train").truth(1).size == (10, 20)


def test_the_size_that_is_stated_says_which_side_of_a_phone_s_photograph_is_up(tmp_path: Path) -> None:
    names = {"upright": (10, 20), "lying": (20, 10), "unstated": None}
    xmls = {name: voc_xml(voc_object(box=(1, 1, 9, 9)), size=size) for name, size in names.items()}
    root = voc_folder(tmp_path, xmls)
    for name in names:
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by a quarter
        Image.new("RGB", (20, 10)).save(root / f"JPEGImages/{name}.jpg", exif=exif)
    data = VocFolderData(root, "train")
    assert [data.row(number).size for number in range(3)] == [(20, 10), (10, 20), (20, 10)]
    assert [truth.size for truth in data.truths()] == [(20, 10), (10, 20), (20, 10)]
