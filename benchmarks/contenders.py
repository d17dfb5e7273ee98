"""The same training written as people would write it, and as this project does.

Every contender trains the network of the report by Adam on images of Fashion-MNIST. All start from the same weights
and see the images in the same order, so that all must arrive at the same accuracy. Each is used as its own
documentation shows it.
"""

import copy
import os

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from fast.step import TrainingStep, keep_freed_memory
from model import Stem
from my_utils import Batches, evaluate_accuracy, train_epoch

LEARNING_RATE = 0.001
WORKERS = 2  # of the DataLoaders


class Contender:
    """One way to train.

    Args:
        start: the network to start from, a `model.Net`.
        batch_size: images a batch.
    """

    def __init__(self, start, batch_size):
        self.start = start
        self.batch_norm = isinstance(start.norm, nn.BatchNorm1d)
        self.batch_size = batch_size

    def fit(self, images, labels, num_epochs):
        """Train from the start.

        Args:
            images: bytes (n, 28, 28), in the order in which every epoch sees them.
            labels: bytes (n,).
        """
        raise NotImplementedError

    def accuracy(self, images, labels):
        """Return the fraction of images that are recognised after the last `fit`."""
        raise NotImplementedError


# PyTorch


class PatchLoopStem(Stem):
    """The stem as the report writes it: a loop over the images, which cuts each into a tensor made beforehand."""

    def patches(self, X):
        K = self.patch_dims
        patches = torch.zeros(len(X), (self.image_dims // K) ** 2, K * K)
        for i, image in enumerate(X):
            patches[i] = image[0].unfold(0, K, K).unfold(1, K, K).reshape(-1, K * K)
        return patches


class ImageDataset(Dataset):
    """Images handed out as torchvision's data sets do it: one by one, by way of PIL and `ToTensor`."""

    def __init__(self, images, labels):
        from torchvision.transforms import ToTensor

        self.images, self.labels, self.transform = images, labels, ToTensor()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.images[index].numpy())), int(self.labels[index])


def data_loader(images, labels, batch_size):
    return DataLoader(ImageDataset(images, labels), batch_size, num_workers=WORKERS)


class Vectorised(Contender):
    """The usual loop of "Dive into Deep Learning": `Net`, a `DataLoader` with two workers, the default threads."""

    def fit(self, images, labels, num_epochs):
        self.net = copy.deepcopy(self.start)
        optimizer = torch.optim.Adam(self.net.parameters(), lr=LEARNING_RATE)
        loss = nn.CrossEntropyLoss()
        self.net.train()
        for _ in range(num_epochs):
            for X, y in data_loader(images, labels, self.batch_size):
                optimizer.zero_grad()
                loss(self.net(X), y).backward()
                optimizer.step()

    def accuracy(self, images, labels):
        return evaluate_accuracy(self.net, Batches(images, labels, self.batch_size, "cpu"))


class Literal(Vectorised):
    """The report's own code: the same with a loop over the images in the stem."""

    def __init__(self, start, batch_size):
        start.stem.__class__ = PatchLoopStem
        super().__init__(start, batch_size)


class Lightning(Vectorised):
    """PyTorch Lightning, without its logger and its checkpoints."""

    def fit(self, images, labels, num_epochs):
        import lightning

        class Module(lightning.LightningModule):
            def __init__(self, net):
                super().__init__()
                self.net = net
                self.loss = nn.CrossEntropyLoss()

            def training_step(self, batch, _):
                X, y = batch
                return self.loss(self.net(X), y)

            def configure_optimizers(self):
                return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)

        self.net = copy.deepcopy(self.start)
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=num_epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Module(self.net), data_loader(images, labels, self.batch_size))


# JAX


def scaled(images):
    return (images.numpy() / 255).astype(np.float32)[..., None]  # (n, 28, 28, 1)


class Jax(Contender):
    """JAX with one compiled step, Adam from Optax, the images in memory."""

    def __init__(self, start, batch_size):
        super().__init__(start, batch_size)
        import jax
        import optax
        from jax import numpy as jnp

        batch_norm = self.batch_norm
        adam = optax.adam(LEARNING_RATE)

        def linear(parameters, name, X):
            return X @ parameters[f"{name}.weight"].T + parameters[f"{name}.bias"]

        def normalize(parameters, running, name, X, training):
            if not batch_norm:
                return X, {}
            if training:
                mean, var = X.mean((0, 2)), X.var((0, 2))
                unbiased = var * (X[:, 0].size / (X[:, 0].size - 1))
                updates = {
                    f"{name}.running_mean": 0.9 * running[f"{name}.running_mean"] + 0.1 * mean,
                    f"{name}.running_var": 0.9 * running[f"{name}.running_var"] + 0.1 * unbiased,
                }
            else:
                mean, var, updates = running[f"{name}.running_mean"], running[f"{name}.running_var"], {}
            scale = parameters[f"{name}.weight"] * jax.lax.rsqrt(var + 1e-5)
            return (X - mean[:, None]) * scale[:, None] + parameters[f"{name}.bias"][:, None], updates

        names = {  # layers of an MLP as `Net` numbers them, without and with batch normalisation
            False: {"mlp1": ("1", None, "3", None), "mlp2": ("0", None, "2", None)},
            True: {"mlp1": ("1", "2", "4", "5"), "mlp2": ("0", "1", "3", "4")},
        }[batch_norm]

        def forward(parameters, running, X, training):
            updates = {}

            def norm(name, X):
                X, update = normalize(parameters, running, name, X, training)
                updates.update(update)
                return X

            def mlp(which, X):
                linear_in, norm_in, linear_out, norm_out = (f"backbone.{which}.{i}" for i in names[which])
                hidden = jax.nn.relu(norm(norm_in, linear(parameters, linear_in, X)))
                return norm(norm_out, linear(parameters, linear_out, hidden))

            patches = X.reshape(-1, 2, 14, 2, 14).transpose(0, 1, 3, 2, 4).reshape(-1, 4, 196)
            S = norm("norm", linear(parameters, "stem.linear", patches))
            O1 = mlp("mlp1", S.transpose(0, 2, 1)).transpose(0, 2, 1)
            return linear(parameters, "classifier.linear", mlp("mlp2", O1).mean(1)), {**running, **updates}

        def loss(parameters, running, X, y):
            scores, running = forward(parameters, running, X, training=True)
            return optax.softmax_cross_entropy_with_integer_labels(scores, y).mean(), running

        @jax.jit
        def step(parameters, running, state, X, y):
            gradients, running = jax.grad(loss, has_aux=True)(parameters, running, X, y)
            updates, state = adam.update(gradients, state)
            return optax.apply_updates(parameters, updates), running, state

        @jax.jit
        def share_correct(parameters, running, X, y):
            return (forward(parameters, running, X, training=False)[0].argmax(1) == y).mean()

        self.step, self.share_correct, self.adam = step, share_correct, adam
        self.parameters = {name: jnp.asarray(value.detach().numpy()) for name, value in start.named_parameters()}
        self.running = {name: jnp.asarray(value.numpy()) for name, value in start.named_buffers() if value.dim()}

    def fit(self, images, labels, num_epochs):
        X, y = scaled(images), labels.numpy().astype(np.int32)
        self.trained = self.parameters, self.running, self.adam.init(self.parameters)
        for _ in range(num_epochs):
            for start in range(0, len(X), self.batch_size):
                batch = slice(start, start + self.batch_size)
                self.trained = self.step(*self.trained, X[batch], y[batch])
        self.trained[0]["stem.linear.bias"].block_until_ready()

    def accuracy(self, images, labels):
        parameters, running, _ = self.trained
        return float(self.share_correct(parameters, running, scaled(images), labels.numpy().astype(np.int32)))


# Keras


class Keras(Contender):
    """Keras 3 on JAX, its quicker backend on a CPU: a functional model, compiled, and `fit`."""

    def __init__(self, start, batch_size):
        super().__init__(start, batch_size)
        os.environ["KERAS_BACKEND"] = "jax"
        import keras
        from keras import layers

        batch_norm = self.batch_norm

        def norm(X):
            return layers.BatchNormalization(axis=1, momentum=0.9, epsilon=1e-5)(X) if batch_norm else X

        def mlp(X, num_hidden, num_outputs):
            X = layers.ReLU()(norm(layers.Dense(num_hidden)(X)))
            return norm(layers.Dense(num_outputs)(X))

        images = layers.Input((28, 28, 1))
        X = layers.Reshape((2, 14, 2, 14))(images)
        X = layers.Reshape((4, 196))(layers.Permute((1, 3, 2, 4))(X))
        X = norm(layers.Dense(256)(X))
        X = layers.Permute((2, 1))(mlp(layers.Permute((2, 1))(X), 128, 64))
        X = mlp(X, 32, 16)
        scores = layers.Dense(10)(layers.GlobalAveragePooling1D()(X))
        self.model = keras.Model(images, scores)
        self.model.compile(
            optimizer=keras.optimizers.Adam(LEARNING_RATE, epsilon=1e-8),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )

    def weights(self):
        """List the start's arrays in the order of Keras: layer by layer, linear weights as (inputs, outputs)."""
        for module in self.start.modules():
            if isinstance(module, nn.Linear):
                yield from (module.weight.detach().t().numpy(), module.bias.detach().numpy())
            elif isinstance(module, nn.BatchNorm1d):
                tensors = (module.weight, module.bias, module.running_mean, module.running_var)
                yield from (tensor.detach().numpy() for tensor in tensors)

    def fit(self, images, labels, num_epochs):
        self.model.set_weights(list(self.weights()))
        self.model.optimizer.build(self.model.trainable_variables)
        for variable in self.model.optimizer.variables:
            if variable is not self.model.optimizer._learning_rate:
                variable.assign(np.zeros(variable.shape))
        self.model.fit(
            scaled(images), labels.numpy(), batch_size=self.batch_size, epochs=num_epochs, shuffle=False, verbose=0
        )

    def accuracy(self, images, labels):
        return self.model.evaluate(scaled(images), labels.numpy(), verbose=0, return_dict=True)["accuracy"]


# This project


class Ours(Vectorised):
    """As the notebooks train: `my_utils.train_epoch` on images in memory."""

    def fit(self, images, labels, num_epochs):
        keep_freed_memory()
        self.net = copy.deepcopy(self.start)
        optimizer = torch.optim.Adam(self.net.parameters(), lr=LEARNING_RATE, fused=True)
        step = TrainingStep(self.net, nn.CrossEntropyLoss(), optimizer)
        for _ in range(num_epochs):
            train_epoch(step, Batches(images, labels, self.batch_size, "cpu"))


CONTENDERS = {
    "literal": Literal,
    "vectorised": Vectorised,
    "lightning": Lightning,
    "jax": Jax,
    "keras": Keras,
    "ours": Ours,
}
