"""How far a student's boxes are from its teacher's."""

from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor

from model_store.training.detection.boxes import generalised_iou

# Scores below this say that nobody is there: their boxes are not compared.
LEAST_SCORE = 0.05
# Weights of a cell's score: by its error to this power, by the teacher's score, and for nothing.
_POWER, _SURE, _ALWAYS = 1.5, 0.25, 0.02


@dataclass(frozen=True)
class AnswerLoss:
    """Both terms, each a scalar for about each person that the teacher sees."""

    scores: Tensor
    boxes: Tensor


def answer_loss(answers: Tensor, wanted: Tensor) -> AnswerLoss:
    """Scores and boxes against a teacher's.

    Scores: binary cross-entropy weighted by the error, after quality focal loss (Li et al., arXiv 2006.04388), and more where the teacher
    sees somebody. Boxes: 1 - generalised IoU, by the teacher's score. Both are divided by the sum of the teacher's scores, and one.

    Args:
        answers: (N, cells, 5) of the student, as `boxes.decode` returns it.
        wanted: (N, cells, 5) of the teacher.
    """
    logits, sure = answers[..., 0].float(), wanted[..., 0].float().sigmoid()
    seen = sure * (sure > LEAST_SCORE)
    people = seen.sum() + 1
    weights = _SURE * sure + (logits.sigmoid() - sure).abs().detach() ** _POWER + _ALWAYS
    scores = (F.binary_cross_entropy_with_logits(logits, sure, reduction="none") * weights).sum() / people
    boxes = ((1 - generalised_iou(answers[..., 1:].float(), wanted[..., 1:].float())) * seen).sum() / people
    return AnswerLoss(scores, boxes)
