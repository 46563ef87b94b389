"""The training loop: turns batches into updates, and raises events when saves, samples and logs are due."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from library.console import progress
from library.training.step.course import Course
from library.training.step.guard import Guard, WentBack
from library.training.step.late_reports import LateReports
from library.training.step.loop_events import Events
from library.training.step.update import Gradients, Weights


@dataclass(frozen=True)
class Loop:
    """Trains until the plan is done, `events` end the run, or a stop is requested; all processes end after the same update."""

    course: Course
    gradients: Gradients
    weights: Weights
    guard: Guard
    events: Events

    def run(self) -> bool:
        """Train; returns whether the run reached its end, and was not stopped before."""
        course, plan, state, requests = self.course, self.course.plan, self.course.state, self.course.requests
        with contextlib.closing(progress(total=plan.updates, initial=state.step, label="updates", unit="update")) as bar:
            self.events.before_training()
            reports = LateReports(course, self.guard, self.events, bar)
            self.gradients.task.train()
            self.guard.begin()
            while (epoch := state.epoch) < plan.epochs:
                try:
                    self._train_epoch(epoch, reports)
                except WentBack:  # possibly in another epoch
                    requests.stopping = False
                    reports.start_over()
                    self.events.went_back(state.step)
                    continue
                whole = course.epoch_is_whole()
                if self.events.enough() and not whole:
                    return True
                if requests.stopping and not self._is_through():
                    return False  # also at an epoch's end: the resumed run does what is due there
                if whole:
                    course.close_epoch()
                self.events.after_epoch(epoch + 1, state.step)
                reports.clock.mark("other")
                if self._is_through():
                    return True
            return True

    def _train_epoch(self, epoch: int, reports: LateReports) -> None:
        """Train the remaining updates of an epoch, fewer if the run ends in it. Raises WentBack if the guard goes back."""
        course, plan, state, requests = self.course, self.course.plan, self.course.state, self.course.requests
        self.weights.method.begin_epoch(epoch)
        for group in course.groups():
            if requests.must_stop():
                break
            reports.clock.mark("data")
            pending = self.gradients.accumulate(group)
            pending.send(self.weights.clip())
            refused = self.guard.refuses(pending)
            if refused:
                reports.read()
                self.weights.leave()
                self.guard.go_back(pending)
            else:
                self.weights.move(pending)
            self.weights.release_frozen()
            course.advance(len(group))
            reports.clock.mark("step")
            reports.read()  # the update before this one
            reports.put(pending, refused)
            due = requests.must_stop() or requests.saving or plan.is_save_step(state.step) or course.updates_are_done()
            if due:
                reports.read()  # this update: nothing is saved before its loss is known to be finite
            self.guard.look_at_weights(due)
            self.events.after_update(course.epochs_done(), state.step)
            if requests.saving:
                self.events.on_demand(course.epochs_done(), state.step)
                requests.saving = False
            reports.clock.mark("other")
            if requests.stopping or self._is_through():
                break
        reports.read()
        self.guard.look_at_weights(requests.must_stop() or self.events.enough() or plan.is_save_epoch(epoch + 1))

    def _is_through(self) -> bool:
        return self.course.updates_are_done() or self.events.enough()
