"""RWKV-7 in one file, token by token and written from the equations, with one mistake at a time."""

import numpy as np


def norm(x, weight, bias, epsilon=1e-5):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight + bias


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class RWKV7:
    """A model with `forward` and `step` for one sequence; its state is the official list of 3 arrays per layer."""

    def __init__(self, params, bug="", epsilon=64e-5):
        self.params = {name: np.asarray(a, np.float64) for name, a in params.items()}
        self.bug, self.epsilon = bug, epsilon
        self.n_layer = 1 + max(int(name.split(".")[1]) for name in params if name.startswith("blocks."))

    def step(self, token, state=None, frozen=None):
        """Return logits, state; `frozen`: v_first, if it is to be taken for given."""
        p, (H, N) = self.params, self.params["blocks.0.att.r_k"].shape
        D = p["emb.weight"].shape[1]
        state = state or [x for _ in range(self.n_layer) for x in (np.zeros(D), np.zeros((H, N, N)), np.zeros(D))]
        state = list(state)
        if self.bug == "token shift lost while decoding":
            state = [x if n % 3 == 1 else 0 * x for n, x in enumerate(state)]
        x = norm(p["emb.weight"][token], p["blocks.0.ln0.weight"], p["blocks.0.ln0.bias"])
        v_first = None
        for layer in range(self.n_layer):
            start = f"blocks.{layer}."
            q = {name.removeprefix(start): a for name, a in p.items() if name.startswith(start)}
            x1 = norm(x, q["ln1.weight"], q["ln1.bias"])
            prev, S = state[3 * layer], state[3 * layer + 1]
            state[3 * layer] = x1

            def mix(c, x=x1, prev=prev, q=q):
                share = q[c]
                return x * share + prev * (1 - share) if self.bug == "mixing direction of 5" else x + (prev - x) * share

            r = q["att.receptance.weight"] @ mix("att.x_r")
            k0 = q["att.key.weight"] @ mix("att.x_k")
            v = q["att.value.weight"] @ mix("att.x_v")
            w = np.exp(-np.exp(-0.5) * sigmoid(q["att.w0"] + np.tanh(mix("att.x_w") @ q["att.w1"]) @ q["att.w2"]))
            alpha = sigmoid(q["att.a0"] + mix("att.x_a") @ q["att.a1"] @ q["att.a2"])
            g = sigmoid(mix("att.x_g") @ q["att.g1"]) @ q["att.g2"]
            if layer == 0:
                v_first = self.v_first = v
                v_first = v_first if frozen is None else frozen
            else:
                v = v + (v_first - v) * sigmoid(q["att.v0"] + mix("att.x_v") @ q["att.v1"] @ q["att.v2"])
            k = k0 * (1 + (alpha - 1) * q["att.k_a"])
            kappa = ((k if self.bug == "kappa from the changed key" else k0) * q["att.k_k"]).reshape(H, N)
            if self.bug != "kappa not normalised":
                kappa = kappa / np.linalg.norm(kappa, axis=-1, keepdims=True)
            r, k, k0, v, w, alpha = (y.reshape(H, N) for y in (r, k, k0, v, w, alpha))
            removed = np.einsum("hmn,hn->hm", S, kappa)
            S = S * w[:, None, :] - removed[:, :, None] * (alpha * kappa)[:, None, :] + v[:, :, None] * k[:, None, :]
            state[3 * layer + 1] = S
            out = np.einsum("hmn,hn->hm", S, r)
            if self.bug == "r_k before the norm":
                out = out + (r * k * q["att.r_k"]).sum(-1, keepdims=True) * v
            z = norm(out, 1, 0, self.epsilon).reshape(-1) * q["att.ln_x.weight"] + q["att.ln_x.bias"]
            key = k0 if self.bug == "r_k with the unmodified key" else k
            if self.bug != "r_k before the norm":
                z = z + ((r * key * q["att.r_k"]).sum(-1, keepdims=True) * v).reshape(-1)
            x = x + q["att.output.weight"] @ (z * g)
            x2 = norm(x, q["ln2.weight"], q["ln2.bias"])
            prev = state[3 * layer + 2]
            state[3 * layer + 2] = x2
            x = x + q["ffn.value.weight"] @ np.maximum(q["ffn.key.weight"] @ mix("ffn.x_k", x2, prev, q), 0) ** 2
        return p["head.weight"] @ norm(x, p["ln_out.weight"], p["ln_out.bias"]), state

    def forward(self, tokens, state=None):
        rows = []
        for token in tokens:
            logits, state = self.step(int(token), state)
            rows.append(logits)
        return np.array(rows), state

    def loss(self, inputs, targets, frozen=None):
        """Return the mean cross-entropy; `frozen`: v_first of every token, if they are to be taken for given."""
        state, nats = None, 0.0
        for t, (token, target) in enumerate(zip(inputs, targets, strict=True)):
            logits, state = self.step(int(token), state, None if frozen is None else frozen[t])
            nats += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[target]
        return nats / len(inputs)

    def gradient(self, name, inputs, targets, v_first_dropped=False, h=1e-5):
        """Return the gradient of one array by central differences; with v_first taken for given, if it is dropped."""
        frozen = None
        if v_first_dropped:
            state, frozen = None, []
            for token in inputs:
                _, state = self.step(int(token), state)
                frozen.append(self.v_first.copy())
        array, grad = self.params[name], np.zeros(self.params[name].shape)
        for at in np.ndindex(*array.shape):
            losses = []
            for sign in (1, -1):
                changed = array.copy()
                changed[at] += sign * h
                self.params[name] = changed
                losses.append(self.loss(inputs, targets, frozen))
            self.params[name] = array
            grad[at] = (losses[0] - losses[1]) / (2 * h)
        return grad
