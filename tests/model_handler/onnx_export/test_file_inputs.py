"""What a file takes, by the kinds of rows that a network gets."""

import json

import numpy as np
import pytest
import torch
from torchvision import transforms

from model_handler.onnx_export.file_inputs import file_inputs

TRANSFORM = transforms.Compose([transforms.Resize(10), transforms.CenterCrop(8), transforms.ToTensor()])
PHOTOS = [np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8) for seed in range(4)]


def test_images_are_bytes_with_channels_last_at_the_size_of_the_network() -> None:
    inputs = file_inputs(PHOTOS, TRANSFORM)
    assert list(inputs.arrays) == ["images"]
    assert inputs.arrays["images"].shape == (4, 8, 8, 3)
    assert inputs.arrays["images"].dtype == np.uint8
    fact = inputs.facts["images"]
    assert fact["shape"] == ["rows", 8, 8, 3]
    assert (fact["dtype"], fact["range"], fact["channels"]) == ("uint8", [0, 255], "RGB")
    assert [step["step"] for step in fact["before"]] == ["Resize", "CenterCrop"]
    assert "EXIF" in fact["decoded"]
    read = inputs.reading(torch.from_numpy(inputs.arrays["images"]))
    wanted = torch.stack([TRANSFORM(transforms.functional.to_pil_image(photo)) for photo in PHOTOS])
    torch.testing.assert_close(read, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("scaled", [True, False])
def test_what_the_transform_makes_is_taken_where_scaling_cannot_be_told_apart(scaled: bool) -> None:
    transform = TRANSFORM if scaled else transforms.Compose([TRANSFORM, torch.sqrt])
    inputs = file_inputs(PHOTOS, transform, scaled=scaled)
    assert inputs.arrays["inputs"].shape == (4, 3, 8, 8)
    assert "made of an image" in inputs.facts["inputs"]["before"]
    assert inputs.facts["inputs"]["dtype"] == "float32"


def test_rows_of_numbers_keep_their_kind() -> None:
    inputs = file_inputs(torch.zeros(5, 2, dtype=torch.float64), None)
    assert inputs.arrays["inputs"].dtype == np.float32
    assert file_inputs(torch.zeros(5, 2, dtype=torch.int64), None).arrays["inputs"].dtype == np.int64
    assert inputs.examples(3)["inputs"].shape == (3, 2)


def test_few_rows_are_repeated_to_trace_with() -> None:
    assert file_inputs(torch.arange(2.0)[:, None], None).examples(3)["inputs"].flatten().tolist() == [0, 1, 0]


def test_tokens_have_two_axes_of_any_size_and_types_of_zero_are_left_out() -> None:
    ids, mask = torch.ones(2, 5, dtype=torch.int64), torch.ones(2, 5, dtype=torch.int64)
    inputs = file_inputs({"input_ids": ids, "token_type_ids": 0 * ids, "attention_mask": mask}, None)
    assert list(inputs.arrays) == ["input_ids", "attention_mask"]
    assert inputs.axes["input_ids"] == {0: "rows", 1: "tokens"}
    read = inputs.reading(ids, mask)
    assert torch.equal(read["token_type_ids"], 0 * ids)
    with_types = file_inputs({"input_ids": ids, "token_type_ids": ids, "attention_mask": mask}, None)
    assert list(with_types.arrays) == ["input_ids", "token_type_ids", "attention_mask"]


def test_several_parts_are_taken_by_position() -> None:
    inputs = file_inputs((torch.zeros(2, 3), torch.ones(2, 4)), None)
    assert list(inputs.arrays) == ["inputs_0", "inputs_1"]
    assert isinstance(inputs.reading(*inputs.examples().values()), tuple)


def test_images_of_several_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images of one size.*put a resize"):
        file_inputs([PHOTOS[0], PHOTOS[1][:15]], transforms.ToTensor())


def test_the_tokenizer_goes_along() -> None:
    pytest.importorskip("transformers")
    from tests.model_handler.onnx_export.texts import tiny_transform

    transform = tiny_transform()
    inputs = file_inputs(transform(["good film"]), transform)
    fact = inputs.facts["tokenizer"]
    assert (fact["max_length"], fact["pad_token_id"], fact["padding"]) == (8, 0, "right")
    from tokenizers import Tokenizer

    again = Tokenizer.from_str(fact["tokenizer.json"])
    assert again.encode("good film").ids == transform(["good film"])["input_ids"][0].tolist()
    assert json.dumps(inputs.facts)
