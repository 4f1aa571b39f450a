"""Shares of the time of a compiled step by kind of instruction.

XLA's profiler names the instruction of each event; the text of the compiled program has the opcodes
of the instruction and of those that are fused in it.
"""

import glob
import os
import re
import tempfile
import time

import jax

# The instructions inside containers have events of their own.
CONTAINERS = {'while', 'call', 'conditional', 'async-start', 'async-done'}
# The kind of an instruction is the first that it, or an instruction fused in it, belongs to.
KINDS = (
    ('products', {'convolution', 'dot', 'custom-call'}),
    ('noise', {'erf', 'shift-left', 'shift-right-logical', 'xor', 'rng-bit-generator'}),
    ('all_reduce', {'all-reduce', 'all-reduce-start', 'all-reduce-done'}),
    ('optimiser', {'sqrt', 'rsqrt'}),
    ('gates_and_costs', {'tanh', 'logistic', 'exponential', 'log', 'power', 'divide'}),
    ('sums', {'reduce', 'reduce-window', 'scatter'}),
    ('by_element', {'add', 'subtract', 'multiply', 'maximum', 'minimum', 'clamp'}),
)
REST = 'copies'  # transposes, slices, conversions
# Kernels of libraries, which have no instruction's name.
LIBRARIES = re.compile('gemm|conv|cudnn|cutlass|xmma|wgrad|dgrad|wmma', re.IGNORECASE)
UNKNOWN = 'unknown'

_COMPUTATION = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) \(.*\{$')
_INSTRUCTION = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = .*? ([a-z][a-z\-]*)\(')
_CALLS = re.compile(r'calls=%?([\w.\-]+)')


def kinds(program):
  """{instruction: kind} from the text of a compiled program; the kind of containers is None."""
  computations, instructions = {}, {}
  for line in program.splitlines():
    if found := _COMPUTATION.match(line):
      opcodes = computations.setdefault(found[1], [])
    elif found := _INSTRUCTION.match(line):
      calls = _CALLS.search(line)
      opcodes.append((found[2], calls and calls[1]))
      instructions[found[1]] = opcodes[-1]

  def all_in(opcode, calls):
    yield opcode
    for inner in computations.get(calls, ()):
      yield from all_in(*inner)

  def kind(opcode, calls):
    if opcode in CONTAINERS:
      return None
    found = set(all_in(opcode, calls))
    return next((name for name, some in KINDS if found & some), REST)

  return {name: kind(*instruction) for name, instruction in instructions.items()}


def measure(step, call, repeats=3):
  """{kind: its share of the busy time of the devices}, and under 'busy' the share of all time.

  Args:
    step: the compiled function.
    call: runs it once and waits for the result.
    repeats: number of traced calls.
  """
  call()
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      began = time.perf_counter()
      for _ in range(repeats):
        call()
      seconds = time.perf_counter() - began
    path, = glob.glob(os.path.join(folder, '**', '*.xplane.pb'), recursive=True)
    events = list(_events(jax.profiler.ProfileData.from_file(path)))
  of, sums = kinds(step.as_text()), {}
  for name, nanoseconds in events:
    kind = of[name] if name in of else 'products' if LIBRARIES.search(name) else UNKNOWN
    if kind is not None:
      sums[kind] = sums.get(kind, 0) + nanoseconds
  total = sum(sums.values())
  busy = 1e-9 * total / (seconds * jax.local_device_count())
  return {'busy': round(busy, 4)} | {
      kind: round(part / total, 4)
      for kind, part in sorted(sums.items(), key=lambda item: -item[1])}


def _events(profile):
  """Yields (instruction or library kernel, nanoseconds) of the events on the devices."""
  planes = list(profile.planes)
  of_device = [plane for plane in planes if plane.name.startswith('/device:')]
  for plane in of_device or planes:
    for line in plane.lines:
      for event in line.events:
        name = dict(event.stats).get('hlo_op')
        if name is None and of_device and line.name.startswith('Stream'):
          name = event.name
        if name is not None:
          yield name, event.duration_ns
