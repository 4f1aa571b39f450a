import pytest

from conv_draw.errors import reason, remedy, said


@pytest.mark.parametrize('error, text', [
    (OSError(28, 'No space left on device', '/x'), 'No space left on device'),
    (ValueError("flag --a=b: ('Non-boolean argument to boolean flag', 'b')"),
     'flag --a=b: give true or false'),
    (KeyError("it's"), "it's"), (ValueError(), 'ValueError'),
    (AttributeError('\'Key "a" is not\\nthere\''), 'Key "a" is not'),
    (ValueError("NOT_FOUND: x [source locations='a.cc:1\\nb.cc:2']"), 'NOT_FOUND: x'),
    (RuntimeError('first\nTraceback (most recent call last):\n'), 'first')])
def test_a_reason_is_one_plain_line(error, text):
  assert reason(error) == text


def test_lists_of_valid_names_are_left_out():
  assert said(ValueError('no a. Other fields present: "{\'b\': 1}"\nDid you mean "b"?')) == (
      'no a.\nDid you mean "b"?')


@pytest.mark.parametrize('error, text', [
    (OSError(28, 'No space left on device', '/x'), 'make space'),
    (PermissionError(13, 'Permission denied'), 'mend its permissions'),
    (ValueError('DATA_LOSS: Error writing "x": Too many open files [OS error 24: EMFILE]'),
     'allow more open files (ulimit -n)'),
    (OSError(5, 'Input/output error'), 'check the disk')])
def test_a_remedy_fits_the_error(error, text):
  assert remedy(error, 'check the disk') == text
