"""Items are loaded by a thread in their order, and nothing of that is seen: not in results, errors or what is left."""

import gc
import threading
import time
import warnings
from contextvars import ContextVar

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.functional import to_tensor

from model_handler import ModelHandler
from model_handler.data import as_batches, images
from model_handler.data import prefetching as ahead
from model_handler.data.prefetching import prefetched
from model_handler.errors import ModelError
from tests.model_handler.networks import Residual

MAIN = threading.main_thread()
PIXELS = [Image.fromarray(np.full((8, 8, 3), 20 * number, np.uint8)) for number in range(12)]


def loading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("loading_ahead")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert loading_threads() == []


class Items:
    """Numbers, with what is known of their loading."""

    def __init__(self, n_items=6, fail_at=None):
        self.threads, self.n_loaded, self.closed_by = [], 0, None
        self.n_items, self.fail_at = n_items, fail_at

    def load(self):
        try:
            for number in range(self.n_items):
                if number == self.fail_at:
                    raise ZeroDivisionError(f"item {number}")
                self.threads.append(threading.current_thread())
                self.n_loaded += 1
                yield number
        finally:
            self.closed_by = threading.current_thread()


@pytest.mark.parametrize("n_items", [0, 1, 2, 3, 20])
def test_items_keep_their_order_and_all_but_the_first_are_loaded_by_a_thread(n_items):
    items = Items(n_items)
    assert list(prefetched(items.load())) == list(range(n_items))
    assert [thread is MAIN for thread in items.threads] == [number == 0 for number in range(n_items)]


def test_the_next_items_are_loaded_while_one_is_worked_on():
    items = Items()
    loaded = prefetched(items.load())
    assert (next(loaded), items.n_loaded) == (0, 1)
    assert next(loaded) == 1
    deadline = time.monotonic() + 10
    while items.n_loaded < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert items.n_loaded == 4  # the one worked on, the one before it, and two ahead
    loaded.close()


@pytest.mark.parametrize("fail_at", [0, 1, 4])
def test_an_error_comes_where_its_item_would_and_says_where_it_happened(fail_at):
    items = Items(fail_at=fail_at)
    loaded = prefetched(items.load())
    assert [next(loaded) for _ in range(fail_at)] == list(range(fail_at))
    with pytest.raises(ZeroDivisionError, match=f"item {fail_at}") as caught:
        next(loaded)
    assert caught.traceback[-1].name == "load"


@pytest.mark.parametrize("stop", [GeneratorExit, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("n_taken", [1, 2, 4])
def test_breaking_off_ends_the_thread_and_closes_the_items(stop, n_taken):
    items = Items(1000)
    loaded = prefetched(items.load())
    for _ in range(n_taken):
        next(loaded)
    if stop is GeneratorExit:
        loaded.close()
    else:
        with pytest.raises(stop):
            loaded.throw(stop())
    assert loading_threads() == []
    assert items.n_loaded <= n_taken + ahead.DEPTH + 1
    assert items.closed_by is MAIN


def test_forgetting_the_iterator_ends_the_thread():
    loaded = prefetched(Items(1000).load())
    next(loaded), next(loaded)
    del loaded
    gc.collect()


def test_torchs_modes_and_context_variables_are_those_of_the_iterating_thread():
    variable = ContextVar("variable", default="unset")
    variable.set("set")

    def look():
        while True:
            yield torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.empty(0).device.type, variable.get()

    def second():
        loaded = prefetched(look())
        next(loaded)
        seen = next(loaded)
        loaded.close()
        return seen

    assert second() == (False, True, "cpu", "set")
    with torch.no_grad():
        assert second() == (False, False, "cpu", "set")
    with torch.inference_mode(), torch.device("meta"):
        assert second() == (True, False, "meta", "set")


class Noted:
    """A transform that remembers its threads."""

    def __init__(self):
        self.threads = set()

    def __call__(self, image):
        self.threads.add(threading.current_thread())
        return to_tensor(image)


def test_images_are_read_by_a_thread_and_datasets_and_arrays_are_not():
    noted = Noted()
    list(as_batches(PIXELS, transform=noted, batch_size=4))
    assert len(noted.threads - {MAIN}) == 1
    noted = Noted()
    dataset = torch.utils.data.StackDataset(PIXELS)
    list(as_batches(dataset, transform=noted, batch_size=4))
    assert noted.threads == {MAIN}


def test_features_are_bit_for_bit_those_without_a_thread(monkeypatch):
    handler = ModelHandler(Residual().eval(), transform=to_tensor, batch_size=5)
    last = handler.layer_names[-1:]
    beside = handler.extract(PIXELS, last).matrix
    monkeypatch.setattr(images, "prefetched", iter)
    assert np.array_equal(beside, handler.extract(PIXELS, last).matrix)


def test_a_random_transform_draws_the_same_numbers_and_leaves_the_generator_where_it_would(monkeypatch):
    transform = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.RandomErasing(), v2.RandomRotation(30)]
    )
    handler = ModelHandler(Residual().eval(), transform=transform, batch_size=5)

    def seen():
        torch.manual_seed(3)
        return handler.extract(PIXELS, handler.layer_names[-1:]).matrix, torch.get_rng_state()

    matrix, state = seen()
    monkeypatch.setattr(images, "prefetched", iter)
    expected, expected_state = seen()
    assert np.array_equal(matrix, expected)
    assert torch.equal(state, expected_state)


def test_a_network_that_draws_as_well_gets_the_numbers_that_the_seed_says(monkeypatch):
    class Noisy(torch.nn.Flatten):
        def forward(self, x):
            return super().forward(x) + torch.rand(())

    handler = ModelHandler(
        torch.nn.Sequential(Noisy()), transform=v2.Compose([to_tensor, v2.RandomErasing()]), batch_size=2
    )

    def seen():
        torch.manual_seed(3)
        return handler.extract(PIXELS, ["0"]).matrix

    seen()  # the first call also compares the graph with the network
    matrix = seen()
    monkeypatch.setattr(images, "prefetched", iter)
    assert np.array_equal(matrix, seen())


def test_an_error_of_the_network_ends_the_thread_though_its_traceback_lives():
    class Fussy(torch.nn.Flatten):
        def forward(self, x):
            if x.amax() > 0.3:
                raise RuntimeError("too bright")
            return super().forward(x)

    handler = ModelHandler(torch.nn.Sequential(Fussy()), transform=to_tensor, batch_size=2)
    with pytest.raises(ModelError, match="too bright") as caught:
        handler.extract(PIXELS, handler.layer_names)
    assert loading_threads() == []
    assert caught.traceback


def test_a_broken_file_far_ahead_is_an_error_at_its_batch_alone(tmp_path):
    for number, image in enumerate(PIXELS):
        image.save(tmp_path / f"{number:02}.png")
    (tmp_path / "09.png").write_bytes(b"broken")
    batches = iter(as_batches(tmp_path, transform=to_tensor, batch_size=2))
    assert [next(batches).n_rows for _ in range(4)] == [2, 2, 2, 2]
    with pytest.raises(ValueError, match=r"09\.png cannot be read"):
        next(batches)


def test_warnings_of_a_transform_reach_the_users_filters():
    def warning(image):
        warnings.warn("a dark image", UserWarning, stacklevel=1)
        return to_tensor(image)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(as_batches(PIXELS, transform=warning, batch_size=4))
    assert len(caught) == 12


def test_a_transform_that_extracts_is_refused_instead_of_waiting_for_ever():
    inner = ModelHandler(Residual().eval())
    name = inner.layer_names[-1]

    def transform(image):
        inner.extract(to_tensor(image)[None], [name])
        return to_tensor(image)

    outer = ModelHandler(Residual().eval(), transform=transform, batch_size=4)
    with pytest.raises(ModelError, match=r"the transform itself extracts features.*give a DataLoader"):
        outer.extract(PIXELS, outer.layer_names[-1:])
    loader = torch.utils.data.DataLoader([transform(image) for image in PIXELS], batch_size=4)
    assert len(outer.extract(loader, outer.layer_names[-1:])) == 12
