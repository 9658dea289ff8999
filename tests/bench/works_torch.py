# SPDX-License-Identifier: MIT
"""Works a to f in PyTorch, driven by works.py."""
import torch
from torch import nn

from steps import serve

FUSED = tuple(int(n) for n in torch.__version__.split("+")[0].split(".")[:2]) >= (2, 4)


def optimizer(kind, net, lr):
    """The fastest form this PyTorch has."""
    if FUSED:
        return kind(net.parameters(), lr=lr, fused=True)
    return kind(net.parameters(), lr=lr, foreach=True)


def trainer(net, loss, opt, x, y):
    def step():
        opt.zero_grad(set_to_none=True)
        value = loss(net(x), y)
        value.backward()
        opt.step()
        return value
    return step


def mlp(*sizes):
    layers = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def classifier(net, x, kind, lr):
    return trainer(net, nn.CrossEntropyLoss(), optimizer(kind, net, lr), x, torch.randint(0, 10, (x.shape[0],)))


def aged(step):
    for _ in range(1500):
        step()
    return step


def dead():
    net = mlp(784, 256, 128, 10)
    with torch.no_grad():
        for k in 0, 2:
            net[k].bias[:len(net[k].bias) // 2] = -100
    return aged(classifier(net, torch.rand(64, 784), torch.optim.Adam, 1e-3))


def rows():
    net = nn.Sequential(nn.Embedding(10000, 64), nn.Flatten(), nn.Linear(16 * 64, 10))
    return aged(classifier(net, torch.randint(0, 500, (64, 16)), torch.optim.Adam, 1e-3))


def work_a():
    net = nn.Sequential(nn.Linear(2, 4), nn.Sigmoid(), nn.Linear(4, 1), nn.Sigmoid())
    x, y = torch.tensor([[0., 0], [0, 1], [1, 0], [1, 1]]), torch.tensor([[0.], [1], [1], [0]])
    return trainer(net, nn.MSELoss(), optimizer(torch.optim.SGD, net, 0.5), x, y)


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def chain():
    return chain_of(torch.randn(1000000, requires_grad=True))


def chain_of(x):
    def step():
        x.grad = None
        value = (torch.tanh(x * 1.5 + 0.5) * torch.sigmoid(x)).sum()
        value.backward()
        return value
    return step


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(128, 128), nn.Linear(128, 10)

    def forward(self, x):
        _, (h, _) = self.lstm(x)
        return self.head(h[0])


class GPT2(nn.Module):
    def __init__(self, words, width):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(words, width), nn.Embedding(1024, width)
        self.h = nn.ModuleList(nn.TransformerEncoderLayer(width, 12, 4 * width, 0.0, "gelu", batch_first=True,
                                                          norm_first=True) for _ in range(12))
        self.ln, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        self.head.weight = self.wte.weight
        with torch.no_grad():
            self.wte.weight.mul_(0.02)
            self.wpe.weight.mul_(0.02)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        for layer in self.h:
            x = layer(x, src_mask=mask, is_causal=True)
        return self.head(self.ln(x)).flatten(0, 1)


def gpt():
    ids = torch.randint(0, 50257, (4, 65))
    net = GPT2(50257, 768)
    return trainer(net, nn.CrossEntropyLoss(), optimizer(torch.optim.AdamW, net, 1e-4), ids[:, :-1].contiguous(),
                   ids[:, 1:].flatten())


WORKS = {
    "gpt": gpt,
    "a": work_a,
    "a_100": work_a,
    "b_sgd": lambda: classifier(mlp(784, 256, 128, 10), torch.rand(64, 784), torch.optim.SGD, 0.01),
    "b_adam": lambda: classifier(mlp(784, 256, 128, 10), torch.rand(64, 784), torch.optim.Adam, 1e-3),
    "b_dead": dead,
    "rows": rows,
    "c": lambda: classifier(mlp(784, 1024, 1024, 10), torch.rand(512, 784), torch.optim.SGD, 0.01),
    "d": lambda: classifier(lenet(), torch.rand(64, 1, 28, 28), torch.optim.SGD, 0.01),
    "e": chain,
    "f": lambda: classifier_sequence(),
}


def classifier_sequence():
    net = Recurrent()
    return trainer(net, nn.CrossEntropyLoss(), optimizer(torch.optim.Adam, net, 1e-3), torch.randn(64, 32, 128),
                   torch.randint(0, 10, (32,)))


def make(name, threads):
    mode, _, work = name.rpartition(":")
    torch.set_num_threads(threads)
    step = WORKS[work]()
    return torch.compile(step) if mode else step, 1


serve("PyTorch " + torch.__version__, make)
