"""The pipeline as a model of Triton: requests of the Open Inference Protocol in, responses out."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from posewire.config import PREFIX, load_settings
from posewire.errors import BadParameter, ServiceError, TooLarge
from posewire.imaging.decode import sniff
from posewire.pipeline.detector import Detector
from posewire.pipeline.heads.base import pose_head
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.pipeline.pose_pipeline import ImageJob, PosePipeline
from posewire.schemas.base64_image import decode_base64
from posewire.schemas.inference_protocol import InferParams, outputs
from posewire.schemas.pose import describe
from posewire.schemas.tensors import PeopleTensors, share_boxes
from posewire.triton.networks import Networks
from posewire.triton.session import BlsSession
from posewire.types import FloatArray

log = logging.getLogger(__name__)


class PoseModel:
    """Answers requests. One instance runs one request at a time; Triton has several instances, each a process.

    Args:
        pb_utils: the module `triton_python_backend_utils`.
        folder: of the version in the model repository; has the file of the networks.
        config: Triton's configuration of the model. Its parameters `POSEWIRE_...` are settings.

    Raises:
        ModelError: the file of the networks cannot be used.
        ConfigError: a parameter is not a setting, or its value is not valid.
    """

    def __init__(self, pb_utils: Any, folder: Path, config: Mapping[str, Any]) -> None:
        self._pb_utils = pb_utils
        parameters = config.get("parameters", {})
        settings = load_settings({key: value["string_value"] for key, value in parameters.items() if key.startswith(PREFIX)})
        networks = Networks.read(folder)
        detector = Detector(networks.detector, BlsSession(pb_utils, networks.detector_network, networks.detector.input, (None, None)))
        head = pose_head(networks.pose, settings.decoding, flip_test=settings.flip_test)
        session = BlsSession(pb_utils, networks.pose_network, networks.pose.input, head.output_shape)
        pose = PoseEstimator(networks.pose, session, decoding=settings.decoding, flip_test=settings.flip_test)
        self._pipeline = PosePipeline(detector, pose, max_bytes=settings.max_bytes, max_pixels=settings.max_pixels)
        self._settings = settings
        self._names = networks.pose.keypoints.names
        self._outputs = {spec.name: spec for spec in outputs(len(self._names))}

    def answer(self, request: Any) -> Any:
        """Return the response to a request; what goes wrong is its error, and not raised."""
        pb_utils = self._pb_utils
        errors = pb_utils.TritonError
        if request.is_cancelled():
            return pb_utils.InferenceResponse(error=errors("the client has gone", errors.CANCELLED))
        try:
            return pb_utils.InferenceResponse(output_tensors=self._tensors(request))
        except ServiceError as error:
            text = error.detail if error.image is None else f"image {error.image}: {error.detail}"
            return pb_utils.InferenceResponse(error=errors(text, self._code(error)))
        except Exception:
            log.exception("a request failed")
            return pb_utils.InferenceResponse(error=errors("the request failed; the log of the server has the cause", errors.INTERNAL))

    def _code(self, error: ServiceError) -> Any:
        """Return Triton's code of an error; its HTTP status is nearest to the one that Posewire's service answers."""
        errors = self._pb_utils.TritonError
        if error.status < 500:
            return errors.INVALID_ARG
        return errors.UNAVAILABLE if error.status in (503, 504) else errors.INTERNAL

    def _tensors(self, request: Any) -> list[Any]:
        """Return the outputs that a request asks for.

        Raises:
            ServiceError: as the service's endpoint.
        """
        params = self._params(request)
        files = self._images(request)
        deadline = time.monotonic() + params.timeout / 1e6 if params.timeout else None
        jobs = [
            ImageJob(data, self._settings.pose_options(params.min_detection_score, params.max_people, boxes), deadline=deadline)
            for data, boxes in zip(files, self._boxes(request, len(files)), strict=True)
        ]
        people = PeopleTensors(self._pipeline.estimate(jobs), self._names, params.min_keypoint_score)
        names = request.requested_output_names()
        return [self._pb_utils.Tensor(name, people.tensor(self._outputs[name]).array()) for name in names]

    def _params(self, request: Any) -> InferParams:
        """Return the parameters of a request; Triton takes `timeout` out of them."""
        try:
            params = InferParams.model_validate_json(request.parameters() or "{}")
        except ValidationError as error:
            raise BadParameter(describe(error)) from None
        return params.model_copy(update={"timeout": request.timeout()})

    def _images(self, request: Any) -> list[bytes]:
        files = [_file(element) for element in self._input(request, "images").ravel()]
        if not files:
            raise BadParameter("inputs: images holds no image; send at least one")
        if len(files) > self._settings.max_pictures:
            raise TooLarge(f"{len(files)} images are more than the {self._settings.max_pictures} that one request may have")
        return files

    def _boxes(self, request: Any, images: int) -> list[FloatArray | None]:
        """Return the boxes of each image; without the tensor `boxes` the detector finds them."""
        boxes, counts = self._input(request, "boxes"), self._input(request, "boxes_count")
        if boxes is None:
            if counts is not None:
                raise BadParameter("inputs: boxes_count needs the tensor boxes beside it")
            return [None] * images
        if len(boxes) > images * self._settings.max_people:
            raise BadParameter(f"inputs: {len(boxes)} boxes are more than {self._settings.max_people} for each image")
        return share_boxes(boxes.ravel().tolist(), None if counts is None else counts.ravel().tolist(), images)

    def _input(self, request: Any, name: str) -> Any:
        """Return an input as an array; None: the request does not have it."""
        tensor = self._pb_utils.get_input_tensor_by_name(request, name)
        return None if tensor is None else tensor.as_numpy()


def _file(element: bytes) -> bytes:
    """Return an encoded image. In JSON it is a text: Triton passes it on, where Posewire's service decodes it."""
    if sniff(element) is None and element.isascii():
        try:
            return decode_base64(element.decode("ascii"))
        except ValueError:
            pass  # the decoder says what is wrong with it
    return element
