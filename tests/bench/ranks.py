# SPDX-License-Identifier: MIT
"""The same in PyTorch with gloo: torchrun --nproc_per_node 2 tests/bench/ranks.py [c|d|g] [rounds]; see ranks.lua."""
import sys
import time

import torch
import torch.distributed as dist
from torch import nn

work, rounds = (sys.argv[1:] + ["c", "15"][len(sys.argv) - 1:])[:2]
rounds, STEPS = int(rounds), 1 if work == "g" else 3
torch.set_num_threads(1)
dist.init_process_group("gloo")
y = None


class GPT(nn.Module):
    def __init__(self, width=768, heads=12, layers=12, words=50257, length=64):
        super().__init__()
        self.word, self.place = nn.Embedding(words, width), nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True,
                                           norm_first=True)
        self.layers, self.norm = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False), nn.LayerNorm(width)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length), persistent=False)
        self.register_buffer("at", torch.arange(length), persistent=False)

    def forward(self, t):
        h = self.layers(self.word(t) + self.place(self.at), mask=self.mask, is_causal=True)
        return nn.functional.linear(self.norm(h).flatten(0, 1), self.word.weight)


if work == "g":
    net, x, y = GPT(), torch.randint(0, 50257, (4, 64)), torch.randint(0, 50257, (4 * 64,))
elif work == "c":
    net, x = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)), \
        torch.rand(512, 784)
else:
    net = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
                        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
                        nn.Linear(84, 10))
    x = torch.rand(64, 1, 28, 28)
if y is None:
    y = torch.randint(0, 10, (x.shape[0],))
net = nn.parallel.DistributedDataParallel(net)
opt, loss = torch.optim.SGD(net.parameters(), lr=0.0), nn.CrossEntropyLoss()


def step():
    opt.zero_grad()
    loss(net(x), y).backward()
    opt.step()


def measure(exchange):
    dist.barrier()
    begun = time.perf_counter()
    for _ in range(STEPS):
        if exchange:
            step()
        else:
            with net.no_sync():
                step()
    return (time.perf_counter() - begun) / STEPS


both = [(measure(True), measure(False)) for _ in range(rounds + 1)][1:]
exchanged, alone = (sorted(times) for times in zip(*both))
if dist.get_rank() == 0:
    m = rounds // 2
    print("PyTorch, work %s, %d ranks: a step with exchange %.2f ms (least %.2f), without %.2f ms (least %.2f): ratio "
          "%.3f (%.3f)" % (work, dist.get_world_size(), exchanged[m] * 1e3, exchanged[0] * 1e3, alone[m] * 1e3,
                           alone[0] * 1e3, alone[m] / exchanged[m], alone[0] / exchanged[0]))
dist.destroy_process_group()
