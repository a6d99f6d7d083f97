"""Mixing, errors and meetings by their definitions, on networks of two convolutions."""

import importlib
from typing import Any

import pytest

from posewire.errors import PosewireError

torch: Any = pytest.importorskip("torch", reason="torch is for training only")
meetings: Any = importlib.import_module("model_store.training.meetings")
modules: Any = importlib.import_module("model_store.training.teachers.modules")
moments: Any = importlib.import_module("model_store.training.moments")
recipes: Any = importlib.import_module("model_store.training.recipe")

nn = torch.nn
Two: Any = importlib.import_module("tests.training.tiny").Two
IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def meet(student: Any, places: list[str], *, adapters: bool = False, teacher: Any = None) -> tuple[Any, Any]:
    """The meetings, which have looked at IMAGES, and what the teacher says of them."""
    taught = modules.ModuleTeacher(teacher or Two(seed=5), places)
    made = meetings.Meetings(student, taught, places, 8, 8, adapters=adapters)
    made.look(taught(IMAGES))
    return made, taught(IMAGES)


@pytest.mark.parametrize(("done", "share"), [(0.0, 0.2), (0.3, 0.5), (0.6, 0.8), (1.0, 0.8)])
def test_own_maps_come_in_over_the_ramp(done: float, share: float) -> None:
    assert meetings.own_share(recipes.Distillation(own=(0.2, 0.8), ramp=0.6), done) == pytest.approx(share)


def test_a_variance_is_of_each_channel_and_a_tenth_of_the_mean() -> None:
    maps = torch.stack([torch.arange(8.0).reshape(2, 2, 2), torch.zeros(2, 2, 2)], 1)
    found = meetings.variance(maps, 0.1)
    assert found.shape == (1, 2, 1, 1)
    assert found.flatten().tolist() == pytest.approx([6 + 0.3, 0.3])  # 0 to 7 have a variance of 6


def test_an_error_is_by_the_variance_of_its_channel() -> None:
    wanted = torch.zeros(1, 2, 1, 2)
    own = torch.tensor([[[[1.0, 1.0]], [[4.0, 0.0]]]])
    error = meetings.normalised_error(own, wanted, torch.tensor([1.0, 4.0])[None, :, None, None])
    assert error.item() == pytest.approx((1 + 1 + 4 + 0) / 4)


def test_an_image_has_its_own_maps_or_the_teachers() -> None:
    own, wanted = torch.ones(4000, 1, 2, 2, requires_grad=True), torch.zeros(4000, 1, 2, 2)
    found = meetings.mixed(own, wanted, 0.3, torch.Generator().manual_seed(0))
    each = found.flatten(1)
    assert ((each == each[:, :1]).all(1)).all()
    assert found.mean().item() == pytest.approx(0.3, abs=0.03)
    found.sum().backward()
    assert torch.equal(own.grad, found.detach())  # who has the teacher's map teaches nobody before it
    assert torch.equal(meetings.mixed(own, wanted, 0.0, torch.Generator()), wanted)
    assert meetings.mixed(own, wanted, 1.0, torch.Generator()) is own
    again = meetings.mixed(own, wanted, 0.3, torch.Generator().manual_seed(0))
    assert torch.equal(again, found)


def test_every_map_is_compared_where_it_is_made() -> None:
    student, teacher = Two(), Two(seed=5)
    made, taught = meet(student, ["first", "second"], teacher=teacher)
    met = made.run(student, IMAGES, taught, 1.0, 0)
    assert list(met.errors) == ["first/0", "first/1", "second"]
    assert torch.equal(met.answer[0], student(IMAGES))
    with torch.no_grad():
        own, wanted = student.first(IMAGES)[1], teacher.first(IMAGES)[1]
        expected = ((own - wanted) ** 2 / meetings.variance(wanted, meetings.FLOOR)).mean()
    assert met.errors["first/1"].item() == pytest.approx(expected.item(), rel=1e-5)
    # No hook stays behind.
    assert not student.first._forward_hooks
    assert not teacher.first._forward_hooks


def test_the_next_block_gets_the_teachers_maps() -> None:
    student, teacher = Two(), Two(seed=5)
    made, taught = meet(student, ["first"], teacher=teacher)
    met = made.run(student, IMAGES, taught, 0.0, 0)
    with torch.no_grad():
        torch.testing.assert_close(met.answer[0], student.second(torch.cat(teacher.first(IMAGES), 1)))
    met.answer[0].sum().backward()
    assert student.first.conv.weight.grad is None
    assert student.second.weight.grad.abs().sum() > 0


def test_a_student_that_is_its_teacher_has_no_error() -> None:
    made, taught = meet(Two(), ["first", "second"], teacher=Two())
    met = made.run(Two(), IMAGES, taught, 0.5, 3)
    assert max(error.item() for error in met.errors.values()) < 1e-10


def test_adapters_let_other_maps_meet_and_are_learnt_too() -> None:
    student = Two(channels=3)
    made, taught = meet(student, ["first"], adapters=True)
    assert [(a.in_channels, a.out_channels) for a in made.adapters] == [(3, 4), (3, 4)]
    met = made.run(student, IMAGES, taught, 1.0, 0)
    sum(met.errors.values()).backward()
    assert all(p.grad.abs().sum() > 0 for p in made.adapters.parameters())
    assert student.first.conv.weight.grad.abs().sum() > 0
    with pytest.raises(PosewireError, match=r"after first the student has maps of \[\(3, 8, 8\), .*the teacher of \[\(4, 8, 8\)"):
        meet(Two(channels=3), ["first"])


def test_a_teacher_without_such_a_module_is_refused() -> None:
    with pytest.raises(PosewireError, match="the teacher has no module third"):
        modules.ModuleTeacher(Two(), ["first", "third"])


def test_variances_are_kept_with_the_training() -> None:
    made, _ = meet(Two(), ["first", "second"])
    other, _ = meet(Two(), ["first", "second"], teacher=Two(seed=9))
    before = other.answer_variance().clone()
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.answer_variance(), made.answer_variance())
    assert not torch.equal(before, made.answer_variance())


def test_a_norm_begins_with_the_moments_of_the_teachers_maps() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = nn.functional.silu(torch.randn(64, 3, 8, 8, generator=generator) * torch.tensor([0.3, 1.0, 3.0])[:, None, None] + 0.5)
    norm = nn.BatchNorm2d(3)
    moments.begin_with_moments(norm, maps)
    own = nn.functional.silu(norm.train()(torch.randn(64, 3, 8, 8, generator=generator)))
    torch.testing.assert_close(own.mean((0, 2, 3)), maps.mean((0, 2, 3)), atol=0.1, rtol=0.1)
    torch.testing.assert_close(own.std((0, 2, 3)), maps.std((0, 2, 3)), atol=0.1, rtol=0.1)
