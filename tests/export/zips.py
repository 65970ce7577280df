"""Zips put together as Stable-Baselines3 writes them."""

import io
import json
import zipfile
from itertools import pairwise

import numpy as np
import torch
from torch import nn

LOW, HIGH = np.array([-2.0, 0.0]), np.array([2.0, 1.0])


def linear(fan_in, fan_out):
    return nn.Linear(fan_in, fan_out)


def mlp(*sizes, activation=nn.ReLU, last=()):
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [linear(fan_in, fan_out), activation()]
    return nn.Sequential(*layers[:-1], *last)


def save(path, modules, *, extra=None, variables=None, **settings):
    """A zip with the entries that reading needs, and one that reading must not touch."""
    weights = {f"{name}.{key}": value for name, m in modules.items() for key, value in m.state_dict().items()}
    box = {"_shape": [2], "low": str(LOW), "high": str(HIGH), ":serialized:": "gASVnothing"}
    data = {"action_space": box, "num_timesteps": 1000, "seed": 5, "use_sde": False, "policy_kwargs": {}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps(data | settings))
        for name, tensors in (("policy", weights | (extra or {})), ("pytorch_variables", variables or {})):
            buffer = io.BytesIO()
            torch.save(tensors, buffer)
            archive.writestr(f"{name}.pth", buffer.getvalue())
        archive.writestr("_stable_baselines3_version", "2.9.2")
    return path
