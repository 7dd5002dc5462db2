"""A Transformer of nanoGPT's size in PyTorch, to train beside: 4 layers, 4 heads, 128 channels, no biases, AdamW.

Written after the recipe that nanoGPT publishes for a laptop's CPU (github.com/karpathy/nanoGPT, README, "i only have a
macbook"): batch 12, context 64, learning rate 1e-3, beta2 0.99, weight decay 0.1, warm-up 100, 2000 steps, no dropout.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = (nn.LayerNorm(channels, bias=False) for _ in range(2))
        self.qkv, self.out = nn.Linear(channels, 3 * channels, bias=False), nn.Linear(channels, channels, bias=False)
        self.up = nn.Linear(channels, 4 * channels, bias=False)
        self.down = nn.Linear(4 * channels, channels, bias=False)

    def forward(self, x):
        batch, length, channels = x.shape
        q, k, v = (part.view(batch, length, self.heads, -1).transpose(1, 2)
                   for part in self.qkv(self.ln1(x)).split(channels, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, channels))
        return x + self.down(F.gelu(self.up(self.ln2(x))))


class GPT(nn.Module):
    def __init__(self, vocab, layers, channels, context, heads=4):
        super().__init__()
        self.token, self.position = nn.Embedding(vocab, channels), nn.Embedding(context, channels)
        self.blocks = nn.ModuleList(Block(channels, heads) for _ in range(layers))
        self.ln = nn.LayerNorm(channels, bias=False)
        self.head = nn.Linear(channels, vocab, bias=False)
        self.token.weight = self.head.weight
        for name, p in self.named_parameters():
            if p.ndim == 2:
                into_residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(p, 0, 0.02 / (math.sqrt(2 * layers) if into_residual else 1))

    def forward(self, tokens, targets):
        x = self.token(tokens) + self.position.weight[:tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.ln(x)).flatten(0, 1), targets.flatten())


def optimizer(model):
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                             lr=1e-3, betas=(0.9, 0.99))


def one_step(model, adam, tokens, targets):
    loss = model(tokens, targets)
    adam.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adam.step()


def training_step(vocab, layers, channels, batch, context):
    torch.manual_seed(0)
    model = GPT(vocab, layers, channels, context)
    adam, tokens = optimizer(model), torch.randint(vocab, (batch, context + 1))
    return lambda: one_step(model, adam, tokens[:, :-1], tokens[:, 1:])


def time_to_loss(train, validation, goal, vocab=65, layers=4, channels=128, batch=12, context=64, steps=2000):
    """Seconds of training, validation not counted, until the loss on the whole validation text is below `goal`.

    Windows of 64 characters from the text's beginning, as for ours. Returns (seconds, step, loss); at the last step
    the loss may still be above.
    """
    import time

    torch.manual_seed(0)
    model, train, validation = GPT(vocab, layers, channels, context), torch.tensor(train), torch.tensor(validation)
    adam, seconds, loss = optimizer(model), 0.0, math.inf
    windows = (len(validation) - 1) // context
    inputs = validation[:windows * context].view(windows, context)
    targets = validation[1:windows * context + 1].view(windows, context)
    for step in range(steps + 1):
        if step and (step % 250 == 0 or step == steps):
            with torch.no_grad():
                loss = model(inputs, targets).item()
            if loss <= goal:
                return seconds, step, loss
        if step < steps:
            began = time.perf_counter()
            for group in adam.param_groups:
                cosine = 0.5 * (1 + math.cos(math.pi * (step - 100) / (steps - 100)))
                group["lr"] = 1e-3 * (step + 1) / 100 if step < 100 else 1e-4 + 9e-4 * cosine
            at = torch.randint(len(train) - context, (batch, 1)) + torch.arange(context + 1)
            one_step(model, adam, train[at][:, :-1], train[at][:, 1:])
            seconds += time.perf_counter() - began
    return seconds, steps, loss
