"""Which cells answer for whom, on made boxes, and the loss that follows."""

import importlib
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="torch is for training only")
boxes: Any = importlib.import_module("model_store.training.detection.boxes")
assignment: Any = importlib.import_module("model_store.training.detection.assignment")
loss: Any = importlib.import_module("model_store.training.detection.loss")
rtmdet: Any = importlib.import_module("model_store.training.rtmdet")

GRID = boxes.cells(96, 96)  # 12 x 12, 6 x 6 and 3 x 3 cells
NOBODY = torch.zeros(0, 4)


def cell(x: float, y: float, stride: int) -> int:
    """The cell whose middle is there; its point is its corner."""
    [[found]] = (torch.tensor([x - stride / 2, y - stride / 2, stride]) == GRID).all(1).nonzero().tolist()
    return int(found)


def answers() -> Any:
    """(cells, 5): every cell answers a box of 2 x 2 pixels about its point, with a logit of -4."""
    small = torch.cat([GRID[:, :2] - 1, GRID[:, :2] + 1], 1)
    return torch.cat([torch.full((len(GRID), 1), -4.0), small], 1)


def match(answer: Any, *people: list[float]) -> list[tuple[int, int]]:
    found = assignment.assign(answer[:, 0], answer[:, 1:], torch.tensor(people), GRID)
    return list(zip(found.cells.tolist(), found.people.tolist(), strict=True))


def test_the_one_cell_that_answers_well_gets_the_person() -> None:
    answer, person = answers(), [20.0, 20.0, 60.0, 76.0]
    good = cell(40, 40, 16)
    answer[good, 1:] = torch.tensor(person)
    assert match(answer, person) == [(good, 0)]


def test_as_many_cells_as_the_overlaps_sum_up_to() -> None:
    answer, person = answers(), [20.0, 20.0, 60.0, 76.0]
    good = [cell(40, 40, 16), cell(40, 56, 16), cell(36, 44, 8)]
    answer[good, 1:] = torch.tensor(person)
    assert match(answer, person) == [(c, 0) for c in sorted(good)]


def test_never_more_than_ten() -> None:
    answer, person = answers(), [0.0, 0.0, 96.0, 96.0]
    answer[:, 1:] = torch.tensor(person)
    assert len(match(answer, person)) == assignment.MOST == 10


def test_of_two_equal_boxes_the_better_score_is_taken() -> None:
    answer, person = answers(), [20.0, 20.0, 60.0, 76.0]
    one, other = cell(40, 40, 16), cell(40, 56, 16)
    answer[[one, other], 1:] = torch.tensor([20.0, 20.0, 60.0, 46.0])  # both overlap by less than a half
    answer[other, 0] = 2.0
    assert match(answer, person) == [(other, 0)]


def test_a_cell_far_from_the_person_never_gets_it() -> None:
    answer, person = answers(), [4.0, 4.0, 28.0, 28.0]
    far = cell(92, 92, 8)
    answer[far, 0], answer[far, 1:] = 9.0, torch.tensor(person)
    found = match(answer, person)
    assert far not in [c for c, _ in found]
    assert len(found) == 1


def test_a_cell_that_two_claim_goes_to_the_nearer_box() -> None:
    answer, left, right = answers(), [16.0, 16.0, 56.0, 72.0], [20.0, 16.0, 60.0, 72.0]
    shared = cell(40, 40, 16)
    answer[shared, 1:] = torch.tensor(right)
    found = match(answer, left, right)
    assert (shared, 1) in found
    assert len({c for c, _ in found}) == len(found)


def test_people_side_by_side_keep_their_own() -> None:
    answer, left, right = answers(), [4.0, 16.0, 36.0, 80.0], [60.0, 16.0, 92.0, 80.0]
    a, b = cell(24, 40, 16), cell(72, 56, 16)
    answer[a, 1:], answer[b, 1:] = torch.tensor(left), torch.tensor(right)
    assert match(answer, left, right) == sorted([(a, 0), (b, 1)])


def test_a_person_outside_of_the_image_gets_none() -> None:
    assert match(answers(), [400.0, 400.0, 440.0, 480.0]) == []


def test_the_loss_of_an_image_without_people_is_of_its_scores_alone() -> None:
    answer = answers()[None]
    found = loss.detector_loss(answer, [NOBODY], GRID)
    assert (found.matches, found.boxes.item()) == (0, 0.0)
    torch.testing.assert_close(found.total, torch.nn.functional.softplus(answer[..., 0]).sum())


def test_scores_are_trained_towards_the_overlap() -> None:
    person = torch.tensor([[20.0, 20.0, 60.0, 76.0]])
    good = cell(40, 40, 16)
    answer = answers()[None].repeat(2, 1, 1)
    answer[0, good, 1:] = torch.tensor([20.0, 20.0, 60.0, 48.0])  # half of it
    answer[1, good, 1:] = person[0]
    answer[:, :, 0] = 0.0
    answer.requires_grad_()
    found = loss.detector_loss(answer, [person, person], GRID)
    found.scores.backward()
    assert found.matches == 2
    # Of a sigmoid's cross-entropy: the score, 0.5, less its target, over the matches.
    torch.testing.assert_close(answer.grad[:, good, 0], torch.tensor([0.0, -0.25]), atol=1e-6, rtol=0)
    assert (answer.grad[:, cell(92, 92, 8), 0] == 0.25).all()


def test_a_perfect_box_costs_nothing_and_another_is_pulled_towards_the_person() -> None:
    person = torch.tensor([[20.0, 20.0, 60.0, 76.0]])
    good = cell(40, 40, 16)
    answer = answers()[None]
    answer[0, good, 1:] = person[0]
    assert loss.detector_loss(answer, [person], GRID).boxes < 1e-6
    answer[0, good, 1:] += torch.tensor([4.0, 0.0, 4.0, 0.0])  # too far to the right
    answer.requires_grad_()
    loss.detector_loss(answer, [person], GRID).boxes.backward()
    assert answer.grad[0, good, 1] > 0  # going against the gradient moves the box to the left
    assert answer.grad[0, good, 3] > 0


def test_the_network_learns_a_toy_batch() -> None:
    torch.manual_seed(0)
    detector = rtmdet.build("rtmdet-nano-lean")
    images = torch.full((2, 3, 96, 96), -1.0)
    images[0, :, 20:76, 20:60] = 2.0
    people = [torch.tensor([[20.0, 20.0, 60.0, 76.0]]), NOBODY]
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-2)
    losses = []
    for _ in range(16):
        found = loss.detector_loss(boxes.decode(detector(images), GRID), people, GRID)
        optimizer.zero_grad()
        found.total.backward()
        optimizer.step()
        losses.append(found.total.item())
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
