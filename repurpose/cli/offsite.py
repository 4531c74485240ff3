"""`repurpose offsite` is Offsite-Tuning: four commands that an owner of a network and an owner of data run in turn.

The owner exports a package and may audit it, the data owner tunes its adapter, and the owner plugs that in. The two
need not share more than these files.
"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from repurpose.cli.output.mistakes import UsageMistake
from repurpose.cli.output.outputs import Output, told_when_interrupted
from repurpose.cli.output.screen import console, shown
from repurpose.cli.reading.images import (
    InputColumn,
    LabelColumn,
    OnError,
    OnErrorOption,
    TableOption,
    check_one_given,
    images_at,
    labelled_images,
)

if TYPE_CHECKING:
    from repurpose.offsite import OffsiteRepurposer

__all__ = ["offsite"]

_KEY_BYTES = 32


class Head(StrEnum):
    """Whether the owner's head is sent."""

    OWNER = "owner"
    NONE = "none"


class Architecture(StrEnum):
    """How the data owner gets the layers of the network."""

    AUTO = "auto"
    GIVEN = "given"


class Kind(StrEnum):
    """How the adapter learns."""

    FULL = "full"
    LORA = "lora"


SourceOption = Annotated[
    str, typer.Option(help="The network: efficientnet-lite0 (no download), torchvision/NAME or timm/NAME.")
]
SigningKey = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A file of 32 bytes, of signing_key_pair(), to sign what is written."),
]
VerifyKey = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The 32 bytes that belong to the other side's signing key.")
]
EncryptionKey = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A file of 32 secret bytes that both sides have: all files are encrypted by it."),
]
PackageId = Annotated[
    str | None, typer.Option(metavar="ID", help="The package's id, as its owner told it: any other is refused.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Where random numbers come from.")]
PackageArgument = Annotated[Path, typer.Argument(help="What export wrote.")]

offsite = typer.Typer(
    no_args_is_help=True,
    help="Adapt a network that may not leave its owner to data that may not leave theirs.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@offsite.command()
def export(
    out: Annotated[Path, typer.Option(help="Where to write the package: a directory, or one file NAME.zip.")],
    source: SourceOption = "efficientnet-lite0",
    adapter: Annotated[
        tuple[int, int] | None,
        typer.Option(help="How many of the first and of the last blocks are tuned.", show_default="4 4"),
    ] = None,
    emulator: Annotated[
        str, typer.Option(help="The blocks of the middle that are sent: a number of them, or a share such as 0.5.")
    ] = "0.5",
    distill: Annotated[
        Path | None, typer.Option(help="A folder of any images, on which the emulator learns to stand for the middle.")
    ] = None,
    min_steps: Annotated[int, typer.Option(min=1, help="The least steps of that.")] = 500,
    head: Annotated[Head, typer.Option(help="Whether the network's own head and classes are sent.")] = Head.OWNER,
    class_names: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The class of each output, a line each; by default numbers from 0."),
    ] = None,
    architecture: Annotated[
        Architecture,
        typer.Option(help="Whether the package says what the layers are, or the data owner has their code (given)."),
    ] = Architecture.AUTO,
    seed: Seed = 0,
    signing_key: SigningKey = None,
    encryption_key: EncryptionKey = None,
) -> None:
    """Owner: write a package of adapter, emulator and head for who has the data."""
    from repurpose.offsite import OffsiteOwner
    from repurpose.offsite.exchanged_files import PACKAGE

    signing, secret = _key(signing_key), _key(encryption_key)
    _check_exchanged(out, PACKAGE, secret)
    with told_when_interrupted(_output(out)):
        owner = OffsiteOwner(
            source,
            adapter,
            _count_or_share(emulator),
            class_names=None if class_names is None else class_names.read_text(encoding="utf-8").splitlines(),
            random_state=seed,
        )
        images = None if distill is None else images_at([distill], OnError.RAISE).data
        package_id = owner.export(
            out,
            images,
            head.value,
            min_steps=min_steps,
            architecture=architecture.value,
            signing_key=signing,
            encryption_key=secret,
        )
        split = owner.split
        console.print(
            f"{shown(source)}: {len(split.first)} + {len(split.last)} blocks are the adapter, {len(split.kept)} of the "
            f"{len(split.middle)} between them the emulator"
        )
        console.print(f"package [bold]{shown(out)}[/] written, {_size(out)}, id {package_id}", soft_wrap=True)
        by_name = f"--source {shown(source)} " if architecture is Architecture.GIVEN else ""
        console.print(
            f"next, where the data are: repurpose offsite tune {shown(out)} FOLDER {by_name}--out ADAPTER.zip"
        )


@offsite.command()
def audit(
    package: PackageArgument,
    source: Annotated[str | None, typer.Option(help="The owner's network, to compare the package with.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="A folder of images, one sub-folder a class, to try the emulator on as it is.")
    ] = None,
    expected_hash: PackageId = None,
    verify_key: VerifyKey = None,
    encryption_key: EncryptionKey = None,
) -> None:
    """Owner: say what a package gives away."""
    from repurpose.offsite import OffsitePackage

    keys = {"verify_key": _key(verify_key), "encryption_key": _key(encryption_key)}
    opened = OffsitePackage(package, expected_hash=expected_hash, **keys)
    images = None if data is None else images_at([data], OnError.RAISE).data
    console.print(shown(opened.audit(images, owner=source)))
    console.print(f"id {opened.id}")


@offsite.command()
def tune(
    package: PackageArgument,
    out: Annotated[Path, typer.Option(help="Where to write the adapter: a directory, or one file NAME.zip.")],
    folder: Annotated[Path | None, typer.Argument(help="A folder of images, one sub-folder a class.")] = None,
    table: TableOption = None,
    path_column: InputColumn = None,
    label_column: LabelColumn = None,
    on_error: OnErrorOption = OnError.RAISE,
    kind: Annotated[Kind, typer.Option(help="Whether the blocks learn as they are, or by LoRA.")] = Kind.FULL,
    rank: Annotated[int, typer.Option(min=1, help="The rank of LoRA.")] = 4,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="How often training goes through all images.", show_default="5 to 50")
    ] = None,
    holdout: Annotated[float, typer.Option(help="Part of the images that is not learned from, to measure with.")] = 0.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a step.")] = 32,
    seed: Seed = 0,
    hide_class_names: Annotated[
        bool, typer.Option("--hide-class-names", help="Write numbers from 0 in the place of the labels.")
    ] = False,
    source: Annotated[
        str | None, typer.Option(help="The architecture, for a package that holds weights alone.")
    ] = None,
    expected_hash: PackageId = None,
    verify_key: VerifyKey = None,
    signing_key: SigningKey = None,
    encryption_key: EncryptionKey = None,
) -> None:
    """Data owner: tune the adapter of a package on images, and write it for the owner."""
    from model_handler import load_source
    from repurpose.offsite import OffsiteRepurposer
    from repurpose.offsite.exchanged_files import ADAPTER

    if not 0 <= holdout < 1:
        raise UsageMistake(f"--holdout must be a part between 0 and 1, got {holdout}; 0 holds none out")
    check_one_given(folder, table)
    signing, secret = _key(signing_key), _key(encryption_key)
    _check_exchanged(out, ADAPTER, secret)
    with told_when_interrupted(_output(out)):
        images = labelled_images(folder, table, path_column, label_column, on_error)
        repurposer = OffsiteRepurposer(
            package,
            kind=kind.value,
            rank=rank,
            source_model=None if source is None else load_source(source, pretrained=False).network,
            expected_hash=expected_hash,
            verify_key=_key(verify_key),
            encryption_key=secret,
            num_epochs=epochs,
            validation_fraction=holdout,
            batch_size=batch_size,
            random_state=seed,
        )
        repurposer.repurpose(images.data)
        keys = {"signing_key": signing, "encryption_key": secret}
        adapter_hash = repurposer.save_adapter(out, share_class_names=not hide_class_names, **keys)
        _report_training(repurposer, hide_class_names)
        console.print(f"adapter [bold]{shown(out)}[/] written, {_size(out)}, hash {adapter_hash}", soft_wrap=True)
        console.print(
            f"next, where the network is: repurpose offsite plug-in {shown(out)} --package {shown(package)} --source "
            "NAME --out SAVED",
            soft_wrap=True,
        )


@offsite.command("plug-in")
def plug_in(
    adapter: Annotated[Path, typer.Argument(help="What tune wrote.")],
    package: Annotated[Path, typer.Option(help="The package that it was tuned with.")],
    out: Annotated[Path, typer.Option(help="Where to save the result: a directory, or one file NAME.zip.")],
    source: SourceOption = "efficientnet-lite0",
    expected_hash: Annotated[
        str | None,
        typer.Option(metavar="HASH", help="The adapter's hash, as the data owner told it: any other is refused."),
    ] = None,
    verify_key: VerifyKey = None,
    signing_key: SigningKey = None,
    encryption_key: EncryptionKey = None,
) -> None:
    """Owner: put a tuned adapter into the whole network, and save it."""
    from repurpose.offsite import OffsiteOwner
    from repurpose.persistence.saving import check_target, files_that_tell

    signing, secret = _key(signing_key), _key(encryption_key)
    check_target(out)
    with told_when_interrupted(Output.at(out, *files_that_tell(out))):
        owner = OffsiteOwner(source)
        demands: dict[str, Any] = {"expected_hash": expected_hash, "verify_key": _key(verify_key)}
        plugged_in = owner.plug_in(adapter, package, encryption_key=secret, **demands)
        # what is predicted with is the owner's own, and stays readable without a key
        plugged_in.save_repurposer(out, signing_key=signing)
        names = ", ".join(plugged_in.class_names_.tolist()[:10])
        console.print(f"{len(plugged_in.classes_)} classes: {shown(names)}", soft_wrap=True)
        console.print(f"saved to [bold]{shown(out)}[/]; next: repurpose predict {shown(out)} FOLDER", soft_wrap=True)


def _report_training(repurposer: "OffsiteRepurposer", hide_class_names: bool) -> None:
    history, names = repurposer.history_, ", ".join(repurposer.class_names_.tolist()[:10])
    counted = f"{repurposer.class_counts_.sum()} images of {len(repurposer.classes_)} classes: {names}"
    console.print(shown(counted), soft_wrap=True)
    measured = history.values("validation_accuracy") if "validation_accuracy" in history.records[-1] else []
    with_emulator = f", held-out accuracy {measured[-1]:.3f} with the emulator" if len(measured) else ""
    console.print(f"trained for {len(history)} epochs{with_emulator}")
    if not hide_class_names:
        console.print("the adapter has the names of the classes with it; --hide-class-names keeps them here")


def _count_or_share(text: str) -> int | float:
    """Read a number of blocks, or a share of them. Raises UsageMistake."""
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError as error:
        raise UsageMistake(f"--emulator must be a number of blocks or a share such as 0.5, got {text!r}") from error


def _key(file: Path | None) -> bytes | None:
    """Read the key in a file. Raises ValueError, without showing it, for anything but 32 bytes."""
    if file is None:
        return None
    found = file.read_bytes()
    if len(found) != _KEY_BYTES:
        raise ValueError(f"{file} has {len(found)} bytes, where a key has {_KEY_BYTES}")
    return found


def _check_exchanged(out: Path, kind: str, secret: bytes | None) -> None:
    """Raise OSError before any work where a file of that kind could not, or would not, be written."""
    from repurpose.offsite.exchanged_files import check_target
    from repurpose.persistence.container.directory import check_parents
    from repurpose.persistence.container.manifests import Demands

    check_target(out, kind, Demands.by(secret))
    check_parents(out)


def _output(out: Path) -> Output:
    from repurpose.persistence.saving import files_that_tell

    return Output.at(out, *files_that_tell(out))


def _size(out: Path) -> str:
    files: list[Any] = [out] if out.is_file() else [*out.iterdir()]
    return f"{sum(file.stat().st_size for file in files) / 1e6:.3g} MB"
