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


def lines(workdir):
  with open(os.path.join(workdir, 'metrics.jsonl')) as f:
    return [json.loads(line) for line in f]


def hooked(config, hook):
  """What `train` loads, but training images pass through `hook(number of the call, images)`."""
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


def test_resumed_run_is_the_uninterrupted_one(config, tmp_path):
  config.train.ema_decay = 0.9
  whole = loop.train(config, str(tmp_path / 'whole'))

  with pytest.raises(KeyboardInterrupt):
    loop.train(config, str(tmp_path / 'cut'), load=hooked(config, die_at_10))
  resumed = loop.train(config, str(tmp_path / 'cut'))
  assert [line['step'] for line in lines(tmp_path / 'cut') if line.get('event') == 'resume'] == [8]
  assert whole.step == resumed.step == 12
  assert_same_bits(whole.params, resumed.params)
  assert saved(tmp_path / 'whole') == saved(tmp_path / 'cut')


def test_finished_run_does_nothing_and_can_be_prolonged(config, workdir):
  config.train.steps = 4
  done, before = loop.train(config, workdir), saved(workdir, 4)
  again = loop.train(config, workdir)
  assert done.step == again.step == 4 and saved(workdir, 4) == before
  assert_same_bits(done.params, again.params)
  config.train.update(steps=8, learning_rate=1e-3)
  assert loop.train(config, workdir).step == 8
  assert config_lib.load(workdir).train.steps == 8
  starts = [line for line in lines(workdir) if line.get('event') == 'start']
  assert [(line['step'], line['changed']) for line in starts] == [
      (0, {}), (4, {}), (4, {'train.steps': [4, 8], 'train.learning_rate': [2e-3, 1e-3]})]


def test_metrics_of_a_run(config, workdir):
  loop.train(config, workdir)
  logged = [line for line in lines(workdir) if line.get('split') == 'train']
  assert [line['step'] for line in logged] == [2, 4, 6, 8, 10, 12]
  for line in logged[1:]:
    assert line['nats'] == pytest.approx(line['reconstruction_nats'] + line['kl_nats'], rel=1e-4)
    assert line['bits_per_dim'] == pytest.approx(line['nats'] / 64 / np.log(2))
    assert line['images_per_second'] > 0
  assert any(name.startswith('events.out.tfevents') for name in os.listdir(workdir))


def test_last_interval_is_logged_and_evaluations_fall_in_between(config, workdir):
  config.train.update(steps=7, log_every=5, checkpoint_every=4, evaluate_every=3)
  loop.train(config, workdir)
  logged = lines(workdir)
  at = lambda split: [line['step'] for line in logged if line.get('split') == split]
  assert at('train') == [5, 7] and at('test') == [3, 6]
  # What training evaluates on its way can be put into a table.
  assert '24 of 300 images' in table.markdown([workdir])


def traced(monkeypatch, name):
  """A list that becomes longer each time that a step is traced, and then compiled."""
  found, step = [], getattr(steps, name)

  def traced_step(*arguments, **settings):
    found.append(name)
    return step(*arguments, **settings)

  monkeypatch.setattr(steps, name, traced_step)
  return found


def test_injected_spike_is_reverted_and_training_goes_on(config, tmp_path, monkeypatch):
  config.train.update(
      steps=60, batch_size=16, checkpoint_every=5, learning_rate=3e-3, evaluate_every=25)

  def spike(call, images):
    return np.full_like(images, 255) if call == 33 else images

  healthy = str(tmp_path / 'healthy')
  loop.train(config, healthy)
  spiked = str(tmp_path / 'spiked')
  updates, evaluations = traced(monkeypatch, 'train_step'), traced(monkeypatch, 'eval_step')
  evaluate._score.cache_clear()
  run = loop.train(config, spiked, load=hooked(config, spike))
  assert len(updates) == len(evaluations) == 1  # and the step goes on as it was after a revert
  (event,) = [line for line in lines(spiked) if line.get('event') == 'revert']
  assert event['step'] == 33
  assert event['to_step'] == 30  # three healthy losses since, which config.spikes.trust_after asks
  assert run.step == 60 and restored(spiked, 60)['reverts'] == 1
  trained = lambda workdir: [line for line in lines(workdir) if line.get('split') == 'train']
  assert trained(spiked)[-1]['nats'] == pytest.approx(trained(healthy)[-1]['nats'], rel=0.1)
  assert trained(spiked)[-1]['nats'] < 0.9 * trained(spiked)[0]['nats']


def test_decoder_is_trained_on_from_another_run(config, tmp_path):
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
  assert not (tmp_path / 'third' / 'config.json').exists()  # nothing stands in the way of another


def test_runs_say_what_they_run_on(config, workdir):
  run = loop.train(config, workdir)
  (start,) = [line for line in lines(workdir) if line.get('event') == 'start']
  assert start['parameters'] == sum(x.size for x in jax.tree.leaves(run.params))
  assert start['devices'] == 8 and start['device_kind'] == 'cpu' and 'digits' in start['data']
  assert all(
      line['seconds'] > 0 for line in lines(workdir) if line.get('split') == 'train')


def test_data_moves_on_after_a_revert(config, workdir):
  config.train.update(steps=40, batch_size=16, checkpoint_every=5)
  seen = []

  def record(call, images):
    seen.append(images.copy())
    return np.full_like(images, 255) if call == 33 else images

  loop.train(config, workdir, load=hooked(config, record))
  # Call 34 was the prefetch of step 34; call 35 is step 30 again, with other images.
  assert not (seen[35] == seen[30]).all()


def test_endless_spikes_end_the_run_with_a_named_error(config, workdir):
  config.train.update(steps=60, batch_size=16, checkpoint_every=5)
  config.spikes.max_reverts = 2

  def broken(call, images):
    return np.full_like(images, 255) if call >= 30 else images

  with pytest.raises(UserError, match='diverges: 2 reverts'):
    loop.train(config, workdir, load=hooked(config, broken))
  assert len([line for line in lines(workdir) if line.get('event') == 'revert']) == 2


def test_workdir_of_another_config_is_refused_untouched(config, workdir):
  config.train.steps = 4
  loop.train(config, workdir)
  before = config_lib.load(workdir)
  config.model.features = 5
  with pytest.raises(UserError, match='model.features was 4, is 5'):
    loop.train(config, workdir)
  assert config_lib.load(workdir) == before


def test_what_diverged_can_be_continued(config, workdir):
  """The run ends soon after a checkpoint that nothing has shown to be sound: it must not stay."""
  config.train.update(steps=60, batch_size=16, checkpoint_every=5)
  config.spikes.update(max_reverts=1, trust_after=4)

  def broken(call, images):  # step 37; after one prefetch and six steps from 30 again, 36 and on
    return np.full_like(images, 255) if call == 37 or call >= 45 else images

  with pytest.raises(UserError, match='diverges: 1 reverts'):
    loop.train(config, workdir, load=hooked(config, broken))
  assert max(int(step) for step in os.listdir(f'{workdir}/checkpoints')) == 30

  def once(call, images):
    return np.full_like(images, 255) if call == 6 else images  # step 36 again

  assert loop.train(config, workdir, load=hooked(config, once)).step == 60


@pytest.mark.parametrize('when', ['evaluating', 'done'])
def test_sigterm_is_heeded_wherever_the_loop_is(config, workdir, monkeypatch, when):
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
  at = {'evaluating': 3, 'done': 6}[when]
  assert [line['step'] for line in lines(workdir) if line.get('event') == 'preempted'] == [at]
  assert str(at) in os.listdir(f'{workdir}/checkpoints')
  assert not [line for line in lines(workdir) if line.get('split') == 'test' and when != 'done']
  assert_same_bits(whole.params, loop.train(config, workdir).params)
  assert saved(workdir, 6) == saved(whole.workdir, 6)


def test_local_pixels_begin_beside_a_trained_draw(config, tmp_path):
  config.train.update(steps=4, ema_decay=0.5)
  first = loop.train(config, str(tmp_path / 'first'))
  local(config)
  config.train.update(start_from=str(tmp_path / 'first'), part='head', optimizer='muon')
  second = loop.train(config, str(tmp_path / 'second'))
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)  # it was averaged
  jax.tree.map(close, second.params['params']['draw'], first.params['params'])
  # What has a head already begins with that one too.
  config.train.update(start_from=second.workdir, part='all', learning_rate=0.0)
  same = loop.train(config, str(tmp_path / 'third'))
  jax.tree.map(close, same.params, second.params)


def test_local_pixels_alone_resume_as_if_uninterrupted(config, tmp_path):
  local(config).model.steps = 0
  config.data.flips = True
  whole = loop.train(config, str(tmp_path / 'whole'))

  with pytest.raises(KeyboardInterrupt):
    loop.train(config, str(tmp_path / 'again'), hooked(config, die_at_10))
  again = loop.train(config, str(tmp_path / 'again'))
  assert_same_bits(whole.params, again.params)
  result = evaluate.evaluate(again)
  assert result.kl_nats.shape == (0, 1) and result.nats == result.reconstruction_nats
  assert 'Local autoregressive' in table.describe(config)
