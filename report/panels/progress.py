"""What a panel shows of a training while it runs: how far it is, and the time that is left."""

import time

from common.formatting import minutes


class Stopped(Exception):
    """The user pressed Stop."""


class Progress:
    """How far some trainings are together: a bar that fills once, and the time that is left."""

    def __init__(self, bar, left, num_trainings):
        self.bar, self.left, self.num_trainings = bar, left, num_trainings
        self.started = self.shown = time.monotonic()
        self.number = -1  # of the training that runs, from 0

    def start(self, total):
        """Begin with the next training, whose batches cost so much together."""
        self.number, self.done, self.total = self.number + 1, 0, total

    def add(self, cost):
        self.done += cost
        now = time.monotonic()
        if now - self.shown > 0.2:  # seconds; more often would only keep the browser busy
            self.shown = now
            self.bar.value = share = (self.number + self.done / self.total) / self.num_trainings
            if now - self.started > 2:  # seconds; the first batches tell too little
                self.left.value = f"{minutes((now - self.started) * (1 - share) / share)} left"


class Watched:
    """Batches that report their passing to a `Progress`, until Stop is pressed."""

    validation_iter = None  # a panel holds no images out

    def __init__(self, batches, cost, progress, stopping):
        self.batches, self.cost, self.progress, self.stopping = batches, cost, progress, stopping

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for batch in self.batches:
            if self.stopping.is_set():
                raise Stopped
            yield batch
            self.progress.add(self.cost)
