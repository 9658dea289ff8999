# SPDX-License-Identifier: MIT
"""Works a to f in NumPy, derivatives by hand, driven by works.py; its BLAS has the threads that works.py allows."""
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from steps import serve

random = np.random.default_rng(0)


def weights(fan, *shape):
    return random.uniform(-fan ** -0.5, fan ** -0.5, shape).astype(np.float32)


def logistic(x):
    return 1 / (1 + np.exp(-x))


# A layer has lists of parameters and of their gradients; backward needs what forward kept.


class Linear:
    def __init__(self, n, m):
        self.params = [weights(n, n, m), weights(n, m)]

    def forward(self, x):
        self.x = x
        return x @ self.params[0] + self.params[1]

    def backward(self, g):
        self.grads = [self.x.T @ g, g.sum(0)]
        return g @ self.params[0].T


class Sigmoid:
    params = grads = []

    def forward(self, x):
        self.y = logistic(x)
        return self.y

    def backward(self, g):
        return g * self.y * (1 - self.y)


class ReLU:
    params = grads = []

    def forward(self, x):
        self.y = np.maximum(x, 0)
        return self.y

    def backward(self, g):
        return g * (self.y > 0)


class Conv:
    """Images as rows of channels last: the products are those of matrices."""

    def __init__(self, n, m, padding=0):
        self.params, self.pad = [weights(25 * n, 25 * n, m), weights(25 * n, m)], padding

    def forward(self, x):
        p = self.pad
        x = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
        self.shape = x.shape
        windows = sliding_window_view(x, (5, 5), (1, 2))  # batch, rows, columns, channels, 5, 5
        self.columns = windows.reshape(*windows.shape[:3], -1)
        return self.columns @ self.params[0] + self.params[1]

    def backward(self, g):
        columns, flat = self.columns, g.reshape(-1, g.shape[-1])
        self.grads = [columns.reshape(len(flat), -1).T @ flat, flat.sum(0)]
        gc = (g @ self.params[0].T).reshape(*g.shape[:3], -1, 5, 5)
        gx = np.zeros(self.shape, np.float32)
        for i in range(5):
            for j in range(5):
                gx[:, i:i + g.shape[1], j:j + g.shape[2]] += gc[..., i, j]
        p = self.pad
        return gx[:, p:-p, p:-p] if p else gx


class MaxPool:
    params = grads = []

    def forward(self, x):
        b, h, w, c = x.shape
        self.x = x.reshape(b, h // 2, 2, w // 2, 2, c)
        self.y = self.x.max((2, 4), keepdims=True)
        return self.y.reshape(b, h // 2, w // 2, c)

    def backward(self, g):
        b, h, w, c = g.shape
        gx = (self.x == self.y) * g.reshape(self.y.shape)
        return gx.reshape(b, 2 * h, 2 * w, c)


class Flatten:
    params = grads = []

    def forward(self, x):
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, g):
        return g.reshape(self.shape)


class LSTM:
    """The last hidden state; the gates lie side by side: input, forget, cell, output."""

    def __init__(self, n, m):
        self.m, self.params = m, [weights(m, n, 4 * m), weights(m, m, 4 * m), weights(m, 4 * m)]

    def forward(self, x):
        m, (w, u, bias) = self.m, self.params
        h = c = np.zeros((x.shape[1], m), np.float32)
        before = x.reshape(-1, x.shape[2]) @ w + bias
        self.x, self.kept = x, []
        for z in before.reshape(len(x), -1, 4 * m):
            z = z + h @ u
            gates = logistic(z)
            gates[:, 2 * m:3 * m] = np.tanh(z[:, 2 * m:3 * m])
            i, f, g, o = np.split(gates, 4, 1)
            new = f * c + i * g
            t = np.tanh(new)
            self.kept.append((h, c, i, f, g, o, t))
            h, c = o * t, new
        return h

    def backward(self, gh):
        u, deltas, gc = self.params[1], [], 0
        gu = np.zeros_like(u)
        for h, c, i, f, g, o, t in reversed(self.kept):
            gc = gc + gh * o * (1 - t * t)
            d = np.concatenate([gc * g * i * (1 - i), gc * c * f * (1 - f), gc * i * (1 - g * g), gh * t * o * (1 - o)],
                               1)
            gu += h.T @ d
            gh, gc = d @ u.T, gc * f
            deltas.append(d)
        d = np.concatenate(deltas[::-1])
        x = self.x.reshape(-1, self.x.shape[2])
        self.grads = [x.T @ d, gu, d.sum(0)]


def squared_error(y, t):
    e = y - t
    return (e * e).mean(), e * (2 / e.size)


def cross_entropy(z, t):
    z = z - z.max(1, keepdims=True)
    e = np.exp(z)
    total = e.sum(1, keepdims=True)
    rows = np.arange(len(t))
    value = (np.log(total[:, 0]) - z[rows, t]).mean()
    g = e / total
    g[rows, t] -= 1
    return value, g / len(t)


class SGD:
    def __init__(self, lr):
        self.lr = lr

    def step(self, params, grads):
        for p, g in zip(params, grads):
            p -= self.lr * g


class Adam:
    def __init__(self, lr):
        self.lr, self.t, self.m = lr, 0, None

    def step(self, params, grads):
        if self.m is None:
            self.m, self.v = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]
        self.t += 1
        rate = self.lr * (1 - 0.999 ** self.t) ** 0.5 / (1 - 0.9 ** self.t)
        for p, g, m, v in zip(params, grads, self.m, self.v):
            m *= 0.9
            m += 0.1 * g
            v *= 0.999
            v += 0.001 * g * g
            p -= rate * m / (np.sqrt(v) + 1e-8)


def trainer(layers, loss, optimizer, x, y):
    def step():
        out = x
        for layer in layers:
            out = layer.forward(out)
        value, g = loss(out, y)
        for layer in reversed(layers):
            g = layer.backward(g)
        optimizer.step([p for layer in layers for p in layer.params], [g for layer in layers for g in layer.grads])
        return value
    return step


def mlp(*sizes):
    layers = []
    for n, m in zip(sizes, sizes[1:]):
        layers += [Linear(n, m), ReLU()]
    return layers[:-1]


def classifier(layers, x, optimizer):
    batch = x.shape[1] if x.ndim == 3 else len(x)
    return trainer(layers, cross_entropy, optimizer, x.astype(np.float32), random.integers(0, 10, batch))


def xor():
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    return trainer([Linear(2, 4), Sigmoid(), Linear(4, 1), Sigmoid()], squared_error, SGD(0.5), x,
                   np.array([[0], [1], [1], [0]], np.float32))


def lenet():
    return [Conv(1, 6, 2), ReLU(), MaxPool(), Conv(6, 16), ReLU(), MaxPool(), Flatten(), Linear(400, 120), ReLU(),
            Linear(120, 84), ReLU(), Linear(84, 10)]


def chain():
    x = random.standard_normal(1000000, np.float32)

    def step():
        t, s = np.tanh(x * np.float32(1.5) + np.float32(0.5)), logistic(x)
        return (t * s).sum(), (1 - t * t) * np.float32(1.5) * s + t * s * (1 - s)
    return step


WORKS = {
    "a": xor,
    "a_100": xor,
    "b_sgd": lambda: classifier(mlp(784, 256, 128, 10), random.random((64, 784)), SGD(0.01)),
    "b_adam": lambda: classifier(mlp(784, 256, 128, 10), random.random((64, 784)), Adam(1e-3)),
    "c": lambda: classifier(mlp(784, 1024, 1024, 10), random.random((512, 784)), SGD(0.01)),
    "d": lambda: classifier(lenet(), random.random((64, 28, 28, 1)), SGD(0.01)),
    "e": chain,
    "f": lambda: classifier([LSTM(128, 128), Linear(128, 10)], random.standard_normal((64, 32, 128)), Adam(1e-3)),
}


if __name__ == "__main__":
    serve("NumPy " + np.__version__, lambda work, threads: (WORKS[work](), 1))
