"""Sources of timm: its models by name, with weights by tag ("timm/resnet18.a1_in1k")."""

from typing import Any

from model_handler.errors import with_fix
from model_handler.sources.cached_weights import cached_by_timm, place_at_timm
from model_handler.sources.fetching import fetching, random_weights, reach
from model_handler.sources.hub_cache import hub_is_offline
from model_handler.sources.naming import unknown_in
from model_handler.sources.source import Source, UnknownSourceError

__all__ = ["load_of_timm"]


def load_of_timm(model: str, pretrained: bool, n_classes: int | None = None) -> Source:
    """Load "NAME" or "NAME.TAG"; without a tag the weights that timm takes by default."""
    try:
        import timm
    except ImportError as error:
        raise ImportError(f"'timm/{model}' needs timm: pip install timm ({error})") from error

    architecture, _, tag = model.partition(".")
    if not timm.is_model(architecture):
        raise UnknownSourceError(unknown_in("timm", model, timm.list_models()))
    tagged = timm.list_pretrained(f"{architecture}.*") + timm.list_pretrained(architecture)
    if tag and model not in tagged:
        raise UnknownSourceError(unknown_in("timm", model, tagged or [architecture]))
    if pretrained and not tagged:
        raise with_fix(ValueError, f"'timm/{model}' has no pretrained weights", python=random_weights(f"timm/{model}"))
    # What is in the cache is taken as it is: the Hub would be asked whether it has a newer one.
    cached = cached_by_timm(model) if pretrained else None
    options: dict[str, Any] = {} if n_classes is None else {"num_classes": n_classes}
    place = place_at_timm(model) if pretrained else None
    with fetching(f"timm/{model}", place.name if place else "", place.how_elsewhere if place else ""):
        if place is not None and not place.is_cached and not (place.is_on_hub and hub_is_offline()):
            reach(place.url)
        overlay = {"file": str(cached)} if cached else None
        network = timm.create_model(model, pretrained=pretrained, pretrained_cfg_overlay=overlay, **options)
    preprocessing = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network), is_training=False)
    return Source(network, preprocessing)
