"""Sentence encoders: a transformer, pooling over its tokens, and what stands behind.

Reimers and Gurevych (2019), arXiv:1908.10084. What sentence-transformers saved is read here, by transformers alone.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.data.text.text_transform import TextTransform
from model_handler.errors import first_few, nearest
from model_handler.sources.settings_files import own_code, read_json, read_settings
from model_handler.sources.source import Source
from model_handler.sources.transformers_models import load_tokenizer, load_transformer, longest_text, may_lack_pooler
from model_handler.sources.weight_files import reading_weights

__all__ = ["MODULES", "SentenceEncoder", "SentencePooling", "load_sentence_encoder"]

MODULES = "modules.json"
_OF_TRANSFORMER = [  # in the order in which they are looked for; the first is today's
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
_ACTIVATIONS = {kind.__name__: kind for kind in (nn.GELU, nn.Identity, nn.ReLU, nn.Sigmoid, nn.Tanh)}


def load_sentence_encoder(folder: Path, name: str, pretrained: bool) -> Source:
    """Load what sentence-transformers saved in a folder.

    Raises ValueError for modules other than a transformer, pooling, dense layers and normalization, in this order.
    """
    parts = _parts(folder, name)
    kinds = [kind for kind, _ in parts]
    if kinds[:2] != ["Transformer", "Pooling"] or not {*kinds[2:]} <= {"Dense", "Normalize"}:
        raise ValueError(
            f"{name!r} is made of {', '.join(kinds)}; read here are Transformer, Pooling, and behind them Dense and "
            "Normalize. Load others by sentence_transformers.SentenceTransformer, and give the nn.Module"
        )
    where = parts[0][1]
    settings = next((found for file in _OF_TRANSFORMER if (found := read_settings(where, file, name))), {})
    transformer = load_transformer(where, name, pretrained)
    if may_lack_pooler(transformer):
        transformer.pooler = None  # type: ignore[assignment]  # of which nothing here reads the output
    further: dict[str, nn.Module] = {}
    for kind, place in parts[2:]:
        stem = kind.lower()
        number = sum(key.startswith(stem) for key in further)
        made = Normalize() if kind == "Normalize" else _dense(place, name, pretrained)
        further[f"{stem}_{number + 1}" if number else stem] = made
    network = SentenceEncoder(transformer, _pooling(parts[1][1], name), further)
    tokenizer = load_tokenizer(where, name, transformer)
    prompt = _default_prompt(folder, name)
    if prompt and read_settings(parts[1][1], "config.json", name).get("include_prompt") is False:
        raise ValueError(
            f"{name!r} leaves its prompt {prompt!r} out of the pooling, which is not read here; load it by "
            "sentence_transformers.SentenceTransformer, and give the nn.Module"
        )
    _write_before_texts(tokenizer, settings.get("do_lower_case") is True, prompt)
    stated = settings.get("max_seq_length")
    transform = TextTransform(tokenizer, max_length=stated or longest_text(tokenizer, transformer))
    return Source(network, transform, layer=network.embedding_layer)


class SentenceEncoder(nn.Module):
    """A transformer, `pooling` over its tokens, and what stands behind: the output is one row a text.

    `further` are the parts behind the pooling, by name; `embedding_layer` names the last part of all.
    """

    def __init__(self, transformer: nn.Module, pooling: nn.Module, further: dict[str, nn.Module]) -> None:
        super().__init__()
        self.transformer = transformer
        self.pooling = pooling
        self._further = tuple(further)
        for name, part in further.items():
            self.add_module(name, part)

    @property
    def embedding_layer(self) -> str:
        last = self._further[-1] if self._further else "pooling"
        return f"{last}.activation" if last.startswith("dense") else last

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return the embeddings, (n_texts, n_features), of tokens (n_texts, n_tokens)."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        tokens = self.transformer(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        rows = self.pooling(tokens, attention_mask)
        for name in self._further:
            rows = getattr(self, name)(rows)
        return rows


class SentencePooling(nn.Module):
    """One row a text of the outputs of its tokens, by one or several ways side by side; padding stands on the right."""

    def __init__(self, modes: tuple[str, ...]) -> None:
        super().__init__()
        self.modes = modes

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        counts = mask.unsqueeze(-1).to(tokens.dtype)
        return torch.cat([_POOLINGS[mode](tokens, counts) for mode in self.modes], dim=-1)

    def extra_repr(self) -> str:
        return ", ".join(self.modes)


class Normalize(nn.Module):
    """Rows of length 1."""

    def forward(self, rows: Tensor) -> Tensor:
        return nn.functional.normalize(rows, p=2, dim=-1)


class _Dense(nn.Module):
    """A linear layer and an activation."""

    def __init__(self, linear: nn.Linear, activation: nn.Module) -> None:
        super().__init__()
        self.linear, self.activation = linear, activation

    def forward(self, rows: Tensor) -> Tensor:
        return self.activation(self.linear(rows))


def _mean(tokens: Tensor, counts: Tensor) -> Tensor:
    return (tokens * counts).sum(1) / counts.sum(1).clamp(min=1e-9)


def _mean_by_root(tokens: Tensor, counts: Tensor) -> Tensor:
    return (tokens * counts).sum(1) / counts.sum(1).clamp(min=1e-9).sqrt()


def _mean_by_position(tokens: Tensor, counts: Tensor) -> Tensor:
    return _mean(tokens, counts * torch.arange(1, tokens.shape[1] + 1, device=tokens.device).view(1, -1, 1))


def _last(tokens: Tensor, counts: Tensor) -> Tensor:
    ends = counts.sum(1, keepdim=True).long().clamp(min=1) - 1
    return tokens.gather(1, ends.expand(-1, -1, tokens.shape[-1])).squeeze(1)


_POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": lambda tokens, counts: tokens[:, 0],
    "max": lambda tokens, counts: tokens.masked_fill(counts == 0, -torch.inf).amax(1),
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_by_root,
    "weightedmean": _mean_by_position,
    "lasttoken": _last,
}
_OF_OLDER_FILES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def _parts(folder: Path, name: str) -> list[tuple[str, Path]]:
    """Return the kind and folder of each part, as modules.json lists them."""
    listed = read_json(folder, MODULES, name)
    if not isinstance(listed, list) or not all(isinstance(part, dict) for part in listed):
        raise ValueError(f"{MODULES} of {name!r} is no list of modules")
    found = []
    for part in listed:
        path, kind = str(part.get("path", "")), str(part.get("type", ""))
        if not kind.startswith("sentence_transformers."):
            raise own_code(name, f"{MODULES} names {kind!r}", str(folder))
        if ".." in Path(path).parts or Path(path).is_absolute():
            raise ValueError(f"{MODULES} of {name!r} leads out of its folder: {path!r}")
        found.append((kind.rpartition(".")[2], folder / path))
    return found


def _pooling(folder: Path, name: str) -> SentencePooling:
    settings = read_settings(folder, "config.json", name)
    given = settings.get("pooling_mode")
    named = [given] if isinstance(given, str) else list(given or ())
    modes = named or [mode for key, mode in _OF_OLDER_FILES.items() if settings.get(key)] or ["mean"]
    if unknown := [mode for mode in modes if mode not in _POOLINGS]:
        raise ValueError(f"{name!r} pools by {unknown[0]!r}, which is none of {nearest(str(unknown[0]), _POOLINGS, 6)}")
    return SentencePooling(tuple(modes))


def _dense(folder: Path, name: str, pretrained: bool) -> _Dense:
    settings = read_settings(folder, "config.json", name)
    kind = str(settings.get("activation_function", "torch.nn.Tanh")).rpartition(".")[2]
    reads = settings.get("module_input_name", "sentence_embedding")
    sizes = [settings.get(key) for key in ("in_features", "out_features")]
    if kind not in _ACTIVATIONS or reads != "sentence_embedding" or settings.get("use_residual") or None in sizes:
        raise ValueError(
            f"the dense layer of {name!r} is of a form that is not read here (activation {kind!r}, input {reads!r}); "
            "load it by sentence_transformers.SentenceTransformer, and give the nn.Module"
        )
    linear = nn.Linear(settings["in_features"], settings["out_features"], bias=settings.get("bias", True))
    made = _Dense(linear, _ACTIVATIONS[kind]())
    if pretrained:
        weights = _weights_of(folder, name)
        if differ := sorted({*weights} ^ {*made.state_dict()}):
            raise ValueError(f"the weights of the dense layer of {name!r} do not fit: {first_few(differ)}")
        made.load_state_dict(weights)
    return made


def _weights_of(folder: Path, name: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    with reading_weights(name):
        if (folder / "model.safetensors").is_file():
            return load_file(folder / "model.safetensors")
        return torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)


def _default_prompt(folder: Path, name: str) -> str:
    settings = read_settings(folder, "config_sentence_transformers.json", name)
    prompts = settings.get("prompts") or {}
    return str(prompts.get(settings.get("default_prompt_name")) or "")


def _write_before_texts(tokenizer: Any, in_lower_case: bool, prompt: str) -> None:
    """Let the tokenizer put a prompt before each text and write it in lower case, in place, as `encode` does."""
    if not (in_lower_case or prompt):
        return
    from tokenizers import normalizers

    steps = [normalizers.Prepend(prompt)] * bool(prompt) + [normalizers.Lowercase()] * in_lower_case
    own = tokenizer.backend_tokenizer.normalizer
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(steps + ([own] if own is not None else []))
