"""Networks of Hugging Face transformers: what `save_pretrained` wrote into a folder becomes a source.

The network is the `AutoModel`, with float32 weights and without a head; of an encoder with a decoder, the encoder.
Code that comes with weights is never run, and weights are read from safetensors, or by `weights_only=True`.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model_handler.data.text.text_transform import TextTransform
from model_handler.errors import first_few
from model_handler.sources.fetching import quiet_hubs
from model_handler.sources.image_processors import read_image_processor
from model_handler.sources.output_layers import find_output_layer
from model_handler.sources.settings_files import refuse_own_code
from model_handler.sources.source import Source
from model_handler.sources.weight_files import reading_weights

__all__ = ["load_tokenizer", "load_transformer", "load_whole_transformer", "longest_text", "may_lack_pooler"]

_LONGEST = 512  # tokens, where neither tokenizer nor network says


def load_whole_transformer(folder: Path, name: str, pretrained: bool) -> Source:
    """Load a folder as a source: images or text as the network takes them, with its own preprocessing.

    Raises ValueError for a network of neither or both, without preprocessing, or whose weights do not fit; ImportError
    without transformers.
    """
    network = load_transformer(folder, name, pretrained)
    transform: Any
    if _input_of(network, name) == "pixel_values":
        transform = read_image_processor(folder, name)
        inputs = {"pixel_values": _blank(transform)}
        parts = ["pooler_output", "last_hidden_state"]
    else:
        tokenizer = load_tokenizer(folder, name, network)
        transform = TextTransform(tokenizer, max_length=longest_text(tokenizer, network))
        # The average over the tokens is known to say more of a text than the pooler of BERT (arXiv:1908.10084).
        inputs, parts = transform(["a word"]), ["last_hidden_state"]
    return Source(network, transform, layer=find_output_layer(network, inputs, parts))


def load_transformer(folder: Path, name: str, pretrained: bool) -> nn.Module:
    """Load the `AutoModel` of a folder in eval mode; without pretrained weights, one of the same configuration."""
    try:
        from transformers import AutoConfig, AutoModel
    except ImportError as error:
        raise ImportError(f"{name!r} needs transformers: pip install 'repurpose-torch[text]' ({error})") from error
    refuse_own_code(folder, name)
    safely = {"trust_remote_code": False, "local_files_only": True}
    with quiet_hubs(), _without_bars():
        try:
            config = AutoConfig.from_pretrained(folder, **safely)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"the config.json of {name!r} is none that transformers knows: {_first_line(error)}"
            ) from error
        # A config may ask for an implementation that is a kernel of the Hub, which is code; this is transformers' own.
        config._attn_implementation = config._experts_implementation = None
        if not pretrained:
            network = AutoModel.from_config(config, trust_remote_code=False, dtype=torch.float32)
        else:
            with reading_weights(name):
                network, report = AutoModel.from_pretrained(
                    folder, config=config, dtype=torch.float32, output_loading_info=True, **safely
                )
            _drop_unlearned_pooler(network, report, name)
    return (network.get_encoder() if config.is_encoder_decoder else network).eval()


def load_tokenizer(folder: Path, name: str, network: nn.Module) -> Any:
    """Load the tokenizer of a folder, which gives what the network takes and no more."""
    from transformers import AutoTokenizer

    with quiet_hubs():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            if len(tokenizer) <= len(tokenizer.all_special_tokens):  # as transformers make one of no file
                raise ValueError("it has no words")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{name!r} has no tokenizer that can be read ({_first_line(error)}); save one beside the network: "
                "tokenizer.save_pretrained(folder)"
            ) from error
    taken = inspect.signature(network.forward).parameters
    tokenizer.model_input_names = [part for part in tokenizer.model_input_names if part in taken]
    if tokenizer.pad_token is None:  # any will do, as the mask leaves it out
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def longest_text(tokenizer: Any, network: nn.Module) -> int:
    """Return how many tokens the network takes: by its tokenizer and its positions, 512 where neither says."""
    limits = [tokenizer.model_max_length]
    config = getattr(network, "config", None)
    if isinstance(n_positions := getattr(config, "max_position_embeddings", None), int) and n_positions > 0:
        table = next((part for path, part in network.named_modules() if path.endswith("position_embeddings")), None)
        # RoBERTa and its kin count positions from behind the number of the padding.
        padding = getattr(table, "padding_idx", None)
        limits.append(n_positions if padding is None else n_positions - padding - 1)
    known = [limit for limit in limits if isinstance(limit, int) and 0 < limit < 10**9]
    return min(known, default=_LONGEST)


def _input_of(network: nn.Module, name: str) -> str:
    config = getattr(network, "config", None)
    main = getattr(network, "main_input_name", None)
    both = hasattr(config, "text_config") and hasattr(config, "vision_config")
    if main not in ("pixel_values", "input_ids") or both:
        takes = "both images and text" if both else f"{main!r}"
        raise ValueError(
            f"{name!r} is a {type(network).__name__}, which takes {takes}; a source takes images or text. Load the "
            "part that you want by its own class, such as transformers.CLIPVisionModel, and give that nn.Module"
        )
    return str(main)


def _drop_unlearned_pooler(network: nn.Module, report: dict[str, Any], name: str) -> None:
    """Take the pooler off, in place, where the weights have none: a random one would be another at each loading.

    Raises ValueError where the weights lack more, or have other shapes.
    """
    differ = sorted(str(key if isinstance(key, str) else key[0]) for key in report["mismatched_keys"])
    missing = sorted(report["missing_keys"])
    lacking = [key for key in missing if not (key.startswith("pooler.") and may_lack_pooler(network))]
    if differ or lacking:
        said = [f"lack {first_few(lacking)}"] * bool(lacking) + [f"have other shapes of {first_few(differ)}"] * bool(
            differ
        )
        raise ValueError(f"the weights of {name!r} do not fit their config.json: they {' and '.join(said)}")
    if missing:
        network.pooler = None  # type: ignore[assignment]  # as transformers build it without one


def may_lack_pooler(network: nn.Module) -> bool:
    """Return whether a network runs without its pooler, as it may be built without one."""
    return "add_pooling_layer" in inspect.signature(type(network).__init__).parameters


def _blank(transform: Any) -> torch.Tensor:
    from PIL import Image

    return transform(Image.new("RGB", (64, 64), "grey"))[None]


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


@contextmanager
def _without_bars() -> Iterator[None]:
    """Load without the progress bars of transformers, which are there again afterwards."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
