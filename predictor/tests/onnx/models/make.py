"""Trains and exports the networks beside this file, as someone who brings one would.

    pip install torch onnx onnxscript numpy
    python make.py

Each sees 168 hours and tells the next 24 of a series that no season of a day or a week explains: three
pulses that come back after 29, 37 and 43 hours, each with a phase of its own. `answers.json` holds what
PyTorch says of one such series, so that the reader can be held to it.
"""

import json
from pathlib import Path

import onnx
import torch
from torch import nn

HERE = Path(__file__).parent
STEPS, AHEAD = 168, 24
PERIODS = (29, 37, 43)


def series(count, length):
    """Demand by hour in units of its mean, one row per series."""
    hours = torch.arange(length)
    values = torch.full((count, length), 0.6)
    for period in PERIODS:
        phase = torch.randint(0, period, (count, 1))
        values += 1.2 * (((hours + phase) % period) < 4)
    return values / values.mean(dim=1, keepdim=True)


class Lstm(nn.Module):
    """Reads days of 24 hours, one after the other."""

    def __init__(self, hidden=48):
        super().__init__()
        self.lstm = nn.LSTM(AHEAD, hidden, batch_first=True)
        self.head = nn.Linear(hidden + STEPS, AHEAD)

    def forward(self, past):
        seen, _ = self.lstm(past.reshape(-1, STEPS // AHEAD, AHEAD))
        return self.head(torch.cat([seen[:, -1], past], dim=1))


class Transformer(nn.Module):
    """One layer of attention among days."""

    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Linear(AHEAD, width)
        self.place = nn.Parameter(torch.zeros(1, STEPS // AHEAD, width))
        self.layer = nn.TransformerEncoderLayer(
            width, 4, dim_feedforward=64, dropout=0.0, batch_first=True
        )
        self.head = nn.Linear(STEPS // AHEAD * width + STEPS, AHEAD)

    def forward(self, past):
        days = self.embed(past.reshape(-1, STEPS // AHEAD, AHEAD)) + self.place
        return self.head(torch.cat([self.layer(days).flatten(1), past], dim=1))


def train(model, rounds):
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=rounds)
    for _ in range(rounds):
        batch = series(128, STEPS + AHEAD)
        loss = nn.functional.mse_loss(model(batch[:, :STEPS]), batch[:, STEPS:])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        pace.step()
    return loss.item() ** 0.5


def forget_sources(file):
    """Takes out where each operator stood in the source: most of the file, and of nobody's use."""
    model = onnx.load(file)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info,
                 *model.graph.input, *model.graph.output, *model.graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    onnx.save(model, file)


def main():
    torch.manual_seed(7)
    torch.set_num_threads(1)
    shown = series(1, STEPS)
    answers = {"past": shown[0].tolist()}
    for name, model in (("lstm", Lstm()), ("transformer", Transformer())):
        print(name, "root of the mean square error", round(train(model, 4000), 4))
        model.eval()
        # One file: weights beside it, as newer exporters write them unless told not to, are not read.
        program = torch.onnx.export(
            model, (torch.ones(1, STEPS),), input_names=["past"], output_names=["ahead"]
        )
        program.save(HERE / f"{name}.onnx", external_data=False)
        forget_sources(HERE / f"{name}.onnx")
        answers[name] = model(shown)[0].tolist()
    (HERE / "answers.json").write_text(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()
