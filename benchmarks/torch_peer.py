"""PyTorch eager on the CPU, as a process that is asked over its standard input; needs torch and nothing of ours.

Reads lines "MODEL MODE STEPS" (resnet20 or cnn; train or infer), does that many batches, answers when done.
Arguments: threads, batch size.
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two 3x3 convolutions with option A's shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x):
        """[B, inputs, H, W] -> [B, outputs, H / stride, W / stride]."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
        return F.relu(y + x)


def resnet20():
    """The reference's client model."""
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for outputs in (16, 32, 64):
        for index in range(3):
            layers.append(Block(inputs, outputs, 2 if index == 0 and outputs > 16 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def cnn():
    """Our small CNN, on the same 32x32 images."""
    layers, inputs = [], 3
    for outputs in (16, 32):
        layers += [nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        inputs = outputs
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 8 * 8, 10))


def main():
    """Answer until the input ends."""
    threads, batch = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    x = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))
    models = {"resnet20": resnet20(), "cnn": cnn()}
    models = {name: model.to(memory_format=torch.channels_last) for name, model in models.items()}
    optimizers = {name: torch.optim.SGD(model.parameters(), lr=1e-3) for name, model in models.items()}
    print(f"torch {torch.__version__}", flush=True)
    for line in sys.stdin:
        name, mode, steps = line.split()
        model, optimizer = models[name].train(mode == "train"), optimizers[name]
        for _ in range(int(steps)):
            if mode == "train":
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(model(x), labels).backward()
                optimizer.step()
            else:
                with torch.inference_mode():
                    F.softmax(model(x), -1)
        print("done", flush=True)


if __name__ == "__main__":
    main()
