"""From weights, found or synthetic, to a module that is ready to run. Needs torch.

A checkpoint is a stranger's file: nothing in it is executed, and what does not fit is named.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corral.errors import ModelError
from corral.models.pictures import draw_pictures, normalise
from corral.models.spec import Recipe, Weights
from corral.models.weights import SYNTHETIC_SEED

if TYPE_CHECKING:
    import torch

_SYNTHETIC_PICTURES = 16
#: spread of synthetic logits, as of a trained model's
_LOGIT_STD = 2.5


def fill(module: torch.nn.Module, weights: Weights, recipe: Recipe) -> torch.nn.Module:
    """Fills a module with weights, found or synthetic, and puts it in eval mode.

    Raises:
        ModelError: the file cannot be read or does not fit, with the first name that does not.
    """
    if weights.path is None:
        synthesise(module, recipe, SYNTHETIC_SEED)
    else:
        state = read_state(weights.path)
        fault = _misfit(module.state_dict(), state)
        if fault:
            raise ModelError(f"--weights {weights.path}: does not fit the model: {fault}")
        # Counters of training steps are not in every checkpoint, and inference needs none.
        module.load_state_dict(state, strict=False)
    return module.eval()


def read_state(path: Path) -> dict[str, Any]:
    """The state dict in a safetensors or PyTorch file; nothing in it is executed."""
    import torch

    try:
        with path.open("rb") as stream:
            is_safetensors = stream.read(9)[8:] == b"{"
        if is_safetensors:
            import safetensors.torch

            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ModelError(
            f"--weights {path}: not a state dict: it holds more than tensors, which is not loaded "
            "because it could run code; save it with torch.save(model.state_dict(), ...)"
        ) from None
    except OSError as error:
        raise ModelError(f"--weights {path}: {error.strerror or 'cannot be read'}") from None
    # torch's readers raise whatever a file that is no checkpoint leads them to.
    except Exception as error:
        raise ModelError(
            f"--weights {path}: neither a safetensors file nor a PyTorch state dict"
        ) from error
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise ModelError(f"--weights {path}: not a state dict, which has a tensor for every name")
    return state


def _misfit(expected: dict[str, Any], state: dict[str, Any]) -> str:
    """The first thing that does not fit; empty when all does."""
    for name, tensor in expected.items():
        if name not in state:
            if name.endswith(".num_batches_tracked"):
                continue
            return f"{name!r} is missing"
        if state[name].shape != tensor.shape:
            return f"{name!r} has the shape {list(state[name].shape)}, not {list(tensor.shape)}"
    extra = next((name for name in state if name not in expected), None)
    return f"{extra!r} is not a part of it" if extra is not None else ""


def synthesise(module: torch.nn.Module, recipe: Recipe, seed: int) -> None:
    """Gives a module weights that know nothing, but behave: every picture has other logits.

    Random layers alone answer every picture alike, for what pictures have in common grows from
    layer to layer. So every batch norm gets the mean and variance that drawn pictures cause in
    it, and the last layer is centred and scaled on what they cause there.

    Args:
        module: convolutions and batch norms, or a transformer; its last linear layer gives the
            logits. Left in eval mode.
        recipe: how it wants its pictures.
        seed: the same seed gives the same weights.
    """
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    last = [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1]
    pixels = draw_pictures(_SYNTHETIC_PICTURES, seed, recipe.crop)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
        for name, parameter in module.named_parameters():
            # What only transformers have. torch's own initial values would differ at each start.
            if norms or parameter.dim() < 2 or name.endswith("conv_proj.weight"):
                continue
            parameter.normal_(std=parameter.shape[-1] ** -0.5, generator=generator)
        for norm in norms:
            # ReLUs that are mostly open: with half of them shut, small changes of a picture grow
            # from layer to layer, and photographs get logits 30 times as large as these.
            norm.bias.fill_(1.0)
        for layer in module.modules():
            if isinstance(layer, nn.Linear) and layer.bias is not None:
                layer.bias.zero_()
        last.weight.normal_(generator=generator)
        last.bias.zero_()
        features = _measure(module.eval(), norms, last, torch.from_numpy(normalise(pixels, recipe)))
        logits = last(features)
        scale = _LOGIT_STD / logits.std(dim=0).mean()
        last.weight.mul_(scale)
        last.bias.copy_(-scale * logits.mean(dim=0))


def _measure(module: Any, norms: list[Any], last: Any, inputs: Any) -> Any:
    """Runs one batch, whose statistics the batch norms take over; returns the last layer's input.

    Only the norms are put in train mode: dropout would make the result differ each time.
    """
    features = []
    hook = last.register_forward_pre_hook(lambda _, arguments: features.append(arguments[0]))
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    module(inputs)
    hook.remove()
    module.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return features[0]
