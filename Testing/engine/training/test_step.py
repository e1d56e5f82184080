"""One training step: no waiting for the device, each module a switch of its own, parity with a plain mean teacher."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from semicardiac.config import TrainConfig
from semicardiac.data import augment
from semicardiac.data.batches import Batch
from semicardiac.methods import losses, threshold_map
from semicardiac.methods.method import Taught
from semicardiac.models.networks import build_network
from semicardiac.training.step import Learner, Moment, see, train_step
from torch import nn

from Testing.engine.networks import CPU, STILL, new_batch, new_learner, same_weights, tiny_config, waits, weights_of

OFF = {"dptm": False, "rem": False, "contrast": False}
SUPERVISED, UNSUPERVISED, CONTRAST = "loss_supervised", "loss_unsupervised", "loss_contrast"


def one_step(config: TrainConfig, *, chunks: int = 1, ramp: float = 0.8, semi: bool = True):
    """A first step with the same weights, slices and views every time; gives the learner and the log."""
    learner = begun(config)
    learner.chunks = chunks
    labeled = new_batch(config, 4, 1, labeled=True)
    unlabeled = new_batch(config, 4, 2, labeled=False) if semi else None
    log = train_step(learner, config, CPU, labeled, unlabeled, Moment(ramp))
    return learner, log


def begun(config: TrainConfig, alpha: float = 0.9) -> Learner:
    """A learner whose unlabeled slices have come into play."""
    learner = new_learner(config)
    learner.method.alpha = alpha
    return learner


def taught(learner: Learner, config: TrainConfig, batch: Batch) -> Taught:
    """What the teacher says of a batch."""
    step = see(learner, config, CPU, new_batch(config, 2, 1, labeled=True), batch, Moment(1.0))
    with torch.no_grad():
        return learner.method.teach(step)


class TestNothingWaits:
    @pytest.mark.parametrize(
        "offence",
        [
            lambda x: x.sum().item(), lambda x: float(x[0]), lambda x: bool(x[0] > 0), lambda x: x[x > 0],
            lambda x: x.nonzero(), lambda x: x.tolist(), lambda x: x.cpu(), lambda x: x.numpy(),
            lambda x: torch.masked_select(x, x > 0), lambda x: nn.functional.one_hot(x.long().abs(), 3),
        ],
    )  # fmt: skip
    def test_the_spy_sees_what_it_should(self, offence):
        with waits() as found:
            offence(torch.tensor([1.0, -2.0]))
        assert found

    @pytest.mark.parametrize(
        "loss",
        [
            {},
            {"dptm": False},
            {"rem": False},
            {"contrast": False},
            OFF,
            {"contrast_key": "student"},
            {"gamma": "binary"},
            {"supervised": "ce"},
        ],
        ids=lambda loss: "_".join(loss) or "default",
    )
    @pytest.mark.parametrize("chunks", [1, 2])
    def test_no_configuration_of_the_step_waits_for_the_device(self, loss: dict, chunks: int):
        config = tiny_config(method=loss)
        learner = begun(config)
        learner.chunks = chunks
        labeled, unlabeled = new_batch(config, 4, 1, labeled=True), new_batch(config, 4, 2, labeled=False)
        with waits() as found:
            train_step(learner, config, CPU, labeled, unlabeled, Moment(0.8))
            train_step(learner, config, CPU, labeled, None, Moment())
        assert found == []

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
    def test_on_a_gpu_no_synchronisation_is_seen_by_cuda_itself(self):
        config = tiny_config()
        plan = CPU.model_copy(update={"device": "cuda", "dtype": "bfloat16"})
        learner = begun(config)
        learner.student.to("cuda")
        learner.teacher.network.to("cuda")
        learner.method.to("cuda")
        batches = [new_batch(config, 4, seed, labeled=labeled) for seed, labeled in ((1, True), (2, False))]
        labeled, unlabeled = (
            batch._replace(
                image=batch.image.cuda(), label=None if batch.label is None else batch.label.cuda(),
                offset=batch.offset.cuda(), views=(batch.views[0].to(torch.device("cuda")),),
            )
            for batch in batches
        )  # fmt: skip
        train_step(learner, config, plan, labeled, unlabeled, Moment(0.8))  # the first one may set things up
        torch.cuda.set_sync_debug_mode("error")
        try:
            train_step(learner, config, plan, labeled, unlabeled, Moment(0.8))
        finally:
            torch.cuda.set_sync_debug_mode("default")


class TestParity:
    """With everything off, the step is the plain supervised mean teacher that anyone would write."""

    @pytest.mark.parametrize("clip_norm", [None, 0.5])
    def test_weights_equal_those_of_a_plain_loop(self, clip_norm: float | None):
        config = tiny_config(method=OFF, optim={"clip_norm": clip_norm, "ema": 0.6})
        learner = begun(config)
        torch.manual_seed(0)
        student = build_network(config.network, 4).train()
        teacher = copy.deepcopy(student)
        optimizer = torch.optim.SGD(student.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
        for step in range(1, 5):
            labeled, unlabeled = (
                new_batch(config, 3, step, labeled=True),
                new_batch(config, 2, 50 + step, labeled=False),
            )
            train_step(learner, config, CPU, labeled, unlabeled, Moment(0.0))

            grid = augment.grid_of(labeled.views[0], 32)
            image = augment.warp(labeled.image, grid, crop=32, offset=labeled.offset, outside="border")
            image = augment.recolor(image, labeled.views[0], (-3.0, 4.0))
            label = augment.warp(labeled.label, grid, crop=32, offset=labeled.offset, mode="nearest")[:, 0].long()
            optimizer.zero_grad()
            loss = losses.supervised(student(image)[0], label)
            loss.backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(student.parameters(), clip_norm)
            optimizer.step()
            beta = min(0.6, (step + 1) / (step + 10))
            with torch.no_grad():
                for average, parameter in zip(teacher.parameters(), student.parameters(), strict=True):
                    average.copy_(beta * average + (1 - beta) * parameter)
        for ours, plain in ((learner.student, student), (learner.teacher.network, teacher)):
            for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        assert learner.step == 4

    def test_a_step_of_the_warm_up_leaves_the_map_alone_and_has_no_unlabeled_terms(self):
        learner, log = one_step(tiny_config(), semi=False)
        assert log.keys() == {"loss", SUPERVISED}
        assert log["loss"] == log[SUPERVISED]
        assert learner.method.threshold.eq(0.25).all()


class TestModules:
    def test_the_loss_is_the_weighted_sum_of_its_parts(self):
        _, log = one_step(tiny_config(method={"lambda_c": 0.3, "lambda_u": 1.4}), ramp=0.5)
        parts = [float(log[name]) for name in (SUPERVISED, UNSUPERVISED, CONTRAST)]
        assert min(parts) > 0
        assert log["loss"].item() == pytest.approx(parts[0] + 0.7 * parts[1] + 0.3 * parts[2], rel=1e-5)

    @pytest.mark.parametrize(
        ("module", "changes"), [("dptm", UNSUPERVISED), ("rem", UNSUPERVISED), ("contrast", CONTRAST)]
    )
    def test_each_can_be_off_alone_and_changes_its_own_term_only(self, module: str, changes: int):
        # A fixed threshold between the confidences, so that the two gates differ.
        base, base_log = one_step(tiny_config(method={"fixed_threshold": 0.4}))
        less, less_log = one_step(tiny_config(method={"fixed_threshold": 0.4, module: False}))
        for term in (SUPERVISED, UNSUPERVISED, CONTRAST):
            assert (base_log[term] == less_log.get(term)) == (term != changes), term
        assert not same_weights(weights_of(base.student), weights_of(less.student))
        same_map = torch.equal(base.method.threshold, less.method.threshold)
        assert same_map == (module != "dptm")

    def test_without_dptm_the_map_never_moves(self):
        learner, _ = one_step(tiny_config(method={"dptm": False}))
        assert learner.method.threshold.eq(0.25).all()
        assert learner.method.ratio.eq(1).all()

    def test_without_contrast_there_is_no_such_term(self):
        _, log = one_step(tiny_config(method={"contrast": False}))
        assert CONTRAST not in log

    @pytest.mark.parametrize("rem", [True, False])
    def test_a_gate_that_is_shut_stops_the_unlabeled_loss(self, rem: bool):
        _, log = one_step(tiny_config(method={"dptm": False, "fixed_threshold": 1.0, "rem": rem}))
        assert log[UNSUPERVISED] == 0
        assert log["passed"].eq(0).all()

    def test_lambda_u_of_zero_leaves_the_student_to_the_labels(self):
        config = tiny_config(method={"contrast": False})
        with_pool, _ = one_step(config, ramp=0.0)
        without, _ = one_step(config, semi=False)
        for a, b in zip(with_pool.student.parameters(), without.student.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)

    def test_the_key_of_the_student_gets_a_gradient_and_that_of_the_teacher_does_not(self):
        weights = [
            weights_of(one_step(tiny_config(method={"contrast_key": key}))[0].student) for key in ("teacher", "student")
        ]
        assert not same_weights(*weights)
        learner, log = one_step(tiny_config(method={"contrast_key": "student"}))
        assert math.isfinite(log[CONTRAST])
        assert all(parameter.grad is None for parameter in learner.teacher.network.parameters())


class TestTeaching:
    def test_only_clean_images_move_the_map(self):
        config = tiny_config()
        batch = new_batch(config, 4, 2, labeled=False)
        other = batch._replace(views=(augment.draw(config.augment, 4, torch.Generator().manual_seed(99)),))
        states = [taught(begun(config, 0.5), config, each).state for each in (batch, other)]
        torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)

    def test_the_map_lies_in_the_frame_of_the_crop_wherever_that_lies_in_the_square(self):
        config = tiny_config(method={"class_floor": 4}, augment=STILL.model_dump())
        learner = begun(config, 0.5)
        batch = new_batch(config, 4, 2, labeled=False)
        found = taught(learner, config, batch)
        crops = torch.stack([
            image[:, 8 + row : 40 + row, 8 + col : 40 + col]
            for image, (row, col) in zip(batch.image, batch.offset.int().tolist(), strict=True)
        ])  # fmt: skip
        with torch.no_grad():
            probability = learner.teacher.network(crops)[0].softmax(1)
        expected = threshold_map.update(threshold_map.initial_state(4, (32, 32)), probability, 0.5, 4)
        torch.testing.assert_close(found.state["threshold"], expected.threshold, atol=1e-4, rtol=1e-3)
        # The gate asks the map with this batch already in it (Eq. 6 stands before Eq. 10).
        gated = threshold_map.gate(expected, probability, 0.0)
        assert (found.target["pseudo"] == gated.label).float().mean() > 0.999
        assert (found.target["gamma"] - gated.gamma).abs().gt(1e-3).float().mean() < 0.01

    @pytest.mark.parametrize("dptm", [True, False])
    def test_a_pseudo_label_has_to_exceed_the_least_threshold_too(self, dptm: bool):
        name = "threshold_floor" if dptm else "fixed_threshold"
        config = tiny_config(method={"dptm": dptm, name: 0.4}, augment=STILL.model_dump())
        learner, batch = begun(config, 0.5), new_batch(config, 4, 2, labeled=False)
        gamma = taught(learner, config, batch).target["gamma"]
        with torch.no_grad():
            clean = augment.clean_crops(batch.image, batch.offset, 32)
            confidence = learner.teacher.network(clean)[0].softmax(1).amax(1)
        assert gamma[gamma > 0].min() > 0.4 - 1e-3
        assert (gamma > 0).any()
        assert confidence.min() < 0.4
        assert gamma[confidence < 0.4 - 1e-3].eq(0).all()

    def test_the_map_is_carried_from_step_to_step(self):
        config = tiny_config()
        learner, labeled = begun(config, 0.8), new_batch(config, 2, 1, labeled=True)
        state = threshold_map.initial_state(4, (32, 32))
        for seed in range(3):
            unlabeled = new_batch(config, 3, 10 + seed, labeled=False)
            clean = augment.clean_crops(unlabeled.image, unlabeled.offset, 32)
            with torch.no_grad():
                probability = learner.teacher.network(clean)[0].softmax(1)
            state = threshold_map.update(state, probability, 0.8, config.method.class_floor)
            train_step(learner, config, CPU, labeled, unlabeled, Moment(0.5))
            torch.testing.assert_close(learner.method.state, state)

    def test_a_teacher_that_is_not_finite_stays_out_of_the_map(self):
        config = tiny_config()
        learner = begun(config, 0.5)
        with torch.no_grad():
            next(iter(learner.teacher.network.parameters())).fill_(math.nan)
        state = taught(learner, config, new_batch(config, 2, 1, labeled=False)).state
        assert state["threshold"].eq(0.25).all()
        assert state["ratio"].eq(1).all()

    def test_the_student_learns_what_the_teacher_says_of_the_same_place(self):
        """With L_u written anew: pseudo-label and γ of the teacher's crop, warped with the student's own grid."""
        config = tiny_config(
            method={"contrast": False}, augment=STILL.model_dump() | {"rotation": 60, "shift": 0.2, "flip": 0.5}
        )
        learner = begun(config)
        labeled, unlabeled = new_batch(config, 2, 1, labeled=True), new_batch(config, 3, 2, labeled=False)
        with torch.no_grad():
            clean = augment.clean_crops(unlabeled.image, unlabeled.offset, 32)
            probability = learner.teacher.network(clean)[0].softmax(1)
        state = threshold_map.update(learner.method.state, probability, 0.9, config.method.class_floor)
        gated = threshold_map.gate(state, probability, 0.0)
        grid = augment.grid_of(unlabeled.views[0], 32)
        label = augment.warp(gated.label.unsqueeze(1).float(), grid, crop=32, mode="nearest")[:, 0].long()
        gamma = augment.warp(gated.gamma.unsqueeze(1), grid, crop=32)[:, 0]
        assert gamma.eq(0).any()  # where the view looks beyond the crop
        seen = augment.warp(unlabeled.image, grid, crop=32, offset=unlabeled.offset, outside="border")
        logits = learner.student(augment.recolor(seen, unlabeled.views[0], (-3.0, 4.0)))[0]
        log_q = logits.log_softmax(1).gather(1, label.unsqueeze(1))[:, 0]
        expected = -(gamma * log_q).mean()
        log = train_step(learner, config, CPU, labeled, unlabeled, Moment(1.0))
        assert log[UNSUPERVISED].item() == pytest.approx(expected.item(), rel=1e-4)

    def test_the_pixels_that_pass_are_counted_by_class(self):
        config = tiny_config(method={"dptm": False, "fixed_threshold": 0.4})
        learner = begun(config)
        labeled, unlabeled = new_batch(config, 2, 1, labeled=True), new_batch(config, 3, 2, labeled=False)
        with torch.no_grad():
            clean = augment.clean_crops(unlabeled.image, unlabeled.offset, 32)
            confidence, label = learner.teacher.network(clean)[0].softmax(1).max(1)
        log = train_step(learner, config, CPU, labeled, unlabeled, Moment(1.0))
        own = [int((label == c).sum()) for c in range(4)]
        passed = [int(((label == c) & (confidence > 0.4)).sum()) for c in range(4)]
        assert log["own"].tolist() == own
        assert log["passed"].tolist() == passed
        assert 0 < sum(passed) < sum(own) == 3 * 32 * 32


class TestChunks:
    @pytest.mark.parametrize("chunks", [2, 4])
    def test_a_batch_in_parts_gives_the_same_update(self, chunks: int):
        # Noise is drawn anew for each part, and the soft Dice is one of the whole batch: both are left out here.
        config = tiny_config(method={"contrast": False, "supervised": "ce"}, augment={"noise": 0.0})
        (whole, whole_log), (parts, parts_log) = one_step(config), one_step(config, chunks=chunks)
        torch.testing.assert_close(parts_log, whole_log, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(parts.method.state, whole.method.state)
        for a, b in zip(whole.student.parameters(), parts.student.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)

    def test_with_all_modules_it_is_finite_and_near(self):
        (_, whole), (_, parts) = one_step(tiny_config()), one_step(tiny_config(), chunks=2)
        assert all(math.isfinite(parts[name]) for name in ("loss", SUPERVISED, UNSUPERVISED, CONTRAST))
        for name in ("loss", SUPERVISED, UNSUPERVISED):
            torch.testing.assert_close(parts[name], whole[name], rtol=0.2, atol=0.05)

    def test_a_part_without_labeled_slices_is_no_trouble(self):
        """More parts than labeled slices, and in the warm-up more parts than slices at all."""
        config = tiny_config()
        learner = begun(config)
        learner.chunks = 4
        labeled, unlabeled = new_batch(config, 2, 1, labeled=True), new_batch(config, 4, 2, labeled=False)
        for batch in (unlabeled, None):
            log = train_step(learner, config, CPU, labeled, batch, Moment(0.5))
            assert math.isfinite(log["loss"])


def state_of(learner: Learner) -> dict[str, torch.Tensor]:
    """A copy of everything that a step changes, but for gradients."""
    momentum = [state["momentum_buffer"] for state in learner.optimizer.state.values() if state]
    values = {f"student.{name}": value for name, value in weights_of(learner.student).items()}
    values |= {f"teacher.{name}": value for name, value in weights_of(learner.teacher.network).items()}
    values |= {f"momentum.{at}": value.clone() for at, value in enumerate(momentum)}
    values |= {f"method.{name}": value.clone() for name, value in learner.method.named_buffers()}
    return values | {"step": torch.tensor(learner.step)}


class Exhausted(nn.Module):
    """A network that runs out of memory at a call of its choice."""

    def __init__(self, network: nn.Module, call: int) -> None:
        super().__init__()
        self.network, self.left = network, call

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.left -= 1
        if self.left == 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.network(image)


class TestOutOfMemory:
    @pytest.mark.parametrize("where", ["teacher", "first part", "second part"])
    def test_the_learner_is_as_it_was_and_can_go_on(self, where: str):
        config = tiny_config(method={"contrast": False})
        learner = begun(config)
        learner.chunks = 2
        labeled, unlabeled = new_batch(config, 4, 1, labeled=True), new_batch(config, 4, 2, labeled=False)
        train_step(learner, config, CPU, labeled, unlabeled, Moment(0.5))
        twin = copy.deepcopy(learner)
        before = state_of(learner)
        student, teacher = learner.student, learner.teacher.network
        if where == "teacher":
            learner.teacher.network = Exhausted(teacher, 1)
        else:
            learner.student = Exhausted(student, 1 if where == "first part" else 2)
        with pytest.raises(torch.OutOfMemoryError):
            train_step(learner, config, CPU, labeled, unlabeled, Moment(0.5))
        learner.student, learner.teacher.network = student, teacher
        assert same_weights(before, state_of(learner))
        for each in (learner, twin):
            train_step(each, config, CPU, labeled, unlabeled, Moment(0.5))
        assert same_weights(state_of(twin), state_of(learner))


def test_bfloat16_computes_nearly_the_same():
    plan = CPU.model_copy(update={"dtype": "bfloat16"})
    config = tiny_config()
    logs = []
    for each in (CPU, plan):
        learner = begun(config)
        labeled, unlabeled = new_batch(config, 4, 1, labeled=True), new_batch(config, 4, 2, labeled=False)
        logs.append(train_step(learner, config, each, labeled, unlabeled, Moment(0.8)))
        assert learner.method.threshold.dtype == torch.float32
        assert all(parameter.dtype == torch.float32 for parameter in learner.student.parameters())
    for name in ("loss", SUPERVISED, UNSUPERVISED, CONTRAST):
        torch.testing.assert_close(logs[1][name], logs[0][name], rtol=0.05, atol=0.02)
