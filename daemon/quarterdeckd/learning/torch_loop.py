"""A small multi-layer perceptron trained by PyTorch: mini-batches, Adam, early stopping, the device said."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from quarterdeckd.learning.checkpoints import Keeper, Standing
from quarterdeckd.learning.fitted import Floats, Points
from quarterstore.records.faults import Failed, got


class Mlp(NamedTuple):
    """A trained network as arrays: (weight out x in, bias) a layer, ReLU between them; for a regression the values it
    gives are `shift` + `scale` times its output. `epoch` is the one that was kept, of `epochs` run."""

    layers: list[tuple[Floats, Floats]]
    shift: float
    scale: float
    epoch: int
    epochs: int
    device: str


def device() -> torch.device:
    """CUDA where PyTorch sees one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def said(where: torch.device) -> str:
    """The device in words: `cuda (NAME)` or `cpu, 1 thread`."""
    if where.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(where)})"
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' if threads > 1 else ''}"


def fit(
    x: Floats,
    y: NDArray[Any],
    x_watch: Floats,
    y_watch: NDArray[Any],
    classes: int,
    params: dict[str, Any],
    seed: int,
    points: Points,
    checkpoint: Path | None = None,
) -> Mlp:
    """Train on x (n x d, standardised) and y (n class indices, or n values when `classes` is 0).

    Each epoch tells `loss`, `val_loss` and, of classes, `val_accuracy`; the weights of the epoch with the lowest
    `val_loss` are kept. Cross-entropy, or the squared error of the standardised target. Adam: Kingma and Ba 2015,
    with decoupled decay (Loshchilov and Hutter 2019). A loss that is not finite is a fault.
    Where it stands is kept in the folder `checkpoint` about every second, with the state of the dice: a training that
    is cut off and begun again gives the same network.
    """
    _check(params)
    torch.manual_seed(seed)
    where = device()
    shift, scale = (0.0, 1.0) if classes else (float(y.mean()), float(y.std()) or 1.0)
    inputs, targets = _tensors(x, y, classes, shift, scale, where)
    watched, truth = _tensors(x_watch, y_watch, classes, shift, scale, where)
    net = _network(x.shape[1], params["hidden"], classes or 1).to(where)
    loss_of: torch.nn.Module = torch.nn.CrossEntropyLoss() if classes else torch.nn.MSELoss()
    optimiser = torch.optim.AdamW(net.parameters(), lr=params["rate"], weight_decay=params["decay"])
    size = params["batch"] or (32 if len(x) <= 2000 else 256)
    shuffle = torch.Generator().manual_seed(seed)
    best, kept, keep = math.inf, 0, _arrays(net)
    keeper = Keeper(checkpoint, net, optimiser, shuffle)
    done, best, kept, keep = keeper.taken_up(Standing(0, best, kept, keep))
    epoch = done
    for epoch in range(done + 1, params["epochs"] + 1):
        loss = _epoch(net, loss_of, optimiser, inputs, targets, torch.randperm(len(x), generator=shuffle), size)
        val_loss, accuracy = _watch(net, loss_of, watched, truth, classes)
        points(epoch, {"loss": loss, "val_loss": val_loss, **({"val_accuracy": accuracy} if classes else {})})
        if not math.isfinite(loss) or not math.isfinite(val_loss):
            raise Failed(f"got a loss of {loss} in epoch {epoch}, expected a finite one", field="train.params.rate")
        if val_loss < best:
            best, kept, keep = val_loss, epoch, _arrays(net)
        if epoch - kept >= params["patience"]:
            break
        keeper.keep(Standing(epoch, best, kept, keep))
    return Mlp(keep, shift, scale, kept, epoch, said(where))


def answer(mlp: Mlp, x: Floats, classes: int) -> NDArray[np.float64]:
    """n x k probabilities, or n values, by PyTorch itself on the processor."""
    net = _network(x.shape[1], [len(bias) for _, bias in mlp.layers[:-1]], len(mlp.layers[-1][1]))
    linear = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
    with torch.inference_mode():
        for layer, (weight, bias) in zip(linear, mlp.layers, strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
        out = net(torch.from_numpy(x))
        found = torch.softmax(out, dim=1) if classes else out[:, 0] * mlp.scale + mlp.shift
    return np.asarray(found.numpy(), dtype=np.float64)


def _check(params: dict[str, Any]) -> None:
    for name in ("epochs", "patience"):
        if params[name] < 1:
            raise got(f"train.params.{name}", params[name], "at least 1")
    if not all(isinstance(width, int) and 0 < width <= 8192 for width in params["hidden"]):
        raise got("train.params.hidden", params["hidden"], "widths of layers from 1 to 8192, as [64, 64]")
    if params["rate"] <= 0 or params["batch"] < 0 or params["decay"] < 0:
        raise got("train.params", params, "a positive rate, a batch and a decay that are not negative")


def _network(width: int, hidden: list[int], out: int) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for size in hidden:
        layers += [torch.nn.Linear(width, size), torch.nn.ReLU()]
        width = size
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, out))


def _tensors(
    x: Floats, y: NDArray[Any], classes: int, shift: float, scale: float, where: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    target = y.astype(np.int64) if classes else ((y - shift) / scale).astype(np.float32).reshape(-1, 1)
    return torch.from_numpy(x).to(where), torch.from_numpy(target).to(where)


def _epoch(
    net: torch.nn.Module,
    loss_of: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    order: torch.Tensor,
    size: int,
) -> float:
    net.train()
    total = 0.0
    for rows in order.to(inputs.device).split(size):
        optimiser.zero_grad()
        loss = loss_of(net(inputs[rows]), targets[rows])
        loss.backward()
        optimiser.step()
        total += float(loss.detach()) * len(rows)
    return total / len(order)


def _watch(
    net: torch.nn.Module, loss_of: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor, classes: int
) -> tuple[float, float]:
    net.eval()
    with torch.no_grad():
        out = net(inputs)
        right = float((out.argmax(dim=1) == targets).float().mean()) if classes else math.nan
        return float(loss_of(out, targets)), right


def _arrays(net: torch.nn.Sequential) -> list[tuple[Floats, Floats]]:
    return [
        (layer.weight.detach().cpu().numpy().copy(), layer.bias.detach().cpu().numpy().copy())
        for layer in net
        if isinstance(layer, torch.nn.Linear)
    ]
