"""The PyTorch peer: one-layer convolutional DRAW as a competent PyTorch user would write it.

benchmarks.train_step compares with it (`--peer`). The script trains on random images and prints the
throughput of forward pass, backward pass and Adam. It needs torch, which is not in
requirements.txt.

  python benchmarks/torch_conv_draw.py --image 28 --channels 1 --features 32 --steps 8 --batch 32
  python benchmarks/torch_conv_draw.py --image 32 --channels 3 --features 320 --steps 32 \
      --batch 64 --device cuda --dtype bfloat16 --compile

The last line is JSON: {"images_per_second": ..., "gflops": ..., ...}.
"""
import argparse
import json
import math
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn


class ConvDraw(nn.Module):
  def __init__(self, channels, features, latents, kernel, steps, likelihood):
    super().__init__()
    self.channels, self.features, self.latents, self.steps = channels, features, latents, steps
    self.gaussian = likelihood == 'gaussian'
    canvas = channels * (2 if self.gaussian else 1)
    pad = kernel // 2
    down = dict(kernel_size=kernel, stride=2, padding=pad)
    same = dict(kernel_size=kernel, padding=pad)
    self.image_to_encoder = nn.Conv2d(channels, 4 * features, **down)
    self.error_to_encoder = nn.Conv2d(channels, 4 * features, bias=False, **down)
    self.hidden_to_encoder = nn.Conv2d(2 * features, 4 * features, bias=False, **same)
    self.posterior = nn.Conv2d(features, 2 * latents, **same)
    self.prior = nn.Conv2d(features, 2 * latents, **same)
    self.latent_to_decoder = nn.Conv2d(latents + features, 4 * features, **same)
    self.canvas_to_decoder = nn.Conv2d(canvas, 4 * features, bias=False, **down)
    self.write = nn.ConvTranspose2d(
        features, canvas, kernel, stride=2, padding=pad, output_padding=1)
    self.initial_canvas = nn.Parameter(torch.zeros(1, canvas, 1, 1))

  def mean(self, canvas):
    return canvas[:, :self.channels] if self.gaussian else torch.sigmoid(canvas)

  @staticmethod
  def lstm(gates, cell):
    i, f, o, u = gates.chunk(4, 1)
    cell = torch.sigmoid(f + 1.0) * cell + torch.sigmoid(i) * torch.tanh(u)
    return torch.sigmoid(o) * torch.tanh(cell), cell

  def forward(self, x):
    b, _, height, width = x.shape
    he = x.new_zeros(b, self.features, height // 2, width // 2)
    if x.is_contiguous(memory_format=torch.channels_last):
      he = he.contiguous(memory_format=torch.channels_last)
    ce = hd = cd = he
    canvas = self.initial_canvas.expand(b, -1, height, width)
    image_gates = self.image_to_encoder(x)
    kl = 0.0
    for _ in range(self.steps):
      gates = image_gates + self.error_to_encoder(x - self.mean(canvas))
      he, ce = self.lstm(gates + self.hidden_to_encoder(torch.cat([he, hd], 1)), ce)
      qm, qs = self.posterior(he).float().chunk(2, 1)
      pm, ps = self.prior(hd).float().chunk(2, 1)
      z = qm + qs.exp() * torch.randn_like(qm)
      kl = kl + (
          ps - qs + 0.5 * ((2 * (qs - ps)).exp() + (qm - pm)**2 * (-2 * ps).exp()) - 0.5
      ).sum((1, 2, 3))
      gates = self.canvas_to_decoder(canvas) + self.latent_to_decoder(
          torch.cat([z.to(hd.dtype), hd], 1))
      hd, cd = self.lstm(gates, cd)
      canvas = canvas + self.write(hd)
    canvas = canvas.float()
    if self.gaussian:
      mean, log_sigma = canvas.chunk(2, 1)
      s = 1 / 255
      nll = (-math.log(s) + log_sigma + 0.5 * math.log(2 * math.pi)
             + 0.5 * ((x - mean)**2 + s * s / 12) * (-2 * log_sigma).exp())
    else:
      nll = F.softplus(canvas) - x * canvas
    return (nll.sum((1, 2, 3)) + kl).mean()


def macs_per_image(a):
  h = (a.image // 2)**2 * a.kernel**2
  canvas = a.channels * (2 if a.likelihood == 'gaussian' else 1)
  f = a.features
  step = (a.channels * 4 * f + 2 * f * 4 * f + 2 * f * 2 * a.latents + (a.latents + f) * 4 * f
          + canvas * 4 * f + f * canvas)
  return h * (step * a.steps + a.channels * 4 * f)


def main():
  p = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  p.add_argument('--image', type=int, default=28)
  p.add_argument('--channels', type=int, default=1)
  p.add_argument('--features', type=int, default=32)
  p.add_argument('--latents', type=int, default=12)
  p.add_argument('--kernel', type=int, default=5)
  p.add_argument('--steps', type=int, default=8)
  p.add_argument('--batch', type=int, default=32)
  p.add_argument('--likelihood', choices=['bernoulli', 'gaussian'], default='gaussian')
  p.add_argument('--device', default='cpu')
  p.add_argument('--dtype', choices=['float32', 'bfloat16'], default='float32')
  p.add_argument('--channels_last', action='store_true')
  p.add_argument('--compile', action='store_true')
  p.add_argument('--repeats', type=int, default=5)
  a = p.parse_args()
  torch.manual_seed(0)
  if a.device == 'cuda':
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
  model = ConvDraw(a.channels, a.features, a.latents, a.kernel, a.steps, a.likelihood).to(a.device)
  x = torch.rand(a.batch, a.channels, a.image, a.image, device=a.device)
  if a.channels_last:
    model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
  optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
  loss_fn = torch.compile(model) if a.compile else model

  def train_step():
    with torch.autocast(a.device, torch.bfloat16, enabled=a.dtype == 'bfloat16'):
      loss = loss_fn(x)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss

  def timed():
    if a.device == 'cuda':
      torch.cuda.synchronize()
    start = time.perf_counter()
    loss = train_step()
    loss.item()
    if a.device == 'cuda':
      torch.cuda.synchronize()
    return time.perf_counter() - start

  first = timed()
  timed()
  seconds = statistics.median(timed() for _ in range(a.repeats))
  print(json.dumps({
      'images_per_second': round(a.batch / seconds, 3), 'step_ms': round(1e3 * seconds, 2),
      'gflops': round(6 * macs_per_image(a) * a.batch / seconds / 1e9, 1),
      'first_step_s': round(first, 2), 'torch': torch.__version__, 'device': a.device,
      'dtype': a.dtype, 'compile': a.compile}))


if __name__ == '__main__':
  main()
