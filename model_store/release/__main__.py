"""`python -m model_store.release CHECKPOINT --variant … --name …`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from posewire.errors import PosewireError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_STORE = Path(__file__).resolve().parents[1]


@app.command()
def main(
    checkpoint: Annotated[Path, typer.Argument(help="A .pt, .pth or .safetensors file.", exists=True, dir_okay=False)],
    variant: Annotated[str, typer.Option(help="litehrnet-18, wider-naive-litehrnet-18, …, or rtmdet-nano-lean, … for a detector.")],
    name: Annotated[str, typer.Option(help="Of the model in the manifest.")],
    about: Annotated[Path, typer.Option(help="TOML that says what the card cannot know.", exists=True, dir_okay=False)],
    images: Annotated[Path, typer.Option(help="Folder of held-out images.", exists=True, file_okay=False)],
    annotations: Annotated[Path, typer.Option(help="COCO person keypoints of those.", exists=True, dir_okay=False)],
    height: Annotated[
        int | None, typer.Option(min=32, help="Of the input, pixels [default: 256, detector 320].", show_default=False)
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=32, help="Of the input, pixels [default: 192, detector 320].", show_default=False)
    ] = None,
    sigma: Annotated[float, typer.Option(min=0.1, help="Of the training's Gaussians, heatmap pixels.")] = 2.0,
    sigmoid: Annotated[bool, typer.Option(help="A pose network gives logits of heatmaps (as trained with cross-entropy).")] = True,
    files_of: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Share the files of this model: the same checkpoint at another size.")
    ] = None,
    held_out: Annotated[str | None, typer.Option(help="What the held-out images are called; the folder's name.")] = None,
    other_images: Annotated[
        Path | None, typer.Option(help="Folder of training images to calibrate scores on.", exists=True, file_okay=False)
    ] = None,
    other_annotations: Annotated[Path | None, typer.Option(help="COCO person keypoints of those.", exists=True, dir_okay=False)] = None,
    store: Annotated[Path, typer.Option(help="Folder of the manifest; one that is not there is made.", file_okay=False)] = _STORE,
    default: Annotated[bool, typer.Option("--default", help="Serve it when the settings name no model.")] = False,
    force: Annotated[str | None, typer.Option(metavar="REASON", help="Release it although it is worse; the card tells why.")] = None,
) -> None:
    """Compile a checkpoint, prove and measure it, write its card and its manifest entry: all or nothing.

    It is refused (exit code 1) where it is worse on the held-out images than what the store has for the task.
    """
    from model_store.release.about import read_about  # noqa: PLC0415 - --help is at once
    from model_store.release.artefacts import network_of  # noqa: PLC0415
    from model_store.release.request import Request  # noqa: PLC0415
    from model_store.release.steps import release  # noqa: PLC0415
    from posewire.registry.networks.rtmdet import DETECTOR_VARIANTS  # noqa: PLC0415
    from posewire.tools.evaluate.annotations import Annotations, other_set  # noqa: PLC0415

    square = variant in DETECTOR_VARIANTS
    size = height or (320 if square else 256), width or (320 if square else 192)
    data = Annotations(annotations, images)
    other = other_set(data, other_images, other_annotations, "other")
    network = network_of(checkpoint, variant, *size, sigma=sigma, sigmoid=sigmoid)
    if force is not None and not force.strip():
        raise PosewireError("--force needs a reason: the card will tell it")
    called = held_out or annotations.resolve().parent.name
    release(Request(store, name, network, read_about(about), data, called, other, force, default, files_of), typer.echo)


if __name__ == "__main__":
    try:
        app()
    except PosewireError as error:
        typer.echo(f"release: {error}", err=True)
        sys.exit(1)
