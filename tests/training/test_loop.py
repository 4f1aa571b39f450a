import contextlib
import dataclasses
import functools
import json
import os

import jax
import numpy as np
import pytest

from conv_draw.data import sets
from conv_draw.errors import Preempted, UserError
from conv_draw.machine import preemption
from conv_draw.report import table
from conv_draw.training import evaluate, loop, steps
from conv_draw.workdir import config as config_lib
from tests.program import restored, saved
from tests.tiny import local


def lines(workdir, **having):
  """The lines of metrics.jsonl that have these values."""
  with open(os.path.join(workdir, 'metrics.jsonl')) as f:
    return [line for line in map(json.loads, f) if having.items() <= line.items()]


def at(workdir, **having):
  return [line['step'] for line in lines(workdir, **having)]


def hooked(config, hook):
  """A `load` whose training batches pass through `hook(number of the call, images)`."""
  calls = []

  def load(split):
    images = sets.load(config.data, split)
    if split == 'test':
      return images

    def fetch(indices):
      calls.append(indices)
      return hook(len(calls) - 1, images.fetch(indices))

    return dataclasses.replace(images, fetch=fetch)

  return load


def die_at_10(call, images):
  if call == 10:
    raise KeyboardInterrupt
  return images


def assert_same_bits(one, two):
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.fixture
def workdir(tmp_path):
  return str(tmp_path / 'run')


@pytest.mark.parametrize('kind', ['draw', 'local'])
def test_a_resumed_run_is_the_uninterrupted_one(config, tmp_path, kind):
  config.train.ema_decay = 0.9
  if kind == 'local':
    local(config).model.steps = 0  # local pixels without a canvas
    config.data.flips = True
  whole, cut = str(tmp_path / 'whole'), str(tmp_path / 'cut')
  run = loop.train(config, whole)
  with pytest.raises(KeyboardInterrupt):
    loop.train(config, cut, load=hooked(config, die_at_10))
  resumed = loop.train(config, cut)
  assert at(cut, event='resume') == [8] and run.step == resumed.step == 12
  assert_same_bits(run.params, resumed.params)
  assert saved(whole) == saved(cut)
  if kind == 'local':
    result = evaluate.evaluate(resumed)
    assert result.kl_nats.shape == (0, 1) and result.nats == result.reconstruction_nats
    assert 'Local autoregressive' in table.describe(config)


def test_a_finished_run_does_nothing_and_can_be_prolonged(config, workdir):
  config.train.steps = 4
  done, before = loop.train(config, workdir), saved(workdir, 4)
  again = loop.train(config, workdir)
  assert done.step == again.step == 4 and saved(workdir, 4) == before
  assert_same_bits(done.params, again.params)
  config.train.update(steps=8, learning_rate=1e-3)
  assert loop.train(config, workdir).step == 8
  assert config_lib.load(workdir).train.steps == 8
  assert [(line['step'], line['changed']) for line in lines(workdir, event='start')] == [
      (0, {}), (4, {}), (4, {'train.steps': [4, 8], 'train.learning_rate': [2e-3, 1e-3]})]


def test_metrics_of_a_run(config, workdir):
  config.train.update(steps=7, checkpoint_every=4, evaluate_every=3)
  run = loop.train(config, workdir)
  assert at(workdir, split='train') == [2, 4, 6, 7] and at(workdir, split='test') == [3, 6]
  for line in lines(workdir, split='train')[1:]:
    assert line['nats'] == pytest.approx(line['reconstruction_nats'] + line['kl_nats'], rel=1e-4)
    assert line['bits_per_dim'] == pytest.approx(line['nats'] / 64 / np.log(2))
    assert line['images_per_second'] > 0 and line['seconds'] > 0
  (start,) = lines(workdir, event='start')
  assert start['parameters'] == sum(x.size for x in jax.tree.leaves(run.params))
  assert start['devices'] == 8 and start['device_kind'] == 'cpu' and 'digits' in start['data']
  assert any(name.startswith('events.out.tfevents') for name in os.listdir(workdir))
  assert '24 of 300 images' in table.markdown([workdir])


def traced(monkeypatch, name):
  """A list that grows each time a step is traced, and then compiled."""
  found, step = [], getattr(steps, name)

  def traced_step(*arguments, **settings):
    found.append(name)
    return step(*arguments, **settings)

  monkeypatch.setattr(steps, name, traced_step)
  return found


def test_an_injected_spike_is_reverted_and_training_continues(config, tmp_path, monkeypatch):
  config.train.update(
      steps=60, batch_size=16, checkpoint_every=5, learning_rate=3e-3, evaluate_every=25)
  healthy, spiked, seen = str(tmp_path / 'healthy'), str(tmp_path / 'spiked'), []

  def spike(call, images):
    seen.append(images.copy())
    return np.full_like(images, 255) if call == 33 else images

  loop.train(config, healthy)
  updates, evaluations = traced(monkeypatch, 'train_step'), traced(monkeypatch, 'eval_step')
  evaluate._score.cache_clear()
  run = loop.train(config, spiked, load=hooked(config, spike))
  assert len(updates) == len(evaluations) == 1  # a revert compiles nothing again
  (event,) = lines(spiked, event='revert')
  assert event['step'] == 33
  assert event['to_step'] == 30  # three healthy losses later, as config.spikes.trust_after asks
  # Call 34 was the prefetch of step 34; call 35 is step 30 again, with other images.
  assert not (seen[35] == seen[30]).all()
  assert run.step == 60 and restored(spiked, 60)['reverts'] == 1
  first, *_, last = lines(spiked, split='train')
  assert last['nats'] == pytest.approx(lines(healthy, split='train')[-1]['nats'], rel=0.1)
  assert last['nats'] < 0.9 * first['nats']


def test_a_run_that_diverged_can_be_continued(config, workdir):
  """It ends soon after a checkpoint that nothing has validated, which must not stay."""
  config.train.update(steps=60, batch_size=16, checkpoint_every=5)
  config.spikes.update(max_reverts=1, trust_after=4)

  def broken(call, images):  # step 37; after one prefetch and six steps from 30 again, 36 and on
    return np.full_like(images, 255) if call == 37 or call >= 45 else images

  with pytest.raises(UserError, match='diverges: 1 reverts'):
    loop.train(config, workdir, load=hooked(config, broken))
  assert at(workdir, event='revert') == [37]
  assert max(int(step) for step in os.listdir(f'{workdir}/checkpoints')) == 30

  def once(call, images):
    return np.full_like(images, 255) if call == 6 else images  # step 36 again

  assert loop.train(config, workdir, load=hooked(config, once)).step == 60


def test_the_decoder_is_trained_on_from_another_run(config, tmp_path):
  config.model.posterior = 'constant'
  config.train.update(steps=4, ema_decay=0.5)
  first = loop.train(config, str(tmp_path / 'first'))
  assert_same_bits(first.params, restored(first.workdir, 4)['ema_params'])
  config.train.update(start_from=str(tmp_path / 'first'), part='decoder')
  second = loop.train(config, str(tmp_path / 'second'))
  for name, value in restored(second.workdir, 4)['params']['params'].items():
    same = jax.tree.all(jax.tree.map(np.array_equal, value, first.params['params'][name]))
    assert same == name.startswith(('encoder', 'posterior')), name
  config.model.features = 5
  with pytest.raises(UserError, match='start_from'):
    loop.train(config, str(tmp_path / 'third'))
  assert not (tmp_path / 'third' / 'config.json').exists()  # another run can start there


def test_local_pixels_start_from_a_trained_draw(config, tmp_path):
  config.train.update(steps=4, ema_decay=0.5)
  first = loop.train(config, str(tmp_path / 'first'))
  local(config)
  config.train.update(start_from=str(tmp_path / 'first'), part='head', optimizer='muon')
  second = loop.train(config, str(tmp_path / 'second'))
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)  # it was averaged
  jax.tree.map(close, second.params['params']['draw'], first.params['params'])
  # A model that has a head starts with that one too.
  config.train.update(start_from=second.workdir, part='all', learning_rate=0.0)
  same = loop.train(config, str(tmp_path / 'third'))
  jax.tree.map(close, same.params, second.params)


def test_more_iterations_start_with_the_same_canvas_in_smaller_increments(config, tmp_path):
  config.train.update(steps=2, learning_rate=0.1)
  first = loop.train(config, str(tmp_path / 'first')).params['params']
  config.model.steps *= 2
  config.train.update(start_from=str(tmp_path / 'first'), learning_rate=0.0)
  second = loop.train(config, str(tmp_path / 'second')).params['params']
  for name, value in second.items():
    np.testing.assert_allclose(value, first[name] * (0.5 if name == 'write' else 1), rtol=1e-6)


@pytest.mark.parametrize('when', ['evaluating', 'done'])
def test_sigterm_is_answered_wherever_the_loop_is(config, workdir, monkeypatch, when):
  config.train.update(steps=6, checkpoint_every=4, evaluate_every=3)
  whole = loop.train(config, f'{workdir}_whole')
  told, asked = [], []

  @contextlib.contextmanager
  def noted():
    yield lambda step: asked.append(step) or bool(told) or when == 'done' and asked.count(6) > 1

  scored = evaluate.evaluate

  def evaluating(*arguments, **named):
    told.append(when == 'evaluating')
    return scored(*arguments, **named)

  with monkeypatch.context() as patched:
    patched.setattr(preemption, 'noted', noted)
    if when == 'evaluating':
      patched.setattr(loop.evaluate, 'evaluate', evaluating)
    with pytest.raises(Preempted, match='saved at step'):
      loop.train(config, workdir)
  step = {'evaluating': 3, 'done': 6}[when]
  assert at(workdir, event='preempted') == [step]
  assert str(step) in os.listdir(f'{workdir}/checkpoints')
  assert when == 'done' or not lines(workdir, split='test')
  assert_same_bits(whole.params, loop.train(config, workdir).params)
  assert saved(workdir, 6) == saved(whole.workdir, 6)
