# SPDX-License-Identifier: MIT
"""Works a to f in JAX (jit over the whole step), driven by works.py."""
import os

# XLA's thread pool has as many threads as there are cores it may use: works.py pins this process.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax
import jax.numpy as jnp
from jax import lax

from steps import serve


def linear(key, n, m):
    k1, k2 = jax.random.split(key)
    bound = n ** -0.5
    return [jax.random.uniform(k1, (n, m), minval=-bound, maxval=bound),
            jax.random.uniform(k2, (m,), minval=-bound, maxval=bound)]


def dense_net(*sizes):
    keys = jax.random.split(jax.random.PRNGKey(0), len(sizes))
    return [linear(k, n, m) for k, n, m in zip(keys, sizes, sizes[1:])]


def dense(params, x, activation=jax.nn.relu):
    for w, b in params[:-1]:
        x = activation(x @ w + b)
    w, b = params[-1]
    return x @ w + b


def cross_entropy(z, y):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1))


def sgd(loss, lr):
    def step(params, x, y):
        value, grads = jax.value_and_grad(loss)(params, x, y)
        return jax.tree.map(lambda p, g: p - lr * g, params, grads), value
    return step


def adam(loss, lr):
    def step(state, x, y):
        params, m, v, t = state
        value, grads = jax.value_and_grad(loss)(params, x, y)
        t = t + 1
        m = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, m, grads)
        v = jax.tree.map(lambda a, g: 0.999 * a + 0.001 * g * g, v, grads)
        params = jax.tree.map(lambda p, a, b: p - lr * (a / (1 - 0.9 ** t)) / (jnp.sqrt(b / (1 - 0.999 ** t)) + 1e-8),
                              params, m, v)
        return (params, m, v, t), value
    return step


def with_moments(params):
    return (params, jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params), jnp.float32(0))


def runner(step, state, x, y):
    step = jax.jit(step, donate_argnums=0)
    box = [state]

    def run():
        box[0], value = step(box[0], x, y)
        value.block_until_ready()
    return run


def data(n, *shape):
    key = jax.random.PRNGKey(1)
    return jax.random.uniform(key, (n,) + shape), jax.random.randint(key, (n,), 0, 10)


def work_a(steps=1):
    x, y = jnp.array([[0., 0], [0, 1], [1, 0], [1, 1]]), jnp.array([[0.], [1], [1], [0]])
    loss = lambda p, x, y: jnp.mean((jax.nn.sigmoid(dense(p, x, jax.nn.sigmoid)) - y) ** 2)
    step = sgd(loss, 0.5)

    def many(params, x, y):
        return lax.fori_loop(1, steps, lambda i, now: step(now[0], x, y), step(params, x, y))
    return runner(step if steps == 1 else many, dense_net(2, 4, 1), x, y)


def mlp(sizes, batch, rule, start, lr):
    loss = lambda p, x, y: cross_entropy(dense(p, x), y)
    x, y = data(batch, sizes[0])
    return runner(rule(loss, lr), start(dense_net(*sizes)), x, y)


def lenet():
    keys = jax.random.split(jax.random.PRNGKey(0), 4)
    params = {"c1": jax.random.uniform(keys[0], (6, 1, 5, 5)) - 0.5, "b1": jnp.zeros(6),
              "c2": (jax.random.uniform(keys[1], (16, 6, 5, 5)) - 0.5) / 6, "b2": jnp.zeros(16),
              "fc": dense_net(400, 120, 84, 10)}

    def pool(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    def loss(p, x, y):
        x = pool(jax.nn.relu(lax.conv(x, p["c1"], (1, 1), "SAME") + p["b1"][:, None, None]))
        x = pool(jax.nn.relu(lax.conv(x, p["c2"], (1, 1), "VALID") + p["b2"][:, None, None]))
        return cross_entropy(dense(p["fc"], x.reshape(x.shape[0], -1)), y)
    x, y = data(64, 1, 28, 28)
    return runner(sgd(loss, 0.01), params, x, y)


def chain():
    x = jax.random.normal(jax.random.PRNGKey(0), (1000000,))
    f = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.tanh(x * 1.5 + 0.5) * jax.nn.sigmoid(x))))
    return lambda: f(x)[1].block_until_ready()


def recurrent():
    n = 128
    keys = jax.random.split(jax.random.PRNGKey(0), 3)
    params = {"x": linear(keys[0], n, 4 * n), "h": linear(keys[1], n, 4 * n), "o": linear(keys[2], n, 10)}

    def loss(p, x, y):
        zx = x @ p["x"][0] + p["x"][1]

        def cell(carry, z):
            h, c = carry
            i, f, g, o = jnp.split(z + h @ p["h"][0] + p["h"][1], 4, 1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None
        zero = jnp.zeros((x.shape[1], n))
        (h, _), _ = lax.scan(cell, (zero, zero), zx)
        return cross_entropy(h @ p["o"][0] + p["o"][1], y)
    x, y = jax.random.normal(keys[0], (64, 32, n)), jax.random.randint(keys[1], (32,), 0, 10)
    return runner(adam(loss, 1e-3), with_moments(params), x, y)


WORKS = {
    "a": work_a,
    "a_100": lambda: work_a(100),
    "b_sgd": lambda: mlp((784, 256, 128, 10), 64, sgd, lambda p: p, 0.01),
    "b_adam": lambda: mlp((784, 256, 128, 10), 64, adam, with_moments, 1e-3),
    "c": lambda: mlp((784, 1024, 1024, 10), 512, sgd, lambda p: p, 0.01),
    "d": lenet,
    "e": chain,
    "f": recurrent,
}


serve("JAX " + jax.__version__, lambda work, threads: (WORKS[work](), 100 if work == "a_100" else 1))
