"""The plain PyTorch side of the tests of haqa/vision: vision_peer.py COMMAND FOLDER.

Files between both sides are what torch.save() writes of a dictionary of tensors.
quantizers   reads cases.safetensors {"w","x","g_w","g_x","clip"}, writes quantizers.pt: results and gradients of each quantizer
networks     writes of each ResNet20 in FORMS NAME.pt: images and labels, its losses at steps of SGD and its logits after
             them, in double precision; its weights NAME-before.pt and NAME-after.pt
checkpoints  writes the weights of a ResNet20 in forms that others write
load         loads ours.safetensors, with every name as PyTorch wants it
torchvision  writes resnet50.pt, and logits.pt: of evaluation and of training
"""
import collections
import sys
from argparse import Namespace

import torch
import torch.nn as nn
import torch.nn.functional as F


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.round(x)

    @staticmethod
    def backward(ctx, g):
        return g


def dorefa_weight(w, bits, scaling):
    if bits == 32:
        return w
    if bits == 1:
        mean = w.abs().mean().detach()
        return w + (torch.where(w >= 0, 1.0, -1.0).to(w.dtype) * mean - w).detach()
    n = 2**bits - 1
    t = torch.tanh(w)
    largest = t.abs().max()
    if scaling == "pretrained":
        largest = largest.detach()
    unit = 2 * (Round.apply((t / (2 * largest) + 0.5) * n) / n) - 1
    return unit * largest if scaling == "pretrained" else unit


def dorefa_activation(x, bits):
    if bits == 32:
        return x
    n = 2**bits - 1
    return Round.apply(x.clamp(0, 1) * n) / n


class Pact(torch.autograd.Function):
    """As its authors have it: the bound's gradient is that of what lies on it or beyond."""

    @staticmethod
    def forward(ctx, x, clip, bits):
        ctx.save_for_backward(x, clip)
        y = torch.minimum(x.clamp(min=0), clip)
        steps = (2**bits - 1) / clip.double().item()
        return y if bits == 32 else torch.round(y * steps) / steps

    @staticmethod
    def backward(ctx, g):
        x, clip = ctx.saved_tensors
        return g * ((x >= 0) & (x <= clip)), (g * (x >= clip)).sum().view_as(clip), None


def quantizers(folder):
    from safetensors.torch import load_file

    case = load_file(f"{folder}/cases.safetensors")
    out = {}
    for bits in (1, 2, 3, 4, 5, 8, 12, 24, 31, 32):
        for scaling in ("original", "pretrained"):
            w = case["w"].clone().requires_grad_()
            y = dorefa_weight(w, bits, scaling)
            (y * case["g_w"]).sum().backward()
            out[f"weight {bits} {scaling}"], out[f"weight {bits} {scaling} gradient"] = y.detach(), w.grad
        x = case["x"].clone().requires_grad_()
        y = dorefa_activation(x, bits)
        (y * case["g_x"]).sum().backward()
        out[f"activation {bits}"], out[f"activation {bits} gradient"] = y.detach(), x.grad
        x, clip = case["x"].clone().requires_grad_(), case["clip"].clone().requires_grad_()
        y = Pact.apply(x, clip, bits)
        (y * case["g_x"]).sum().backward()
        out[f"pact {bits}"], out[f"pact {bits} gradient"] = y.detach(), x.grad
        out[f"pact {bits} clip"] = clip.grad
    torch.save(out, f"{folder}/quantizers.pt")


class Form:
    """How a network is quantized, and its shortcuts."""

    def __init__(self, weights=4, activations=4, method="dorefa", scaling="pretrained", shortcut="a", first=False, last=False):
        self.weights, self.activations, self.method, self.scaling = weights, activations, method, scaling
        self.shortcut, self.first, self.last = shortcut, first, last


FORMS = {  # those of resnet_test.cpp
    "w4a4": Form(),
    "w2a2-b-original": Form(2, 2, scaling="original", shortcut="b"),
    "w1a2-all": Form(1, 2, first=True, last=True),
    "pact-w8a4": Form(8, 4, "pact"),
    "pact-w2a2-b-last": Form(2, 2, "pact", "original", "b", last=True),
}


class Convolution(nn.Conv2d):
    def __init__(self, into, out, size, stride, form, bits):
        super().__init__(into, out, size, stride, size // 2, bias=False)
        self.form, self.bits = form, bits

    def forward(self, x):
        weight = dorefa_weight(self.weight, self.bits, self.form.scaling)
        return F.conv2d(x, weight, None, self.stride, self.padding)


class Activation(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = form
        if form.method == "pact":
            self.clip = nn.Parameter(torch.tensor(0.8))

    def forward(self, x):
        if self.form.method == "pact":
            return Pact.apply(x, self.clip, self.form.activations)
        return dorefa_activation(x, self.form.activations)  # whose clamp is the ReLU


class Block(nn.Module):
    def __init__(self, into, out, stride, form):
        super().__init__()
        self.conv1, self.bn1, self.act1 = Convolution(into, out, 3, stride, form, form.weights), nn.BatchNorm2d(out), Activation(form)
        self.conv2, self.bn2, self.act2 = Convolution(out, out, 3, 1, form, form.weights), nn.BatchNorm2d(out), Activation(form)
        if into != out and form.shortcut == "b":
            self.shortcut = nn.Sequential(Convolution(into, out, 1, stride, form, form.weights), nn.BatchNorm2d(out))
        self.padding = (out - into) // 2
        self.stride = stride

    def forward(self, x):
        y = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        if hasattr(self, "shortcut"):
            x = self.shortcut(x)
        else:
            x = F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return self.act2(y + x)


class Linear(nn.Linear):
    def __init__(self, into, out, form):
        super().__init__(into, out)
        self.form = form
        if form.last and form.method == "pact":
            self.clip = nn.Parameter(torch.tensor(0.8))

    def forward(self, x):
        if not self.form.last:
            return super().forward(x)
        x = Pact.apply(x, self.clip, self.form.activations) if self.form.method == "pact" else dorefa_activation(x, self.form.activations)
        return F.linear(x, dorefa_weight(self.weight, self.form.weights, self.form.scaling), self.bias)


class ResNet20(nn.Module):
    """Under the names of the common CIFAR repositories."""

    def __init__(self, form):
        super().__init__()
        self.conv1, self.bn1, self.act1 = Convolution(3, 16, 3, 1, form, form.weights if form.first else 32), nn.BatchNorm2d(16), Activation(form)
        for stage, width in enumerate((16, 32, 64)):
            into = width if stage == 0 else width // 2
            blocks = [Block(into if i == 0 else width, width, 2 if stage and i == 0 else 1, form) for i in range(3)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.linear = Linear(64, 10, form)

    def forward(self, x):
        x = self.act1(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def learnt(model, images, labels):
    """Its losses at steps of SGD, and its logits after them."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"losses": torch.tensor(losses, dtype=torch.double), "logits": model.eval()(images).detach()}


def networks(folder):
    for name, form in FORMS.items():
        torch.manual_seed(3)
        model = ResNet20(form).double()
        # Of few bits sums are whole numbers, of which many lie exactly on an edge: on the mean, without an offset, and
        # in the last layer, where as many as 4 x 4 of them are averaged. What is behind the last digit decides then.
        for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
            nn.init.uniform_(norm.bias, -0.2, 0.2)
        images, labels = torch.randn(8, 3, 20, 20).double(), torch.arange(8)
        torch.save(model.state_dict(), f"{folder}/{name}-before.pt")
        torch.save({"images": images, "labels": labels, **learnt(model, images, labels)}, f"{folder}/{name}.pt")
        torch.save(model.state_dict(), f"{folder}/{name}-after.pt")


def checkpoints(folder):
    torch.manual_seed(3)
    state = ResNet20(Form()).state_dict()
    torch.save({"state_dict": collections.OrderedDict(("module." + k, v) for k, v in state.items()),
                "epoch": 3, "best_prec1": 91.5}, f"{folder}/before.pt")
    torch.save(state, f"{folder}/legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(state, f"{folder}/legacy-5.pt", _use_new_zipfile_serialization=False, pickle_protocol=5)
    torch.save({"state_dict": state, "arguments": Namespace(lr=0.1)}, f"{folder}/objects.pt")
    lacking = {k: v for k, v in state.items() if k != "layer1.0.conv1.weight"}
    lacking["layer9.weight"] = torch.zeros(3)
    lacking["linear.bias"] = torch.zeros(7)
    torch.save(lacking, f"{folder}/lacking.pt")


def load(folder):
    from safetensors.torch import load_file

    ResNet20(Form()).load_state_dict({k.replace("fc.", "linear."): v for k, v in load_file(f"{folder}/ours.safetensors").items()})


def torchvision(folder):
    # Its wheel registers operators with a CUDA build of torch alone, and asks for their names.
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

    torch.manual_seed(5)
    model = torchvision.models.resnet50(num_classes=10)
    for name, buffer in model.named_buffers():  # statistics as of a trained model
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    for name, parameter in model.named_parameters():
        if ".bn3." in name and name.endswith("weight"):
            parameter.data.fill_(0.3)
    images = torch.randn(2, 3, 96, 96)
    torch.save(model.state_dict(), f"{folder}/resnet50.pt")
    with torch.no_grad():
        evaluated = model.eval()(images)
        trained = model.train()(images)
    torch.save({"images": images, "evaluated": evaluated, "trained": trained}, f"{folder}/logits.pt")


if __name__ == "__main__":
    commands = {f.__name__: f for f in (quantizers, networks, checkpoints, load, torchvision)}
    commands[sys.argv[1]](sys.argv[2])
