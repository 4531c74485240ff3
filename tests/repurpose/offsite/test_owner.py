"""The owner exports a package, and plugs in what comes back."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from model_handler import CorruptFileError, ModelError, NoBlocksError, Source
from model_handler.network.states import copied_state
from repurpose.offsite import OffsiteOwner, OffsitePackage
from repurpose.persistence import signing_key_pair
from tests.repurpose.offsite.exports import Exported, exported, outputs
from tests.repurpose.offsite.networks import bert, gpt2, images, resnet, tokens, vit
from tests.repurpose.offsite.packages import Chain

NETWORKS = {
    "vit": (vit, images()),
    "resnet": (resnet, images(4, 32)),
    "bert": (bert, tokens()),
    "gpt2": (gpt2, tokens()),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_tuned_goes_into_the_adapter_and_the_head_and_the_middle_stays(name: str, tmp_path: Path) -> None:
    make, inputs = NETWORKS[name]
    network = make()
    before = copied_state(network)
    sent = exported(tmp_path, network, inputs)
    n_inputs = sent.package.contents.n_inputs_of_head
    blocks = {own: torch.randn_like(value) for own, value in sent.untouched.items()}
    head = {"weight": torch.randn(2, n_inputs), "bias": torch.randn(2)}
    plugged = sent.owner.plug_in(sent.adapter(blocks, head, ["cat", "dog"]))
    state, path = plugged.target_model_.state_dict(), str(sent.package.contents.classifier)
    tuned = {f"{sent.owner.split.first[0]}.", f"{sent.owner.split.last[0]}.", f"{path}."}
    for own, value in before.items():
        if not own.startswith(tuple(tuned)):
            assert torch.equal(state[own], value), own
    assert torch.equal(state[f"{path}.weight"], head["weight"])
    last = sent.package.contents.last[0]
    for own, value in blocks.items():
        here = own.replace(f"{last}.", f"{sent.owner.split.last[0]}.") if own.startswith(f"{last}.") else own
        assert torch.equal(state[here], value), own
    assert all(torch.equal(value, before[own]) for own, value in network.state_dict().items())
    assert plugged.predict_label(inputs).tolist() == [
        "cat" if left > right else "dog" for left, right in outputs(plugged.target_model_, inputs).tolist()
    ]


def test_the_same_adapter_twice_gives_equal_repurposers(tmp_path: Path) -> None:
    sent = exported(tmp_path, vit(), images())
    path = sent.adapter(head={"weight": torch.randn(2, 16), "bias": torch.randn(2)}, classes=["cat", "dog"])
    state = torch.get_rng_state()
    first, second = sent.owner.plug_in(path), sent.owner.plug_in(path, tmp_path / "package")
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(first.predict_probability(images()), second.predict_probability(images()))
    draws = [plugged.predict_uncertainty(images(), n_draws=3).epistemic for plugged in (first, second)]
    assert np.array_equal(*draws)
    assert draws[0].max() > 0  # its dropout acts in the adapter


def test_another_owner_of_the_network_plugs_in_by_the_package_whatever_the_split(tmp_path: Path) -> None:
    network = vit()
    sent = exported(tmp_path, network, images(), (2, 1), emulator=1)
    another = OffsiteOwner(network, (1, 2), example_inputs=images())
    plugged = another.plug_in(sent.adapter(), OffsitePackage(tmp_path / "package"))
    assert torch.equal(outputs(plugged.target_model_, images()), outputs(network, images()))
    with pytest.raises(ValueError, match=r"nothing was exported by this object.*plug_in\(adapter_path, package\)"):
        another.plug_in(sent.adapter())


def test_an_adapter_of_another_export_is_refused(tmp_path: Path) -> None:
    sent = exported(tmp_path, vit(), images())
    other = sent.adapter(package_id="0123" * 16)
    with pytest.raises(ValueError, match=r"another package: its id is 012301230123.*that of the last export"):
        sent.owner.plug_in(other)
    with pytest.raises(ValueError, match="that of the package given"):
        sent.owner.plug_in(other, tmp_path / "package")


def test_an_adapter_that_does_not_fit_is_named_by_its_file(tmp_path: Path) -> None:
    sent = exported(tmp_path, vit(), images())
    path = sent.adapter({name: value[:1] for name, value in sent.untouched.items()})
    with pytest.raises(ValueError, match=f"^{path} cannot be plugged in: .* has the shape"):
        sent.owner.plug_in(path)


def test_another_adapter_than_the_one_expected_is_refused(tmp_path: Path) -> None:
    sent = exported(tmp_path, vit(), images())
    path = sent.adapter()
    digest = sha256((path / "manifest.json").read_bytes()).hexdigest()
    sent.owner.plug_in(path, expected_hash=digest)
    with pytest.raises(CorruptFileError, match=f"has the hash {digest[:12]}..., where 000000000000... was expected"):
        sent.owner.plug_in(path, expected_hash="0" * 64)


def test_a_package_of_another_network_is_refused_by_name(tmp_path: Path) -> None:
    sent = exported(tmp_path, vit(), images())
    other = vit()
    with torch.no_grad():
        other.encoder.layers[5].mlp[0].bias += 1
    owner = OffsiteOwner(other, (1, 1), example_inputs=images())
    with pytest.raises(ValueError, match=r"of another network: encoder\.layers\.encoder_layer_5\.mlp\.0\.bias"):
        owner.plug_in(sent.adapter(), tmp_path / "package")


def test_the_package_says_what_it_holds(tmp_path: Path) -> None:
    sent = exported(tmp_path, resnet(), images(2, 32), emulator=4, class_names=["ant", "bee", "cat"])
    contents = sent.package.contents
    assert contents.first == ("layer1.0",)
    assert contents.emulator == ("layer1.1", "layer2.0", "layer3.0", "layer3.1")
    assert contents.last == ("layer4.0",)
    assert contents.dropped == ("layer2.1", "layer2.2", "layer2.3", "layer3.1", "layer3.2")
    assert (contents.classifier, contents.n_inputs_of_head) == ("fc", 24)
    assert contents.class_names == ("ant", "bee", "cat")
    assert not contents.is_distilled
    own = sent.owner.network.state_dict()
    assert torch.equal(contents.state["layer3.1.conv1.weight"], own["layer3.3.conv1.weight"])
    assert torch.equal(contents.state["layer2.0.bn1.running_mean"], own["layer2.0.bn1.running_mean"])


def test_a_head_that_stays_with_the_owner_is_not_in_the_package(tmp_path: Path) -> None:
    network = vit()
    sent = exported(tmp_path, network, images(), head="none")
    contents = sent.package.contents
    assert (contents.class_names, contents.classifier) == (None, "heads.head")
    assert not [name for name in contents.state if name.startswith("heads.")]
    plugged = sent.owner.plug_in(sent.adapter())  # and without a new one the owner's is used
    assert torch.equal(outputs(plugged.target_model_, images()), outputs(network, images()))


def test_names_of_classes_in_a_configuration_stay_with_the_owner(tmp_path: Path) -> None:
    network = bert()
    network.config.id2label = {0: "benign", 1: "malignant", 2: "other"}
    network.config.label2id = {name: number for number, name in network.config.id2label.items()}
    owner = OffsiteOwner(network, (1, 1), example_inputs=tokens())
    with pytest.warns(UserWarning, match="verbatim"):
        owner.export(tmp_path / "package", head="none")
    assert "malignant" not in (tmp_path / "package" / "manifest.json").read_text()
    assert OffsitePackage(tmp_path / "package").network().config.num_labels == 3


def test_an_encoder_without_a_head_gets_that_of_the_adapter_on_top(tmp_path: Path) -> None:
    network = bert(classes=False)
    with pytest.raises(ValueError, match="there is no head: head='none'"):
        OffsiteOwner(network, example_inputs=tokens()).export(tmp_path / "package")
    sent = exported(tmp_path, network, tokens(), head="none")
    head = {"weight": torch.randn(2, 16), "bias": torch.randn(2)}
    plugged = sent.owner.plug_in(sent.adapter(head=head, classes=["a", "b"]))
    states, mask = outputs(network, tokens()), tokens()["attention_mask"][..., None]
    means = (states * mask).sum(1) / mask.sum(1)
    wanted = (means @ head["weight"].T + head["bias"]).softmax(1)
    assert np.allclose(plugged.predict_probability(tokens()), wanted.numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="it has no head, and the network has none of its own: tune it first"):
        sent.owner.plug_in(sent.adapter())


def test_its_text_says_the_split_and_not_a_thousand_names(tmp_path: Path) -> None:
    owner = OffsiteOwner(vit(), (1, 2), 2, example_inputs=images())
    first, last = "encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_4 to encoder.layers.encoder_layer_5"
    kept = "encoder.layers.encoder_layer_1 to encoder.layers.encoder_layer_3"
    text = f"OffsiteOwner(VisionTransformer: adapter {first} and {last}, emulator 2 of the 3 blocks between, {kept})"
    assert repr(owner) == text


def test_one_block_is_one_in_the_warning(tmp_path: Path) -> None:
    owner = OffsiteOwner(vit(), (1, 1), 1, example_inputs=images())
    with pytest.warns(UserWarning, match=r"the emulator's one block, encoder\.\S+_2, is that of the network verbatim;"):
        owner.export(tmp_path / "package", architecture="given")


def test_distilled_blocks_are_no_longer_the_owners(tmp_path: Path) -> None:
    network = vit()
    owner = OffsiteOwner(network, (1, 1), 2, example_inputs=images(), random_state=0)
    owner.export(tmp_path / "package", images(6), min_steps=3, architecture="given")
    contents, own = OffsitePackage(tmp_path / "package").contents, network.state_dict()
    assert contents.is_distilled
    for block in contents.emulator:
        matrices = [name for name in contents.state if name.startswith(f"{block}.") and contents.state[name].ndim > 1]
        assert matrices
        assert not [name for name in matrices if torch.equal(contents.state[name], own[name])]
    again = OffsiteOwner(network, (1, 1), 2, example_inputs=images(), random_state=0)
    assert again.export(tmp_path / "again", images(6), min_steps=3, architecture="given") == owner.package_id_


def test_keys_are_asked_for_at_the_other_end(tmp_path: Path) -> None:
    private, public = signing_key_pair()
    secret = b"8" * 32
    network = vit()
    sent = exported(tmp_path, network, images(), signing_key=private, encryption_key=secret)
    package = OffsitePackage(tmp_path / "package", verify_key=public, encryption_key=secret)
    assert package.id == sent.owner.package_id_
    sent_adapter = Exported(sent.owner, tmp_path, package).adapter()
    with pytest.raises(ValueError, match="encrypted"):
        OffsiteOwner(network, (1, 1), example_inputs=images()).plug_in(sent_adapter, tmp_path / "package")


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    owner = OffsiteOwner(vit(), (1, 1), example_inputs=images())
    failing: list[tuple[dict[str, Any], str]] = [
        ({"head": "mine"}, "head must be 'owner' or 'none', got 'mine'"),
        ({"min_steps": 0}, "min_steps must be a whole number of at least 1, got 0"),
        ({"architecture": "code"}, "architecture must be 'auto' or 'given', got 'code'"),
        ({"distill_data": images(4, 20)}, r"distill_data has rows of shape \(3, 20, 20\)"),
        ({"distill_data": images(), "encryption_key": b"short"}, "32 bytes"),
    ]
    for options, message in failing:
        with pytest.raises(ValueError, match=message):
            owner.export(tmp_path / "package", **options)
        assert not list(tmp_path.iterdir())
    assert not hasattr(owner, "package_id_")


def test_the_source_may_be_a_network_with_preprocessing(tmp_path: Path) -> None:
    from torchvision.transforms import Compose, Resize, ToTensor

    owner = OffsiteOwner(Source(vit(), Compose([Resize((16, 16)), ToTensor()])), (1, 1))
    with pytest.warns(UserWarning, match="the 2 blocks of the emulator"):
        owner.export(tmp_path / "package", architecture="given")
    said = OffsitePackage(tmp_path / "package").contents.preprocessing
    assert [step["step"] for step in said["transforms"]] == ["Resize", "ToTensor"]


def test_what_cannot_be_split_is_refused_at_once() -> None:
    X = torch.rand(2, 4)
    with pytest.raises(NoBlocksError, match="Sequential has no chain of residual blocks"):
        OffsiteOwner(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), example_inputs=X)
    with pytest.raises(ValueError, match=r"adapter=\(3, 3\) takes 6 blocks, and the network has 6"):
        OffsiteOwner(vit(), (3, 3), example_inputs=images())
    with pytest.raises(ValueError, match="emulator must be a number of blocks from 1 to 4"):
        OffsiteOwner(vit(), (1, 1), 0, example_inputs=images())
    with pytest.raises(ValueError, match="give example_inputs"):
        OffsiteOwner(vit())
    with pytest.raises(TypeError, match="source_model"):
        OffsiteOwner(3, example_inputs=X)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got 0"):
        OffsiteOwner(vit(), example_inputs=images(), batch_size=0)


def test_a_text_network_that_shares_its_blocks_is_refused_by_name() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "embedding_size": 8}
    network = transformers.AutoModel.from_config(transformers.AlbertConfig(vocab_size=40, num_hidden_layers=6, **sizes))
    with pytest.raises(ModelError, match=r"albert_layers\.0 runs several times"):
        OffsiteOwner(network, example_inputs=tokens())


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "b"], [1.5, 2.5, 3.5], ["a", 1, 2], ["a", "b", "c", "d"]])
def test_class_names_are_one_for_each_output_of_the_head(names: list[Any]) -> None:
    with pytest.raises(ValueError, match="class_names must be 3 different texts or whole numbers"):
        OffsiteOwner(vit(), (1, 1), example_inputs=images(), class_names=names)


@pytest.mark.parametrize("names", [np.array(["a", "b", "c"]), np.arange(3), torch.arange(3), ["a", np.str_("b"), "c"]])
def test_class_names_may_be_of_numpy_and_torch(names: Any) -> None:
    owner = OffsiteOwner(vit(), (1, 1), example_inputs=images(), class_names=names)
    found = owner._head.class_names
    assert found in (("a", "b", "c"), (0, 1, 2))
    assert {type(name) for name in found} in ({str}, {int})


class _Numbered(Chain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.stem(x))
        for number in range(6):
            x = self.blocks[number](x)
        return self.head(x)


def test_a_network_that_does_not_run_without_a_block_is_refused_by_name(tmp_path: Path) -> None:
    owner = OffsiteOwner(_Numbered().eval(), (1, 1), 2, example_inputs=torch.rand(2, 4))
    with pytest.raises(ModelError, match=r"_Numbered does not run without blocks\.2, blocks\.3: index"):
        owner.export(tmp_path / "package", torch.rand(4, 4))
    assert not list(tmp_path.iterdir())
