"""The `posewire` command: options here, work in the module of each command."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from posewire import __version__
from posewire.config import Decoding, Device, load_settings
from posewire.errors import PosewireError

app = typer.Typer(
    name="posewire",
    help="Real-time human pose estimation. Settings come from POSEWIRE_* variables; options go before them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
models_app = typer.Typer(help="The models in the store.", no_args_is_help=True)
app.add_typer(models_app, name="models")
keys_app = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

DeviceOption = Annotated[Device | None, typer.Option(help="auto, cpu, cuda or tensorrt.")]
ModelsOption = Annotated[
    str | None, typer.Option(metavar="PAIR", help="A detector and a pose model by one word: fast, accurate or paper; see `models use`.")
]
TrackOption = Annotated[bool, typer.Option(help="Videos: give each person an identity; without, the detector runs on every frame.")]
SmoothOption = Annotated[bool, typer.Option(help="Videos: take the jitter out of the keypoints; only with identities.")]
DetectEveryOption = Annotated[int, typer.Option(min=1, help="Videos: the most frames between two runs of the detector.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(_: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    """Common options."""


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = None,
    models: ModelsOption = None,
    device: DeviceOption = None,
    workers: Annotated[int | None, typer.Option(help="Processes that run the models on a CPU; 0: threads do.", min=0, max=1024)] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C; what was accepted is finished first."""
    from posewire.cli.serve import serve as run

    raise typer.Exit(run(load_settings(host=host, port=port, models=models, device=device, workers=workers, log_level=log_level)))


@app.command()
def predict(
    pictures: Annotated[list[str], typer.Argument(help="Pictures, videos, folders or glob patterns.")],
    as_json: JsonOption = False,
    form: Annotated[Literal["posewire", "coco"], typer.Option("--format", help="Shape of the JSON.")] = "posewire",
    out: Annotated[
        Path | None, typer.Option(help="Folder for pictures and videos with the skeletons drawn, and JSON Lines.", file_okay=False)
    ] = None,
    min_detection_score: Annotated[float | None, typer.Option(min=0, max=1, help="People below are left out.")] = None,
    min_keypoint_score: Annotated[float | None, typer.Option(min=0, max=1, help="Keypoints below are left out.")] = None,
    max_people: Annotated[int | None, typer.Option(min=1, help="The best so many people of each picture.")] = None,
    flip_test: Annotated[bool | None, typer.Option(help="Average with the mirrored crop: twice the cost.")] = None,
    track: TrackOption = True,
    smooth: SmoothOption = True,
    detect_every: DetectEveryOption = 5,
    models: ModelsOption = None,
    device: DeviceOption = None,
) -> None:
    """Find everyone in pictures and videos; prints a line each, or JSON (a line a picture or frame; format coco: one list).

    With --out a video becomes NAME.pose.mp4 and NAME.pose.jsonl. Ctrl-C ends both where they are, as NAME.partial.pose.*.
    """
    from posewire.cli.predict import predict as run
    from posewire.cli.predict_options import PredictOptions, Tracking

    options = PredictOptions(as_json, form, out, min_keypoint_score, Tracking(track, smooth, detect_every))
    settings = load_settings(
        models=models,
        device=device,
        flip_test=flip_test,
        min_detection_score=min_detection_score,
        max_people=max_people,
        log_level="warning",
    )
    raise typer.Exit(run(pictures, options, settings))


@app.command()
def watch(
    source: Annotated[str, typer.Argument(help="An rtsp:// or http:// address of a camera, or a video that plays like one.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the video with the skeletons drawn, and JSON Lines.", file_okay=False)
    ] = None,
    min_detection_score: Annotated[float | None, typer.Option(min=0, max=1, help="People below are left out.")] = None,
    min_keypoint_score: Annotated[float | None, typer.Option(min=0, max=1, help="Keypoints below are left out.")] = None,
    max_people: Annotated[int | None, typer.Option(min=1, help="The best so many people of each frame.")] = None,
    track: TrackOption = True,
    smooth: SmoothOption = True,
    detect_every: DetectEveryOption = 5,
    models: ModelsOption = None,
    device: DeviceOption = None,
) -> None:
    """Follow everyone before a camera: JSON Lines on standard output until Ctrl-C; connects again when the camera goes away."""
    from posewire.cli.predict_options import Tracking
    from posewire.cli.watch import watch as run

    settings = load_settings(
        models=models, device=device, min_detection_score=min_detection_score, max_people=max_people, log_level="warning"
    )
    raise typer.Exit(run(source, out, min_keypoint_score, Tracking(track, smooth, detect_every), settings))


@app.command()
def evaluate(
    images: Annotated[Path, typer.Option(help="Folder of the pictures.", exists=True, file_okay=False)],
    annotations: Annotated[Path, typer.Option(help="COCO person keypoints (JSON).", exists=True, dir_okay=False)],
    boxes: Annotated[Literal["gt", "detector"], typer.Option(help="Boxes of the annotations, or of the detector.")] = "gt",
    url: Annotated[str | None, typer.Option(help="Evaluate a running service instead, such as http://127.0.0.1:8000.")] = None,
    decoding: Annotated[Decoding | None, typer.Option(help="dark or quarter.")] = None,
    flip_test: Annotated[bool | None, typer.Option(help="Average with the mirrored crop.")] = None,
    every: Annotated[bool, typer.Option("--all", help="COCO's figures also with the other boxes and the other flip test.")] = False,
    html: Annotated[Path | None, typer.Option(help="File for a page with all figures and the worst pictures.", dir_okay=False)] = None,
    worst: Annotated[int, typer.Option(min=0, help="Pictures on that page.")] = 12,
    fit_images: Annotated[
        Path | None, typer.Option(help="Folder of other pictures, to fit a curve for the scores on.", exists=True, file_okay=False)
    ] = None,
    fit_annotations: Annotated[Path | None, typer.Option(help="COCO person keypoints of those.", exists=True, dir_okay=False)] = None,
    as_json: JsonOption = False,
    models: ModelsOption = None,
    device: DeviceOption = None,
) -> None:
    """COCO AP (pycocotools) of the chosen models or of a running service; errors by joint, size and occlusion; what scores mean."""
    from posewire.cli.evaluate import EvaluateOptions
    from posewire.cli.evaluate import evaluate as run

    settings = load_settings(
        models=models,
        device=device,
        decoding=decoding,
        flip_test=flip_test,
        min_detection_score=0.001,
        max_pictures=1,
        max_people=100,
        log_level="warning",
    )
    options = EvaluateOptions(images, annotations, boxes, url, every, html, worst, fit_images, fit_annotations, as_json)
    raise typer.Exit(run(options, settings))


@app.command()
def bench(
    model: Annotated[
        str | None, typer.Option(help="A name, an ONNX file or the kernels' .safetensors; none: the chosen pose model.")
    ] = None,
    against: Annotated[Path | None, typer.Option(help="The ONNX file to compare with.", exists=True, dir_okay=False)] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Items of a run; may be repeated [default: 1 and 8].")] = None,
    threads: Annotated[list[int] | None, typer.Option(min=1, help="Intra-op threads; may be repeated [default: 1].")] = None,
    rounds: Annotated[int, typer.Option(min=5, help="Times that everything runs.")] = 50,
    as_json: JsonOption = False,
    models: ModelsOption = None,
) -> None:
    """Time a model against another file on this CPU, interleaved: ratios with their spread, and the noise."""
    from posewire.cli.bench import bench as run
    from posewire.tools.bench.comparison import model_file

    raise typer.Exit(
        run(model_file(load_settings(models=models), model), against, batch or [1, 8], threads or [1], rounds, as_json=as_json)
    )


@app.command()
def doctor(as_json: JsonOption = False, models: ModelsOption = None, device: DeviceOption = None) -> None:
    """Say what is installed, which device would be used and whether the models load and run."""
    from posewire.cli.doctor import doctor as run

    raise typer.Exit(run(load_settings(models=models, device=device, log_level="warning"), as_json=as_json))


@keys_app.command("new")
def keys_new(name: Annotated[str, typer.Argument(help="Who will hold it: letters, digits, dots and dashes.")]) -> None:
    """Make an API key: the key, on standard error, for its holder; on standard output its line for POSEWIRE_API_KEYS_FILE."""
    from posewire.server.keys import new_key, parse_keys

    key, line = new_key(name)
    parse_keys(line)
    typer.echo(f"the key, shown this once: {key}", err=True)
    typer.echo(line)


@models_app.command("list")
def models_list(as_json: JsonOption = False) -> None:
    """Every model of the store and every one that can be pulled, with its size, licence and measured accuracy; and the pairs."""
    from posewire.cli.models import list_models

    raise typer.Exit(list_models(load_settings(), as_json=as_json))


@models_app.command("show")
def models_show(name: Annotated[str, typer.Argument(help="A model of `models list`.")], as_json: JsonOption = False) -> None:
    """Everything that is known of a model, whether it ships, was pulled or can be pulled."""
    from posewire.cli.models import show_model

    raise typer.Exit(show_model(load_settings(), name, as_json=as_json))


@models_app.command("use")
def models_use(
    name: Annotated[
        str | None, typer.Argument(metavar="[PAIR]", help="A pair of the manifest to keep for this user; default: forget the kept one.")
    ] = None,
) -> None:
    """Choose a detector and a pose model by one word, for all later commands; without a word, show the pairs and which is in use."""
    from posewire.cli.pairs import show_pairs, use_pair

    settings = load_settings()
    raise typer.Exit(show_pairs(settings) if name is None else use_pair(settings, name))


@models_app.command("pull")
def models_pull(
    name: Annotated[str, typer.Argument(help="A model that `models list` says can be pulled.")],
    store: Annotated[Path | None, typer.Option(help="Folder for it; none: POSEWIRE_CACHE_DIR/models.", file_okay=False)] = None,
) -> None:
    """Fetch a published model, prove its SHA-256, compile it where it is a checkpoint, and keep it; goes on where it was cut."""
    from posewire.cli.pull import pull_model

    raise typer.Exit(pull_model(load_settings(), name, store))


@models_app.command("verify")
def models_verify(
    names: Annotated[list[str] | None, typer.Argument(help="Models; none: all.")] = None, as_json: JsonOption = False
) -> None:
    """Compare every model file with the manifest's sha256."""
    from posewire.cli.models import verify_models

    raise typer.Exit(verify_models(load_settings(), names or [], as_json=as_json))


@models_app.command("compile")
def models_compile(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth or .safetensors file.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="FILE.onnx, or FILE.safetensors for Posewire's kernels.", dir_okay=False)],
    variant: Annotated[str, typer.Option(help="litehrnet-18, litehrnet-30, naive-litehrnet-18 or wider-naive-litehrnet-18.")],
    height: Annotated[int, typer.Option(min=32, help="Of the input, pixels.")] = 256,
    width: Annotated[int, typer.Option(min=32, help="Of the input, pixels.")] = 192,
    keypoints: Annotated[int, typer.Option(min=1, help="COCO has 17, MPII 16.")] = 17,
    input_format: Annotated[
        Literal["float32-nchw", "uint8-nhwc", "uint8-nchw"],
        typer.Option("--input", help="Normalised pictures, or pixels as they are."),
    ] = "float32-nchw",
    mean: Annotated[
        tuple[float, float, float] | None, typer.Option(help="Of channels 0..255, for uint8 [default: ImageNet's].", show_default=False)
    ] = None,
    std: Annotated[
        tuple[float, float, float] | None, typer.Option(help="Of channels 0..255, for uint8 [default: ImageNet's].", show_default=False)
    ] = None,
    output: Annotated[
        Literal["heatmaps", "keypoints"], typer.Option(help="heatmaps, or keypoints: decoded by DARK in the graph.")
    ] = "heatmaps",
    sigma: Annotated[float | None, typer.Option(help="Of the training's Gaussians, heatmap pixels; for keypoints.")] = None,
    sigmoid: Annotated[bool, typer.Option("--sigmoid", help="The checkpoint gives logits: its heatmaps are their sigmoids.")] = False,
    precision: Annotated[Literal["fp32", "fp16"], typer.Option(help="fp32, or fp16: float16 inside, for GPUs.")] = "fp32",
    without: Annotated[
        list[str] | None, typer.Option(metavar="PASS", help="A pass of the compiler to leave out (docs/compiler.md); may be repeated.")
    ] = None,
) -> None:
    """Compile a checkpoint into a lean ONNX graph, or weights for Posewire's kernels; prints what its manifest entry needs."""
    from posewire.cli.compile import compile_checkpoint
    from posewire.registry.networks.litehrnet.spec import get_variant
    from posewire.tools.compiler.litehrnet.options import GraphOptions
    from posewire.tools.compiler.litehrnet.passes import Passes

    options = GraphOptions(input_format, mean, std, output, sigma, sigmoid, precision, Passes.without(without or []))
    raise typer.Exit(compile_checkpoint(checkpoint, out, get_variant(variant, keypoints), height, width, options))


@models_app.command("quantize")
def models_quantize(
    model: Annotated[str, typer.Argument(help="An ONNX file of a pose model, or a pose model's name.")],
    images: Annotated[Path, typer.Option(help="Folder of pictures to calibrate on.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.", dir_okay=False)],
    annotations: Annotated[
        Path | None,
        typer.Option(help="COCO person keypoints of --images; none: the detector finds the people.", exists=True, dir_okay=False),
    ] = None,
    validate_images: Annotated[Path | None, typer.Option(help="Folder of pictures to measure AP on.", exists=True, file_okay=False)] = None,
    validate_annotations: Annotated[Path | None, typer.Option(help="COCO person keypoints of those.", exists=True, dir_okay=False)] = None,
    people: Annotated[int, typer.Option(min=16, help="To calibrate on.")] = 128,
    coverage: Annotated[
        Literal["pointwise", "all"], typer.Option(help="What becomes INT8: 1x1 convolutions, or all there is.")
    ] = "pointwise",
    rounds: Annotated[int, typer.Option(min=5, help="Times that both files run.")] = 50,
    keep: Annotated[bool, typer.Option("--keep", help="Write the file also if it loses.")] = False,
) -> None:
    """Make a static INT8 file (QDQ), measure it, and keep it only where it is faster here and loses less than 0.5 AP."""
    from posewire.cli.quantize import QuantizeOptions, quantize_model

    options = QuantizeOptions(images, annotations, validate_images, validate_annotations, out, people, coverage, rounds, keep)
    raise typer.Exit(quantize_model(load_settings(device="cpu", log_level="error"), model, options))


def main() -> None:
    """Run the command; an error of ours is one line and exit code 1."""
    try:
        app()
    except PosewireError as error:
        typer.echo(f"posewire: {error}", err=True)
        sys.exit(1)
