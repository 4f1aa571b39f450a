"""The page about runs."""

import html
import json
import shutil

import pytest

from conv_draw.report import modes, page
from conv_draw.workdir import config as config_lib
from experiments import digits
from tests.tiny import tiny


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  workdir = str(tmp_path_factory.mktemp('page') / 'digits')
  modes.run('train', tiny(digits.get_config()), workdir)
  return workdir


def test_page_of_a_run_is_complete(trained, capsys):
  modes.run('report', config_lib.load(trained), trained)
  path = f'{trained}/figures/report.html'
  assert capsys.readouterr().out == f'wrote {path}\n'
  with open(path) as f:
    text = f.read()
  assert text.count('class="curves"') == 2 and text.count('class="slider"') == 1
  assert '0 of 3 groups, 0.000 bits/dim, ' in text
  for words in ('Conv DRAW', 'parameters', 'Samples', 'Training', '3 of 3 groups',
                'the others at the prior&#x27;s means', 'layer 1'):
    assert words in text, words
  assert text.count('multivariate Gaussian') == 1
  assert len(text) < 3e6


def test_page_of_a_run_without_evaluation_has_the_rest(trained, tmp_path):
  workdir = str(tmp_path / 'unfinished')
  shutil.copytree(trained, workdir)
  with open(f'{workdir}/metrics.jsonl') as f:
    lines = [line for line in f if json.loads(line).get('split') != 'test']
  with open(f'{workdir}/metrics.jsonl', 'w') as f:
    f.writelines(lines)
  run = modes._with_data(config_lib.load(workdir), workdir)
  text = page.of_runs([run])
  assert f'{workdir} has no test likelihood' in text and '--mode=evaluate' in text
  assert 'Training' in text and 'Samples' in text and f'<td>{run[0].step:,}</td>' in text
  assert 'Comparison' not in page.of_runs([run] * 2)


def test_page_of_several_runs_has_table_1_and_names_missing_data(trained):
  config = config_lib.load(trained)
  runs = [modes._with_data(config, trained)]
  config.data.update(name='folder', data_dir='/nowhere')
  runs.append(modes._with_data(config, trained))
  assert runs[0][1] is None and '/nowhere' in runs[1][1]
  text = page.of_runs(runs)
  assert 'Comparison' in text and 'importance weighted' in text
  assert text.count('class="slider"') == 1
  assert f'there are no reconstructions: {html.escape(runs[1][1])}' in text
