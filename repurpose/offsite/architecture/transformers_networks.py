"""Networks of Hugging Face as data: their configuration, from which one of `transformers`' Auto classes makes them.

The kinds of networks and the Auto classes stand in tables. Nothing that a configuration could have fetched or run is
written or read: no remote code, no kernels and backbones of the Hub, no quantization, no name of a path.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.errors import CorruptFileError, ModelError, UnsafeFileError
from model_handler.files.canonical_json import JsonValue
from repurpose.offsite.architecture.filling import set_constants, set_modes
from repurpose.offsite.architecture.recording import FIX

__all__ = ["config_of", "is_of_transformers", "network_of_config"]

_AUTO_CLASSES = (
    "AutoModelForSequenceClassification",
    "AutoModelForImageClassification",
    "AutoModelForTokenClassification",
    "AutoModelForAudioClassification",
    "AutoModel",
)
_MODEL_TYPES = frozenset(
    """
    albert beit bert camembert convnext convnextv2 data2vec-text data2vec-vision deberta deberta-v2 deit dinov2
    dinov2_with_registers distilbert electra ernie gemma gpt2 gpt_neo gpt_neox llama mistral mobilenet_v1 mobilenet_v2
    mobilevit modernbert mpnet nystromformer opt phi poolformer pvt_v2 qwen2 qwen3 regnet rembert resnet roberta
    roberta-prelayernorm segformer squeezebert swin swinv2 vit vit_mae vit_msn xlm-roberta yolos
    """.split()  # noqa: SIM905
)
_ATTENTION = ("eager", "sdpa")  # any other may be code of the Hub
_NEVER = ("auto_map", "quantization", "backbone", "pretrained", "kernel", "implementation", "trust", "name_or_path")
_LEFT_OUT = ("transformers_version", "architectures", "dtype", "torch_dtype", "model_type", "id2label", "label2id")
_BESIDE = ("num_labels", "problem_type", "pad_token_id", "layer_types")
_NAMES = ("kind", "auto_class", "model_type", "config", "attention", "options", "frozen", "training")
_COUNTS = ("layer", "depth", "block", "stage", "group", "head")  # in names of numbers of modules
_MOST_MODULES, _MOST_LABELS, _LARGEST, _MOST_ITEMS, _MOST_DEEP = 5_000, 100_000, 2**24, 1_000_000, 6


def is_of_transformers(network: nn.Module) -> bool:
    """Tell whether a network is one of `transformers`, of a class of its own, without importing it."""
    return type(network).__module__.startswith("transformers.models.") and hasattr(network, "config")


def config_of(network: Any) -> tuple[dict[str, JsonValue], dict[str, Tensor]]:
    """Return what makes a network of `transformers` again as JSON, and the tensors that are no part of its state.

    Numbers of layers and classes are those that it has, whatever its configuration says; names of classes are left
    out, since a head may stay with its owner. Raises ModelError for a kind of network that is not in the tables.
    """
    auto_class = _auto_class_of(network)
    said: dict[str, JsonValue] = {
        "kind": "transformers",
        "auto_class": auto_class,
        "model_type": network.config.model_type,
        "config": _sent_config(network.config),
        "attention": network.config._attn_implementation or "eager",
        "options": {"add_pooling_layer": False} if getattr(network, "pooler", "") is None else {},
        "frozen": [name for name, parameter in network.named_parameters() if not parameter.requires_grad],
        "training": [path for path, module in network.named_modules() if module.training],
    }
    if said["attention"] not in _ATTENTION:
        raise _refusal(network, f"it uses the attention {said['attention']!r}, and {list(_ATTENTION)} are sent")
    said["config"] |= _counts_of(network, said)
    constants = {
        f"{path}.{name}".lstrip("."): module._buffers[name].detach().cpu().clone()
        for path, module in network.named_modules()
        for name in module._non_persistent_buffers_set
        if module._buffers.get(name) is not None
    }
    return said, constants


def network_of_config(said: Mapping[str, JsonValue], constants: Mapping[str, Tensor]) -> nn.Module:
    """Make the network that `config_of` described, with weights on torch's "meta".

    Raises UnsafeFileError for what no configuration may ask for, CorruptFileError for one that makes no network.
    """
    if sorted(said) != sorted(_NAMES):
        raise CorruptFileError(
            f"it has a configuration of {sorted(map(str, said))[:9]}, where {list(_NAMES)} were expected"
        )
    for name, known in (("auto_class", _AUTO_CLASSES), ("model_type", _MODEL_TYPES), ("attention", _ATTENTION)):
        if type(said[name]) is not str or said[name] not in known:
            raise UnsafeFileError(
                f"it has a network of the {name} {str(said[name])[:60]!r}, which is none that is made"
            )
    if said["options"] not in ({}, {"add_pooling_layer": False}):
        raise UnsafeFileError(f"it has a network with the options {str(said['options'])[:60]}")
    network = _made(said)
    set_constants(network, constants)
    set_modes(network, said)
    return network


def _made(said: Mapping[str, JsonValue]) -> nn.Module:
    import transformers

    known = transformers.AutoConfig.for_model(said["model_type"]).to_dict()
    _check_config(said["config"], known)
    try:
        config = transformers.AutoConfig.for_model(said["model_type"], **said["config"])
        with torch.device("meta"):
            return getattr(transformers, said["auto_class"]).from_config(
                config, attn_implementation=said["attention"], trust_remote_code=False, **said["options"]
            )
    except Exception as error:  # whatever a configuration raises of values that it does not take
        raise CorruptFileError(
            f"it has a configuration of {said['model_type']} that makes no network: {type(error).__name__}: {error}"
        ) from error


def _check_config(config: JsonValue, known: Mapping[str, Any]) -> None:
    if type(config) is not dict:
        raise CorruptFileError(f"it has the configuration {str(config)[:60]!r}")
    for name in config:
        if name not in known and name not in _BESIDE:
            raise UnsafeFileError(f"it has a configuration with {name[:60]!r}, which networks of its kind do not have")
    counted = 0
    for number, (path, value) in enumerate(_values(config)):
        name = path[-1]
        if number > _MOST_ITEMS or len(path) > _MOST_DEEP:
            raise UnsafeFileError("it has a configuration of too many values")
        if _is_never(name):
            raise UnsafeFileError(f"it has a configuration with {name[:60]!r}, which may fetch or run code")
        if type(value) is not int:
            continue
        is_count = any(word in name for word in _COUNTS)
        counted += abs(value) if is_count else 0
        if counted > _MOST_MODULES or abs(value) > (_MOST_LABELS if name == "num_labels" else _LARGEST):
            raise UnsafeFileError(
                f"it has a configuration with the {name[:60]} {str(value)[:40]}, which no network has"
            )


def _is_never(name: str) -> bool:
    return name.startswith("_") or any(word in name for word in _NEVER)


def _values(value: JsonValue, path: tuple[str, ...] = ("",)) -> Iterator[tuple[tuple[str, ...], JsonValue]]:
    """Return each value in a configuration with the names on the way to it; of a list all have its name."""
    yield path, value
    if len(path) > _MOST_DEEP:
        return
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _values(item, (*path, str(name)))
    elif isinstance(value, list):
        for item in value:
            yield from _values(item, (*path, path[-1]))


def _sent_config(config: Any) -> dict[str, JsonValue]:
    sent = {
        name: value
        for name, value in config.to_dict().items()
        if name not in _LEFT_OUT and not _is_never(name) and value is not None
    }
    known = {*type(config)().to_dict(), *_BESIDE}
    return {name: value for name, value in sent.items() if name in known} | {"num_labels": config.num_labels}


def _counts_of(network: Any, said: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the numbers of layers and of classes of a network where its configuration has others."""
    config = network.config
    counts: dict[str, JsonValue] = {}
    whole = _made(said)
    own, other = dict(network.named_modules()), dict(whole.named_modules())
    for path, module in other.items():
        is_shorter = isinstance(module, nn.ModuleList) and path in own and len(own[path]) < len(module)
        if is_shorter and len(module) == getattr(config, "num_hidden_layers", None):
            name = type(config).attribute_map.get("num_hidden_layers", "num_hidden_layers")
            counts[name] = len(own[path])
            if isinstance(types := getattr(config, "layer_types", None), list):
                counts["layer_types"] = types[: len(own[path])]
    shapes = {name: tensor.shape for name, tensor in whole.named_parameters()}
    for name, tensor in network.named_parameters():
        if name in shapes and tensor.ndim and tensor.shape[0] != shapes[name][0] == config.num_labels:
            counts["num_labels"] = tensor.shape[0]
    return counts


def _auto_class_of(network: Any) -> str:
    import transformers

    for name in _AUTO_CLASSES:
        mapping = getattr(transformers, name)._model_mapping
        if type(network.config) in mapping and type(network) in _classes(mapping[type(network.config)]):
            if network.config.model_type in _MODEL_TYPES:
                return name
            raise _refusal(network, f"networks of the type {network.config.model_type!r} are not in the table")
    raise _refusal(network, f"it is made by none of {', '.join(_AUTO_CLASSES)}")


def _classes(found: Any) -> tuple[type, ...]:
    return tuple(found) if isinstance(found, (tuple, list)) else (found,)


def _refusal(network: nn.Module, why: str) -> ModelError:
    return ModelError(f"{type(network).__name__} cannot be sent as data: {why}; {FIX}")
