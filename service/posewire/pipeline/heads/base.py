"""The interfaces of pose heads and detector heads, and their registry."""

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

from posewire.config import Decoding
from posewire.errors import ConfigError
from posewire.registry.specs import DetectorOutput, DetectorSpec, Output, PoseSpec, register_output
from posewire.types import FloatArray


class PoseHead(Protocol):
    """Reads a pose network's output. `MakePoseHead` says how a head is built."""

    output_shape: tuple[int, ...]  # set when it is built: of one item of the network's output, as the manifest says

    def decode(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return keypoints (N, K, 2) float32 x y in input pixels, and their scores (N, K) float32 0..1.

        Args:
            raw: (N, *output_shape) float32, the network's output.
        """

    def merge_mirrored(self, raw: FloatArray, mirrored: FloatArray) -> FloatArray:
        """Return the mean of two outputs, for the flip test.

        Args:
            raw: (N, *output_shape) float32, of the crops.
            mirrored: (N, *output_shape) float32, of the mirrored crops; left and right are exchanged in it, as
                `KeypointSet.mirrored` says.
        """


class DetectorHead(Protocol):
    """Reads a detector's output. A head is built from the spec."""

    one_by_one: bool  # images run one at a time, because the number of rows differs from image to image

    def decode(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return boxes (A, 4) float32 x0 y0 x1 y1 in input pixels, and their scores (A,) float32 0..1.

        Args:
            raw: (A, ...) float32, the network's output for one image.
        """


class MakePoseHead(Protocol):
    """Builds a pose head: its class, for example."""

    def __call__(self, spec: PoseSpec, decoding: Decoding, *, flip_test: bool) -> PoseHead:
        """Build the head of a model.

        Args:
            spec: of the model; `spec.output` has the class that the head is registered with.
            decoding: of heatmaps. A head that decodes in one way only calls `refuse_other_decoding`.
            flip_test: whether `merge_mirrored` will be called.

        Raises:
            ConfigError: the head cannot do the decoding or the flip test.
        """


MakeDetectorHead: TypeAlias = Callable[[DetectorSpec], DetectorHead]
P = TypeVar("P", bound=MakePoseHead)
D = TypeVar("D", bound=MakeDetectorHead)

_POSE_HEADS: dict[str, MakePoseHead] = {}
_DETECTOR_HEADS: dict[str, MakeDetectorHead] = {}


def refuse_other_decoding(decoding: Decoding, reason: str) -> None:
    """Refuse a decoding that was chosen, for a head that decodes in one way only.

    `Decoding.DARK` is the default of the setting. So such a head takes it for no choice, also if it has no heatmaps.

    Args:
        decoding: that is asked for.
        reason: why another one is impossible, to follow its name in the message.

    Raises:
        ConfigError: it is another one than the default.
    """
    if decoding is not Decoding.DARK:
        raise ConfigError(f"decoding {decoding} {reason}")


def register_pose_head(layout: str, parameters: type[Output]) -> Callable[[P], P]:
    """Return a decorator that registers a class as the head of pose models of a layout.

    Args:
        layout: the value of `output.layout` in the manifest.
        parameters: validates the table `output` in the manifest.
    """

    def register(head: P) -> P:
        register_output("pose", layout, parameters)
        _POSE_HEADS[layout] = head
        return head

    return register


def register_detector_head(layout: str, parameters: type[DetectorOutput] = DetectorOutput) -> Callable[[D], D]:
    """Return a decorator that registers a class as the head of detectors of a layout.

    Args:
        layout: the value of `output.layout` in the manifest.
        parameters: validates the table `output` in the manifest.
    """

    def register(head: D) -> D:
        register_output("detector", layout, parameters)
        _DETECTOR_HEADS[layout] = head
        return head

    return register


def pose_head(spec: PoseSpec, decoding: Decoding = Decoding.DARK, *, flip_test: bool = False) -> PoseHead:
    """Build the head of a pose model.

    Raises:
        ConfigError: the head cannot do the decoding or the flip test.
    """
    return _POSE_HEADS[spec.output.layout](spec, decoding, flip_test=flip_test)


def detector_head(spec: DetectorSpec) -> DetectorHead:
    """Build the head of a detector."""
    return _DETECTOR_HEADS[spec.output.layout](spec)
