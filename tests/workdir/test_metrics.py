import json
import math

from conv_draw.workdir import metrics


def test_lines_come_back_even_after_a_kill_and_with_non_finite_numbers(tmp_path):
  log = metrics.Metrics(str(tmp_path))
  log.write(3, 'train', {'nats': 2, 'loss': math.nan}, data='digits')
  log.close()
  path = tmp_path / metrics.FILE
  with open(path, 'a') as f:
    f.write('{"step": 4, "spl')  # killed
  log = metrics.Metrics(str(tmp_path))
  log.event(5, 'revert', loss=-math.inf, losses=[math.inf])
  log.close()
  train, revert = metrics.read(str(tmp_path))
  assert math.isnan(train.pop('loss'))
  assert train == {'step': 3, 'split': 'train', 'nats': 2.0, 'data': 'digits'}
  assert revert == {'step': 5, 'event': 'revert', 'loss': -math.inf, 'losses': ['inf']}
  valid = [line for line in path.read_text().splitlines() if line.endswith('}')]
  assert len([json.loads(line, parse_constant=lambda name: 1 / 0) for line in valid]) == 2
  metrics.Metrics(str(tmp_path / 'nowhere'), on=False).write(0, 'train', {'nats': 1})
  assert not (tmp_path / 'nowhere').exists()
