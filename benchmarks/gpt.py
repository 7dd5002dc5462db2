"""A Transformer of nanoGPT's architecture in PyTorch, to train beside: no biases, learned positions, AdamW.

For one training step it has the size and the recipe that nanoGPT publishes for a laptop's CPU
(github.com/karpathy/nanoGPT, README, "i only have a macbook"): 4 layers, 4 heads, 128 channels, batch 12, context 64,
learning rate 1e-3, beta2 0.99, weight decay 0.1, no dropout. In the race it has the size of the others, and as they do
dropout, their schedule, and a running average of its weights (`Racer`).
"""

import copy
import math
import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rwkv_np.training import learning_rate


class Block(nn.Module):
    def __init__(self, channels, heads, ffn, dropout):
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.ln1, self.ln2 = (nn.LayerNorm(channels, bias=False) for _ in range(2))
        self.qkv, self.out = nn.Linear(channels, 3 * channels, bias=False), nn.Linear(channels, channels, bias=False)
        self.up, self.down = nn.Linear(channels, ffn, bias=False), nn.Linear(ffn, channels, bias=False)

    def forward(self, x):
        batch, length, channels = x.shape
        q, k, v = (part.view(batch, length, self.heads, -1).transpose(1, 2)
                   for part in self.qkv(self.ln1(x)).split(channels, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.dropout(self.out(y.transpose(1, 2).reshape(batch, length, channels)))
        return x + self.dropout(self.down(F.gelu(self.up(self.ln2(x)))))


class GPT(nn.Module):
    def __init__(self, vocab, layers, channels, context, heads=4, ffn=None, dropout=0.0):
        super().__init__()
        self.token, self.position = nn.Embedding(vocab, channels), nn.Embedding(context, channels)
        self.blocks = nn.ModuleList(Block(channels, heads, ffn or 4 * channels, dropout) for _ in range(layers))
        self.ln = nn.LayerNorm(channels, bias=False)
        self.head = nn.Linear(channels, vocab, bias=False)
        self.token.weight = self.head.weight
        for name, p in self.named_parameters():
            if p.ndim == 2:
                into_residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(p, 0, 0.02 / (math.sqrt(2 * layers) if into_residual else 1))

    def forward(self, tokens, targets, reduction="mean"):
        x = self.token(tokens) + self.position.weight[:tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.ln(x)).flatten(0, 1), targets.flatten(), reduction=reduction)


def optimizer(model, beta2=0.99, weight_decay=0.1):
    """Return AdamW, which decays matrices only."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": weight_decay},
                              {"params": vectors, "weight_decay": 0.0}], lr=1e-3, betas=(0.9, beta2))


def one_step(model, adam, tokens, targets):
    """Take one step, and return the loss."""
    loss = model(tokens, targets)
    adam.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adam.step()
    return loss


def training_step():
    """Return a call that takes one step."""
    from .training import STEP

    vocab, layers, channels, batch, context = STEP.values()
    torch.manual_seed(0)
    model = GPT(vocab, layers, channels, context)
    adam, tokens = optimizer(model), torch.randint(vocab, (batch, context + 1))
    return lambda: one_step(model, adam, tokens[:, :-1], tokens[:, 1:]), 1


class Racer:
    """Train a Transformer with the interface of `racers.Racer`."""

    def __init__(self, name, size, config, path):
        torch.manual_seed(config.seed)
        self.config, self.path, self.steps = config, path, 0
        self.rng = np.random.default_rng(config.seed)
        self.model = GPT(size["vocab_size"], size["n_layer"], size["d_model"], config.context_length,
                         size["d_model"] // size["head_size"], size["d_ffn"], config.dropout)
        self.average, self.adam = copy.deepcopy(self.model), optimizer(self.model, config.beta2, config.weight_decay)
        if path.exists():
            stored = torch.load(path, weights_only=False)
            self.steps, self.rng = stored["steps"], stored["rng"]
            torch.set_rng_state(stored["torch_rng"])
            for module, state in zip((self.model, self.average, self.adam), stored["states"], strict=True):
                module.load_state_dict(state)

    @property
    def parameters(self):
        return sum(p.numel() for p in self.model.parameters())          # the tied matrix counts once

    def step(self, tokens):
        """Take one step with a random batch."""
        config = self.config
        for group in self.adam.param_groups:
            group["lr"] = learning_rate(self.steps, config)
        starts = self.rng.integers(len(tokens) - config.context_length, size=config.batch_size)
        windows = torch.from_numpy(tokens[starts[:, None] + np.arange(config.context_length + 1)])
        self.model.train()
        loss = one_step(self.model, self.adam, windows[:, :-1], windows[:, 1:])
        if not torch.isfinite(loss):
            raise ArithmeticError(f"the loss is {loss.item()} at step {self.steps}")
        self.steps += 1
        decay = min(config.ema_decay, self.steps / (self.steps + 10))
        with torch.no_grad():
            for mean, p in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(p, 1 - decay)

    def loss(self, tokens, carry=False):
        """Return the loss of the averaged weights on all tokens, in windows of the context; None if carried."""
        if carry:
            return None
        self.average.eval()
        total, length = 0.0, self.config.context_length
        with torch.no_grad():
            for start in range(0, len(tokens) - 1, 32 * length):
                x, y = (torch.from_numpy(tokens[start + n:min(start + 32 * length, len(tokens) - 1) + n])
                        for n in range(2))
                whole = len(x) // length * length
                windows = [a[:whole].view(-1, length) for a in (x, y)], [a[None, whole:] for a in (x, y)]
                total += sum(self.average(a, b, "sum").item() for a, b in windows if a.numel())
        return total / (len(tokens) - 1)

    def save(self):
        """Store everything needed to continue."""
        part = self.path.with_name(f"{self.path.name}-{os.getpid()}")
        torch.save({"steps": self.steps, "rng": self.rng, "torch_rng": torch.get_rng_state(),
                    "states": [module.state_dict() for module in (self.model, self.average, self.adam)]}, part)
        part.replace(self.path)

    def close(self):
        pass
