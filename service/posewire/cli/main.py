"""The `posewire` command: its subcommands and their options. The work is in the module of each subcommand."""

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from posewire import __version__
from posewire.cli.output import OutputError, drop_output, one_line, prepare_output
from posewire.cli.stopping import exit_at_signals
from posewire.config import Decoding, Device, load_settings
from posewire.errors import PosewireError
from posewire.formats.base import FormatName

app = typer.Typer(
    name="posewire",
    help="Real-time human pose estimation. Settings are POSEWIRE_* environment variables; options override them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
models_app = typer.Typer(help="The models in the store.", no_args_is_help=True)
app.add_typer(models_app, name="models")
keys_app = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

cameras_app = typer.Typer(help="The cameras of a running service. POSEWIRE_API_KEY holds the key, if one is needed.", no_args_is_help=True)
app.add_typer(cameras_app, name="cameras")

DeviceOption = Annotated[Device | None, typer.Option(help="auto, cpu, cuda or tensorrt.")]
ModelsOption = Annotated[
    str | None, typer.Option(metavar="PAIR", help="Name of a pair of models: fast, accurate or paper; see `models use`.")
]
TrackOption = Annotated[bool, typer.Option(help="Videos: track people; without tracking, the detector runs on every frame.")]
SmoothOption = Annotated[bool, typer.Option(help="Videos: reduce the jitter of the keypoints; only with tracking.")]
DetectEveryOption = Annotated[int, typer.Option(min=1, help="Videos: maximum number of frames between two runs of the detector.")]
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
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: any free port.", min=0, max=65535)] = None,
    models: ModelsOption = None,
    device: DeviceOption = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes that run the models on a CPU; 0: threads.", min=0, max=1024)] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C; accepted requests are completed first."""
    _check_runtime()
    from posewire.cli.serve import serve as run

    raise typer.Exit(run(load_settings(host=host, port=port, models=models, device=device, workers=workers, log_level=log_level)))


@app.command()
def predict(
    images: Annotated[list[str], typer.Argument(help="Images, videos, folders or glob patterns.")],
    as_json: JsonOption = False,
    form: Annotated[FormatName | None, typer.Option("--format", help="Print the results in this format: docs/formats.md.")] = None,
    normalized: Annotated[bool, typer.Option(help="Divide coordinates by the width and the height of the image.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for images and videos with skeletons, and for JSON Lines; with --format, also a file such as people.csv, or a "
            "folder for a file per image."
        ),
    ] = None,
    min_detection_score: Annotated[float | None, typer.Option(min=0, max=1, help="People below are left out.")] = None,
    min_keypoint_score: Annotated[float | None, typer.Option(min=0, max=1, help="Keypoints below are left out.")] = None,
    max_people: Annotated[int | None, typer.Option(min=1, help="Limit of people per image; the best are kept.")] = None,
    flip_test: Annotated[bool | None, typer.Option(help="Average with the mirrored crop; doubles the cost.")] = None,
    track: TrackOption = True,
    smooth: SmoothOption = True,
    detect_every: DetectEveryOption = 5,
    models: ModelsOption = None,
    device: DeviceOption = None,
) -> None:
    """Estimate the poses in images and videos. Prints a line per file, JSON (a line per image or frame), or another format.

    With --out a video becomes NAME.pose.mp4 and NAME.pose.jsonl. After Ctrl-C both end at that frame, as NAME.partial.pose.*.
    """
    _check_runtime()
    from posewire.cli.predict import predict as run
    from posewire.cli.predict_options import PredictOptions, Tracking, chosen_format

    tracking = Tracking(track, smooth, detect_every)
    options = PredictOptions(chosen_format(form, as_json=as_json), normalized, out, min_keypoint_score, tracking)
    settings = load_settings(
        models=models,
        device=device,
        flip_test=flip_test,
        min_detection_score=min_detection_score,
        max_people=max_people,
        log_level="warning",
    )
    raise typer.Exit(run(images, options, settings))


@app.command()
def batch(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders (with all folders in them), glob patterns, images, videos, tar and Parquet files; @LIST: a file with a line for "
            "each of these; -: such lines from standard input. Paths, or addresses such as s3://bucket/folder.",
        ),
    ],
    out: Annotated[
        str, typer.Option(help="Folder for the results, an address such as s3://bucket/folder, or a file such as people.parquet.")
    ],
    form: Annotated[Literal["parquet", "ndjson"], typer.Option("--format", help="Format of the results in a folder.")] = "parquet",
    column: Annotated[str | None, typer.Option(help="Parquet files: the column of images; default: the only one with bytes.")] = None,
    fps: Annotated[float | None, typer.Option(min=0.001, help="Videos: frames per second; default: every frame.")] = None,
    shard_images: Annotated[int, typer.Option(min=1, help="Images of one file of results: so many are lost at most by kill -9.")] = 2000,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Run on this Ray cluster; local: a Ray of this machine.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that run the models on a CPU; with --ray, actors; 0: threads.", min=0, max=1024)
    ] = None,
    min_detection_score: Annotated[float | None, typer.Option(min=0, max=1, help="People below are left out.")] = None,
    max_people: Annotated[int | None, typer.Option(min=1, help="Limit of people per image; the best are kept.")] = None,
    flip_test: Annotated[bool | None, typer.Option(help="Average with the mirrored crop; doubles the cost.")] = None,
    models: ModelsOption = None,
    device: DeviceOption = None,
) -> None:
    """Estimate the poses in any number of images, and write tables. After kill -9 or Ctrl-C the same command goes on.

    Exit code 0: every image has a result. 3: the images without one are in the table of failures.
    """
    _check_runtime()
    from posewire.batch.batching import BatchOptions
    from posewire.cli.batch import batch as run

    settings = load_settings(
        models=models,
        device=device,
        workers=workers,
        flip_test=flip_test,
        min_detection_score=min_detection_score,
        max_people=max_people,
        log_level="warning",
    )
    raise typer.Exit(run(BatchOptions(tuple(sources), out, form, column, fps, shard_images), settings, ray))


@app.command()
def watch(
    source: Annotated[str, typer.Argument(help="The rtsp:// or http:// address of a camera, or a video file that plays like one.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the video with skeletons, and for JSON Lines.", file_okay=False)] = None,
    min_detection_score: Annotated[float | None, typer.Option(min=0, max=1, help="People below are left out.")] = None,
    min_keypoint_score: Annotated[float | None, typer.Option(min=0, max=1, help="Keypoints below are left out.")] = None,
    max_people: Annotated[int | None, typer.Option(min=1, help="Limit of people per frame; the best are kept.")] = None,
    track: TrackOption = True,
    smooth: SmoothOption = True,
    detect_every: DetectEveryOption = 5,
    rules: Annotated[
        Path | None, typer.Option(help="JSON list of rules, which give events (docs/events.md).", exists=True, dir_okay=False)
    ] = None,
    sinks: Annotated[
        Path | None, typer.Option(help="JSON list of sinks, which get messages (docs/cameras.md).", exists=True, dir_okay=False)
    ] = None,
    models: ModelsOption = None,
    device: DeviceOption = None,
) -> None:
    """Track the people of a camera: prints JSON Lines until Ctrl-C, and reconnects when the camera is lost."""
    _check_runtime()
    from posewire.cli.predict_options import Tracking
    from posewire.cli.watch import WatchOptions
    from posewire.cli.watch import watch as run

    settings = load_settings(
        models=models, device=device, min_detection_score=min_detection_score, max_people=max_people, log_level="warning"
    )
    options = WatchOptions.read(out, min_keypoint_score, Tracking(track, smooth, detect_every), rules, sinks)
    raise typer.Exit(run(source, options, settings))


@app.command()
def evaluate(
    images: Annotated[Path, typer.Option(help="Folder of the images.", exists=True, file_okay=False)],
    annotations: Annotated[Path, typer.Option(help="COCO person keypoints (JSON).", exists=True, dir_okay=False)],
    boxes: Annotated[Literal["gt", "detector"], typer.Option(help="Boxes of the annotations, or of the detector.")] = "gt",
    url: Annotated[str | None, typer.Option(help="Evaluate a running service instead, such as http://127.0.0.1:8000.")] = None,
    decoding: Annotated[Decoding | None, typer.Option(help="dark or quarter.")] = None,
    flip_test: Annotated[bool | None, typer.Option(help="Average with the mirrored crop.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also evaluate with the other kind of boxes, and with the other value of --flip-test.")
    ] = False,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Compare two pairs, models or ONNX files, and give an interval of each difference."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", "--report", help="File for an HTML report with all figures and the worst images.", dir_okay=False),
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="Number of worst images in the report; with --compare, of each kind.")] = 12,
    fit_images: Annotated[
        Path | None, typer.Option(help="Folder of other images, to fit a calibration curve of the scores.", exists=True, file_okay=False)
    ] = None,
    fit_annotations: Annotated[
        Path | None, typer.Option(help="COCO person keypoints of --fit-images.", exists=True, dir_okay=False)
    ] = None,
    as_json: JsonOption = False,
    models: ModelsOption = None,
    device: DeviceOption = None,
) -> None:
    """Evaluate the models or a running service: COCO AP, errors by joint, size and occlusion, calibration of scores."""
    if compare is not None:
        others = {"--url": url, "--all": every or None, "--fit-images": fit_images, "--fit-annotations": fit_annotations}
        if wrong := [name for name, given in others.items() if given is not None]:
            raise PosewireError(f"{wrong[0]} does not go with --compare: leave out one of the two")
        from posewire.cli.compare import compare as run_compare
        from posewire.tools.evaluate.compare.comparing import CompareOptions

        settings = load_settings(models=models, device=device, decoding=decoding, flip_test=flip_test, log_level="warning")
        raise typer.Exit(run_compare(CompareOptions(compare, images, annotations, boxes, html, worst), settings, as_json=as_json))
    from posewire.cli.evaluate import evaluate as run
    from posewire.tools.evaluate.evaluating import EvaluateOptions

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
    options = EvaluateOptions(images, annotations, boxes, url, every, html, worst, fit_images, fit_annotations)
    raise typer.Exit(run(options, settings, as_json=as_json))


@app.command()
def bench(
    model: Annotated[
        str | None, typer.Option(help="Name of a model, ONNX file or .safetensors for the kernels; default: the pose model in use.")
    ] = None,
    against: Annotated[Path | None, typer.Option(help="ONNX file to compare with.", exists=True, dir_okay=False)] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Batch size; may be repeated [default: 1 and 8].")] = None,
    threads: Annotated[list[int] | None, typer.Option(min=1, help="Intra-op threads; may be repeated [default: 1].")] = None,
    rounds: Annotated[int, typer.Option(min=5, help="Number of rounds.")] = 50,
    as_json: JsonOption = False,
    models: ModelsOption = None,
) -> None:
    """Compare the speed of two model files on this CPU: interleaved runs, ratios with quartiles, and the noise."""
    from posewire.cli.bench import bench as run
    from posewire.tools.bench.comparison import model_file

    raise typer.Exit(
        run(model_file(load_settings(models=models), model), against, batch or [1, 8], threads or [1], rounds, as_json=as_json)
    )


@app.command()
def doctor(as_json: JsonOption = False, models: ModelsOption = None, device: DeviceOption = None) -> None:
    """Report what is installed and which device is used, and test that the models load and run."""
    _check_runtime()
    from posewire.cli.doctor import doctor as run

    raise typer.Exit(run(load_settings(models=models, device=device, log_level="warning"), as_json=as_json))


@keys_app.command("new")
def keys_new(name: Annotated[str, typer.Argument(help="Name of the holder: letters, digits, dots and dashes.")]) -> None:
    """Make an API key: prints the key on standard error, and its line for POSEWIRE_API_KEYS_FILE on standard output."""
    from posewire.server.auth import new_key, parse_keys

    key, line = new_key(name)
    parse_keys(line)
    typer.echo(f"the key, shown this once: {key}", err=True)
    typer.echo(line)


@models_app.command("list")
def models_list(as_json: JsonOption = False) -> None:
    """List the models of the store, the models that can be pulled, and the pairs."""
    from posewire.cli.models import list_models

    raise typer.Exit(list_models(load_settings(), as_json=as_json))


@models_app.command("show")
def models_show(name: Annotated[str, typer.Argument(help="A model of `models list`.")], as_json: JsonOption = False) -> None:
    """Show all data of a model: one that ships, was pulled or can be pulled."""
    from posewire.cli.models import show_model

    raise typer.Exit(show_model(load_settings(), name, as_json=as_json))


@models_app.command("use")
def models_use(
    name: Annotated[str | None, typer.Argument(metavar="[PAIR]", help="A pair of the manifest; `default` removes the choice.")] = None,
) -> None:
    """Choose a detector and a pose model for all later commands of this user; without a name, show the pairs."""
    from posewire.cli.pairs import show_pairs, use_pair

    settings = load_settings()
    raise typer.Exit(show_pairs(settings) if name is None else use_pair(settings, name))


@models_app.command("pull")
def models_pull(
    name: Annotated[str, typer.Argument(help="A model that `models list` says can be pulled.")],
    store: Annotated[Path | None, typer.Option(help="Target folder; default: POSEWIRE_CACHE_DIR/models.", file_okay=False)] = None,
) -> None:
    """Download a published model, check its SHA-256 and compile it if it is a checkpoint; resumes an interrupted download."""
    from posewire.cli.pull import pull_model

    raise typer.Exit(pull_model(load_settings(), name, store))


@models_app.command("add")
def models_add(
    file: Annotated[Path, typer.Argument(help="An ONNX file of a detector of people or of a top-down pose model.")],
    name: Annotated[str | None, typer.Option(help="Name of the model; default: that of the file.")] = None,
    layout: Annotated[str | None, typer.Option(help="Layout of the outputs: docs/how-to/own-model.md has all.")] = None,
    keypoints: Annotated[str | None, typer.Option(help="Keypoint set: a name such as coco-17, or a .toml file.")] = None,
    colour: Annotated[Literal["RGB", "BGR"] | None, typer.Option(help="Order of the channels.")] = None,
    mean: Annotated[tuple[float, float, float] | None, typer.Option(help="Mean of the channels, 0..255.", show_default=False)] = None,
    std: Annotated[tuple[float, float, float] | None, typer.Option(help="Standard deviation, 0..255.", show_default=False)] = None,
    height: Annotated[int | None, typer.Option(min=1, help="Height of the input, pixels, if the file leaves it open.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Width of the input, pixels, if the file leaves it open.")] = None,
    sigma: Annotated[float | None, typer.Option(help="Heatmaps: sigma of the training's Gaussians, heatmap pixels.")] = None,
    flip_shift: Annotated[int | None, typer.Option(min=0, max=1, help="Heatmaps: shift in the flip test, heatmap pixels.")] = None,
    outputs: Annotated[list[str] | None, typer.Option(help="Name of an output to read; may be repeated, in the layout's order.")] = None,
    person_class: Annotated[int | None, typer.Option(min=0, help="Detectors: number of the class of people.")] = None,
    distances: Annotated[Literal["pixels", "strides"] | None, typer.Option(help="RTMDet: unit of the boxes.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the model; it is shown with it.")] = None,
    image: Annotated[Path | None, typer.Option(help="Image to try it on; default: one of the package.", dir_okay=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Target of the drawn image; default: NAME.added.jpg here.", dir_okay=False)] = None,
    store: Annotated[Path | None, typer.Option(help="Target folder; default: POSEWIRE_CACHE_DIR/models.", file_okay=False)] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an added model of the same name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add an ONNX file: say what it is and how that is known, run it on an image that is drawn, write the manifest's entry.

    What cannot be told from the file is asked for, all at once, and nothing is written. Exit code 2 says so.
    """
    _check_runtime()
    from posewire.cli.add import add_model
    from posewire.tools.adding.adding import Place
    from posewire.tools.adding.recognising import Given

    settings = load_settings(device="cpu", log_level="error")
    given = Given(
        layout=layout,
        keypoints=keypoints,
        height=height,
        width=width,
        colour=colour,
        mean=mean,
        std=std,
        sigma=sigma,
        flip_shift=flip_shift,
        outputs=tuple(outputs) if outputs else None,
        person_class=person_class,
        distances=distances,
    )
    place = Place(name, store or settings.cache_dir / "models", replace, licence)
    drawn = out or Path(f"{name or file.stem}.added.jpg")
    raise typer.Exit(add_model(file, given, place, settings, image, drawn, as_json=as_json))


@models_app.command("remove")
def models_remove(
    name: Annotated[str, typer.Argument(help="A model that was pulled or added.")],
    store: Annotated[Path | None, typer.Option(help="Its folder; default: POSEWIRE_CACHE_DIR/models.", file_okay=False)] = None,
) -> None:
    """Remove a model that was pulled or added, and its files."""
    from posewire.cli.add import remove_model

    raise typer.Exit(remove_model(load_settings(), name, store))


@models_app.command("verify")
def models_verify(
    names: Annotated[list[str] | None, typer.Argument(help="Names of models; default: all.")] = None, as_json: JsonOption = False
) -> None:
    """Compare every model file with the manifest's sha256."""
    from posewire.cli.models import verify_models

    raise typer.Exit(verify_models(load_settings(), names or [], as_json=as_json))


@models_app.command("compile")
def models_compile(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth or .safetensors file.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Target: FILE.onnx, or FILE.safetensors for Posewire's kernels.", dir_okay=False)],
    variant: Annotated[str, typer.Option(help="litehrnet-18, litehrnet-30, naive-litehrnet-18 or wider-naive-litehrnet-18.")],
    height: Annotated[int, typer.Option(min=32, help="Height of the input, pixels.")] = 256,
    width: Annotated[int, typer.Option(min=32, help="Width of the input, pixels.")] = 192,
    keypoints: Annotated[int, typer.Option(min=1, help="Number of keypoints: COCO has 17, MPII 16.")] = 17,
    input_format: Annotated[
        Literal["float32-nchw", "uint8-nhwc", "uint8-nchw"],
        typer.Option("--input", help="Format of the input: normalised images, or raw pixels."),
    ] = "float32-nchw",
    mean: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Mean of the channels, 0..255, for uint8 [default: ImageNet's].", show_default=False),
    ] = None,
    std: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Standard deviation of the channels, 0..255, for uint8 [default: ImageNet's].", show_default=False),
    ] = None,
    output: Annotated[
        Literal["heatmaps", "keypoints"], typer.Option(help="Output: heatmaps, or keypoints decoded by DARK in the graph.")
    ] = "heatmaps",
    sigma: Annotated[float | None, typer.Option(help="Sigma of the training's Gaussians in heatmap pixels; needed for keypoints.")] = None,
    sigmoid: Annotated[bool, typer.Option("--sigmoid", help="The checkpoint returns logits; add a sigmoid.")] = False,
    precision: Annotated[Literal["fp32", "fp16"], typer.Option(help="Precision: fp32, or fp16 for GPUs.")] = "fp32",
    without: Annotated[
        list[str] | None, typer.Option(metavar="PASS", help="Skip a pass of the compiler (docs/compiler.md); may be repeated.")
    ] = None,
) -> None:
    """Compile a checkpoint into an ONNX graph or into weights for Posewire's kernels; prints the values for its manifest entry."""
    from posewire.cli.compile import compile_checkpoint
    from posewire.registry.networks.litehrnet.spec import get_variant
    from posewire.tools.compiler.litehrnet.options import GraphOptions
    from posewire.tools.compiler.litehrnet.passes import Passes

    options = GraphOptions(input_format, mean, std, output, sigma, sigmoid, precision, Passes.without(without or []))
    raise typer.Exit(compile_checkpoint(checkpoint, out, get_variant(variant, keypoints), height, width, options))


@models_app.command("quantize")
def models_quantize(
    model: Annotated[str, typer.Argument(help="ONNX file or name of a pose model.")],
    images: Annotated[Path, typer.Option(help="Folder of images for the calibration.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="Target ONNX file.", dir_okay=False)],
    annotations: Annotated[
        Path | None,
        typer.Option(help="COCO person keypoints of --images; default: the detector finds the people.", exists=True, dir_okay=False),
    ] = None,
    validate_images: Annotated[Path | None, typer.Option(help="Folder of images to measure AP.", exists=True, file_okay=False)] = None,
    validate_annotations: Annotated[
        Path | None, typer.Option(help="COCO person keypoints of --validate-images.", exists=True, dir_okay=False)
    ] = None,
    people: Annotated[int, typer.Option(min=16, help="Number of people for the calibration.")] = 128,
    coverage: Annotated[
        Literal["pointwise", "all"], typer.Option(help="Operators that become INT8: 1x1 convolutions, or all.")
    ] = "pointwise",
    rounds: Annotated[int, typer.Option(min=5, help="Number of rounds of the speed comparison.")] = 50,
    keep: Annotated[bool, typer.Option("--keep", help="Write the file even if it is not worth it.")] = False,
) -> None:
    """Quantize a pose model to static INT8 (QDQ). The file is kept only if it is faster here and loses less than 0.5 AP."""
    from posewire.cli.quantize import quantize_model
    from posewire.tools.quantize.candidate import QuantizeOptions

    options = QuantizeOptions(images, annotations, validate_images, validate_annotations, out, people, coverage, rounds, keep)
    raise typer.Exit(quantize_model(load_settings(device="cpu", log_level="error"), model, options))


@models_app.command("export")
def models_export(
    triton: Annotated[
        Path, typer.Option(metavar="DIR", help="Target folder: a model repository of NVIDIA's Triton Inference Server.", file_okay=False)
    ],
    models: ModelsOption = None,
    detector: Annotated[str | None, typer.Option(metavar="NAME", help="Detector; default: that of the pair.")] = None,
    pose: Annotated[str | None, typer.Option(metavar="NAME", help="Pose model; default: that of the pair.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write into a folder that is not empty; models of the same names go.")] = False,
) -> None:
    """Export a detector and a pose model for another server, with the settings that are in force (docs/triton-kserve.md)."""
    _check_runtime()
    from posewire.cli.export import export_triton

    settings = load_settings(models=models, detector=detector, pose=pose, log_level="warning")
    raise typer.Exit(export_triton(settings, triton, replace=replace))


UrlOption = Annotated[str, typer.Option(help="Address of the service.")]
_SERVICE_URL = "http://127.0.0.1:8000"


@cameras_app.command("add")
def cameras_add(
    name: Annotated[str, typer.Argument(help="Small letters, digits, - and _.")],
    source: Annotated[str, typer.Argument(help="The rtsp:// or http:// address of a camera, or the absolute path of a video file.")],
    rules: Annotated[Path | None, typer.Option(help="JSON list of rules, which give events.", exists=True, dir_okay=False)] = None,
    sinks: Annotated[Path | None, typer.Option(help="JSON list of sinks, which get messages.", exists=True, dir_okay=False)] = None,
    fps: Annotated[float | None, typer.Option(help="Limit of frames a second.")] = None,
    detect_every: Annotated[int | None, typer.Option(min=1, help="Maximum number of frames between two runs of the detector.")] = None,
    max_people: Annotated[int | None, typer.Option(min=1, help="Limit of people per frame; the best are kept.")] = None,
    url: UrlOption = _SERVICE_URL,
) -> None:
    """Add a camera; the service watches it until it is removed, also after a restart."""
    from posewire.cli.cameras import Service, add_camera

    options = {"fps": fps, "detect_every": detect_every, "max_people": max_people}
    raise typer.Exit(add_camera(Service(url), name, source, {"rules": rules, "sinks": sinks}, options))


@cameras_app.command("list")
def cameras_list(as_json: JsonOption = False, url: UrlOption = _SERVICE_URL) -> None:
    """Show the cameras, and how they are doing."""
    from posewire.cli.cameras import Service, list_cameras

    raise typer.Exit(list_cameras(Service(url), as_json=as_json))


@cameras_app.command("remove")
def cameras_remove(name: Annotated[str, typer.Argument(help="The camera's name.")], url: UrlOption = _SERVICE_URL) -> None:
    """Remove a camera."""
    from posewire.cli.cameras import Service, remove_camera

    raise typer.Exit(remove_camera(Service(url), name))


def _check_runtime() -> None:
    """Say in one line what to install, before the modules of a command import ONNX Runtime."""
    from posewire.backends.installed import check_runtime

    if warning := check_runtime():
        print(f"posewire: {warning}", file=sys.stderr)


def main() -> None:
    """Run the command; a PosewireError is printed as one line, with exit code 1. SIGTERM and SIGHUP end it as Ctrl-C does."""
    exit_at_signals()
    try:
        prepare_output()
        try:
            app()
        finally:
            sys.stdout.flush()
    except OutputError as error:
        drop_output()
        _fail(error)
    except PosewireError as error:
        _fail(error)


def _fail(error: PosewireError) -> NoReturn:
    print(f"posewire: {one_line(error)}", file=sys.stderr)
    sys.exit(1)
